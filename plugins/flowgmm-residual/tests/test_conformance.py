"""The flow through the conformance suite, in each way to find the log-determinant."""

from __future__ import annotations

from flowgmm_cli.testing import RecipesConformance
from flowgmm_residual import plugin
from flowgmm_residual.conformance import ResidualConformance


class TestResidual(ResidualConformance):
    spec = plugin.RESIDUAL


class TestResidualByEstimates(ResidualConformance):
    """In evaluation the series along fixed directions is no exact log-determinant."""

    spec = plugin.RESIDUAL
    config = {  # noqa: RUF012
        **ResidualConformance.config,
        "log_det": "estimate",
        "eval_terms": 10,
        "actnorm": False,
    }
    dims = (1, 3)
    skip = {  # noqa: RUF012
        "test_log_det_is_that_of_the_jacobian": "compared as a mean over many keys in test_log_det.py",
        "test_start_from_data": "there is no actnorm",
    }


class TestRecipes(RecipesConformance):
    package = "flowgmm-residual"
    trainings = {"flowgmm-residual/two_circles_residual": []}  # noqa: RUF012
