from __future__ import annotations

import numpy as np

from flowgmm_cli.api import Config
from flowgmm_cli.baselines.classifiers import MLP


def test_the_penalty_of_a_network_does_not_undo_its_fit_where_few_rows_are_left_over() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 4
    means = rng.normal(size=(4, 384)) * 0.15
    x = (means[labels] + rng.normal(size=(240, 384))).astype(np.float32)
    baseline = MLP(Config(), classes=4, seed=0)
    baseline.fit(x, labels, {"alpha": 100.0})
    assert (baseline.predict_proba(x).argmax(1) == labels).mean() > 0.9
