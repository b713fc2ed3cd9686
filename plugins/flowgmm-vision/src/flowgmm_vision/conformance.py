"""Conformance suite of the source, with drawn images and a model of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from flowgmm_cli.testing import DataConformance


class ImageFeaturesConformance(DataConformance):
    """Fifteen images for training, six for the test."""

    config: ClassVar = {
        "path": "train",
        "test_path": "test",
        "model": "squeezenet1_1",
        "weights": "random",
        "image_size": 32,
        "device": "cpu",
    }
    missing: ClassVar = {"path": "no-such-folder"}

    def write_data(self, folder: Path) -> None:
        """Draw the images."""
        from flowgmm_vision.demo import draw_shapes

        draw_shapes(folder / "train", per_class=4, unlabelled=3)
        draw_shapes(folder / "test", per_class=2, unlabelled=0, seed=1)
