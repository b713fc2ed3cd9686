"""Conformance suite of the source, with drawn images and a model of random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

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

    def build_with(self, values: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Build the source over images that are gone when the data have been loaded."""
        build = super().build_with
        return _OverImages(lambda folder: build(_below(folder, {**self.config, **values}), *args, **kwargs))


class _OverImages:
    def __init__(self, build: Any) -> None:
        self._build = build

    def load(self) -> Any:
        from flowgmm_vision.demo import draw_shapes

        with TemporaryDirectory(prefix="flowgmm-") as folder:
            draw_shapes(Path(folder, "train"), per_class=4, unlabelled=3)
            draw_shapes(Path(folder, "test"), per_class=2, unlabelled=0, seed=1)
            return self._build(Path(folder)).load()


def _below(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: str(folder / value) if key.endswith("path") else value for key, value in values.items()}
