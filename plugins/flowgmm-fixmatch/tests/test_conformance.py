"""The regulariser through the conformance suite, with each kind of thresholds."""

from __future__ import annotations

from flowgmm_cli.testing import RecipesConformance, RegulariserConformance
from flowgmm_fixmatch import plugin


class TestFree(RegulariserConformance):
    spec = plugin.FIXMATCH


class TestFixed(RegulariserConformance):
    spec = plugin.FIXMATCH
    config = {"thresholds": "fixed", "threshold": 0.4, "predictor": "student"}  # noqa: RUF012


class TestFlex(RegulariserConformance):
    spec = plugin.FIXMATCH
    config = {"thresholds": "flex", "threshold": 0.5, "targets": "soft"}  # noqa: RUF012


class TestRecipes(RecipesConformance):
    package = "flowgmm-fixmatch"
    trainings = {"flowgmm-fixmatch/digits_fixmatch": []}  # noqa: RUF012
