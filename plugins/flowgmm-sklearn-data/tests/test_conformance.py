from typing import ClassVar

from flowgmm_cli.testing import RecipesConformance
from flowgmm_sklearn_data import conformance


class TestLoader(conformance.LoaderConformance):
    name = "sklearn_loader"


class TestImageLoader(conformance.LoaderConformance):
    name = "sklearn_loader"
    config: ClassVar = {"loader": "load_digits", "arguments": {"n_class": 3}}


class TestDrawnLoader(conformance.LoaderConformance):
    name = "sklearn_loader"
    config: ClassVar = {"loader": "make_moons", "arguments": {"n_samples": 60, "noise": 0.1}}


class TestOpenML(conformance.OpenMLConformance):
    name = "openml"


class TestRecipes(RecipesConformance):
    package = "flowgmm-sklearn-data"
    trainings = {"flowgmm-sklearn-data/wine": []}  # noqa: RUF012
