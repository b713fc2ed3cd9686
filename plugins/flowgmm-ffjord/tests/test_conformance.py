"""Flow and regulariser through the conformance suites; the flow also with equal steps and by the adjoint."""

from __future__ import annotations

from flowgmm_cli.testing import RecipesConformance
from flowgmm_ffjord import plugin
from flowgmm_ffjord.conformance import FfjordConformance, RnodeConformance


class TestFfjord(FfjordConformance):
    spec = plugin.FFJORD


class TestFfjordWithEqualSteps(FfjordConformance):
    """Each row by itself: row independence to the last digits."""

    spec = plugin.FFJORD
    config = {**FfjordConformance.config, "method": "rk4", "steps": 24}  # noqa: RUF012
    tolerance = 1e-4
    tolerance64 = 1e-7
    log_det_tolerance = 1e-6
    dims = (1, 2, 7)


class TestFfjordByTheAdjoint(FfjordConformance):
    spec = plugin.FFJORD
    config = {**FfjordConformance.config, "adjoint": True}  # noqa: RUF012
    dims = (1, 3)


class TestRnode(RnodeConformance):
    spec = plugin.RNODE


class TestRecipes(RecipesConformance):
    package = "flowgmm-ffjord"
    trainings = {"flowgmm-ffjord/two_circles_ffjord": []}  # noqa: RUF012
