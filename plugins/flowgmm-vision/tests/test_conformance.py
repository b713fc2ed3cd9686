from pathlib import Path
from typing import ClassVar

from flowgmm_cli.testing import RecipesConformance
from flowgmm_vision import conformance
from flowgmm_vision.demo import draw_shapes


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
    trainings: ClassVar = {
        "flowgmm-vision/photos": [
            "data.path=shapes",
            "data.weights=random",
            "data.image_size=32",
            "data.transforms.0.dim=8",
        ]
    }

    def write_data(self, folder: Path) -> None:
        draw_shapes(folder / "shapes", per_class=15, unlabelled=30)
