from __future__ import annotations

from typing import get_args

import pytest

from flowgmm_cli.mixture.means import STARTS
from flowgmm_cli.mixture.specs import GMMConfig


def test_every_name_of_a_start_has_a_function() -> None:
    assert set(STARTS) == set(get_args(GMMConfig.model_fields["means"].annotation))


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
    ],
)
def test_what_makes_no_sense_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GMMConfig.model_validate(config)


def test_every_parameter_is_described() -> None:
    assert all(field.description for field in GMMConfig.model_fields.values())
