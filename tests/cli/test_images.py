"""Folders of images from the command line: training, prediction, and damaged folders."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import SHORT
from PIL import Image

from flowgmm_cli.runs import list_runs

RECIPE = """\
version: 1
data: {use: images, path: photos, size: 6, resize: crop, transforms: [{use: pca, dim: 8}]}
train: {epochs: 2}
"""


@pytest.fixture(autouse=True)
def _photos(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bright and dark images of mixed sizes in `photos`, and a recipe `my.yaml`."""
    monkeypatch.setenv("FLOWGMM_CACHE_DIR", str(folder / "cache"))
    drawn = np.random.default_rng(0)
    for index in range(60):
        name = ("bright", "dark")[index % 2] if index < 40 else "unlabelled"
        low = 130 * (index % 2 == 0)
        pixels = drawn.integers(low, low + 120, (8 + index % 3, 7), dtype=np.uint8)
        path = folder / f"photos/{name}/{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    Path("my.yaml").write_text(RECIPE, encoding="utf-8")


@pytest.mark.parametrize("memory", ["2.0", "0.0"])
def test_a_folder_trains_and_new_images_go_the_same_way(flowgmm: Any, folder: Path, memory: str) -> None:
    done = flowgmm("train", "my.yaml", f"data.memory={memory}", *SHORT[1:], "--json")
    assert done.json["test"]["accuracy"] == 1.0
    assert (folder / "cache/features").exists() is (memory == "0.0")
    Path("new").mkdir()
    Image.new("RGB", (90, 50), "white").save("new/b.png")
    Image.new("L", (6, 6), 20).save("new/a.png")
    Path("new/c.png").write_text("no image")
    done = flowgmm("predict", "--data", "new", "--on-error", "keep")
    answers = {row["id"]: row["prediction"] for row in done.rows}
    assert answers == {"a.png": "dark", "b.png": "bright", "c.png": ""}
    assert "c.png: it is not an image of a known type" in done.err
    done = flowgmm("predict", "--data", "new", "--on-error", "fail", code=5)
    assert "new, c.png" in done.err


def spoil(case: str) -> list[str]:
    if case == "mixed sizes":
        return ["data.size=null", "data.resize=error"]
    if case == "damaged":
        for index in (1, 3, 5, 7):
            Path(f"photos/dark/{index}.png").write_bytes(b"")
    if case == "one image":
        shutil.rmtree("photos")
        Path("photos/dark").mkdir(parents=True)
        Image.new("L", (6, 6)).save("photos/dark/1.png")
    if case == "no image":
        shutil.rmtree("photos")
        Path("photos/dark").mkdir(parents=True)
    if case == "no classes":
        for path in list(Path("photos").rglob("*.png")):
            path.rename(Path("photos") / path.name)
    if case == "a table of other files":
        Path("photos/labels.csv").write_text("file,label\ndark/1.pgn,dark\n", encoding="utf-8")
    return ["data.path=fotos/x/y"] if case == "no folder" else []


@pytest.mark.parametrize(
    ("case", "parts"),
    [
        ("mixed sizes", ["photos: images differ in size: bright/0.png is 7x8 pixels", "data.resize=crop"]),
        ("damaged", ["4 of 60 images cannot be read", "dark/1.png: the file is empty", "data.on_error=keep"]),
        ("one image", ["all labelled training rows are of the class `dark`"]),
        ("no image", ["the folder photos holds no image", "it holds: dark/"]),
        ("no classes", ["no training row has a label"]),
        ("a table of other files", ["there is no image dark/1.pgn", "did you mean `dark/1.png`?"]),
        ("no folder", ["no such file: fotos/x/y"]),
    ],
)
def test_bad_images_are_5_and_leave_nothing(flowgmm: Any, folder: Path, case: str, parts: list[str]) -> None:
    words = spoil(case)
    done = flowgmm("train", "my.yaml", *words, "data.cache=always", "--json", code=5)
    assert done.out == ""
    for part in [*parts, "\nhint: "]:
        assert part in done.err
    assert list_runs(Path("runs")) == []
    assert list(folder.rglob("*.tmp")) == []
    assert "size is not given" in flowgmm("train", "my.yaml", "data.size=null", code=3).err
