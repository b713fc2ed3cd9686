from __future__ import annotations

from collections.abc import Callable

import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import DataError
from flowgmm_cli.inference.evaluate_run import evaluate_run
from flowgmm_cli.runs import Run
from flowgmm_cli.training.pipeline import TrainResult

TrainRun = Callable[..., tuple[Run, TrainResult]]
CONTEXT = DataContext()


def test_held_out_rows_score_if_their_labels_may_be_seen(train_run: TrainRun) -> None:
    run, _ = train_run("run", "data.split.val_labels=true", "calibration.method=none")
    found = evaluate_run(run, split="val", context=CONTEXT)
    assert found.classification.n == 20
    hidden, _ = train_run("hidden", "calibration.method=none")
    with pytest.raises(DataError, match="no labelled val rows"):
        evaluate_run(hidden, split="val", context=CONTEXT)


def test_baselines_are_scored_on_the_same_rows(train_run: TrainRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = train_run("run", "calibration.method=none")
    given: list[tuple[int, int, int]] = []

    def fake(x_train, labels, x_test, y_test, *, seed, progress, warn):  # type: ignore[no-untyped-def]
        given.append((len(x_train), int((labels >= 0).sum()), len(x_test)))
        assert len(y_test) == len(x_test)
        return {}

    monkeypatch.setattr("flowgmm_cli.inference.evaluate_run.run_baselines", fake)
    evaluate_run(run, split="test", context=CONTEXT, with_baselines=True)
    assert given == [(180, 12, 60)]
