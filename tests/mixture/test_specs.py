from __future__ import annotations

from typing import get_args

import pytest

from flowgmm_cli.mixture.init import INITIALISERS
from flowgmm_cli.mixture.specs import GMMConfig


def test_every_value_of_means_has_an_initialiser() -> None:
    assert set(INITIALISERS) == set(get_args(GMMConfig.model_fields["means"].annotation))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"learn_rest": True}, "learn_rest needs `dims`"),
        ({"class_prior": "estimated", "learn_weights": True}, "learn_weights must be false"),
        ({"components": 0}, "greater than or equal to 1"),
        ({"dims": 0}, "greater than or equal to 1"),
        ({"warm_up_epochs": 0.0}, "greater than 0"),
        ({"means": "circle"}, "label_spreading"),
        ({"means": "given"}, "needs `points`"),
        ({"points": [[0.0]]}, "needs means: given"),
        ({"class_prior": "given"}, "needs `weights`"),
        ({"weights": [1.0]}, "needs class_prior: given"),
        ({"class_prior": "given", "weights": [1.0, 0.0]}, "above 0"),
        ({"class_prior": "given", "weights": [1.0, float("nan")]}, "finite"),
    ],
)
def test_inconsistent_parameters_are_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GMMConfig.model_validate(config)
