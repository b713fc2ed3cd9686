from typing import ClassVar

from flowgmm_cli.testing import RecipesConformance
from flowgmm_vision import conformance


class TestTorchvision(conformance.ImageFeaturesConformance):
    name = "image_features"


class TestTimm(conformance.ImageFeaturesConformance):
    name = "image_features"
    config: ClassVar = {
        **conformance.ImageFeaturesConformance.config,
        "library": "timm",
        "model": "test_resnet",
    }


class TestRecipes(RecipesConformance):
    package = "flowgmm-vision"
    overrides: ClassVar = {"flowgmm-vision/photos": ["data.path=photos"]}
