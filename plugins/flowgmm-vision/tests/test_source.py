import io
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from flowgmm_cli.api import DataContext, DataError, RecipeError, SourceData
from flowgmm_vision.demo import draw_shapes
from flowgmm_vision.images import decode, list_images
from flowgmm_vision.libraries import import_library
from flowgmm_vision.plugin import ImageFeaturesConfig
from flowgmm_vision.source import build

torchvision: Any = import_library("torchvision", lambda text: None)
timm: Any = import_library("timm", lambda text: None)
SMALL = {"model": "squeezenet1_1", "weights": "random", "image_size": 32, "device": "cpu"}


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    draw_shapes(tmp_path / "shapes", per_class=3, unlabelled=2)
    return tmp_path / "shapes"


def load(path: Path, context: DataContext | None = None, **values: Any) -> SourceData:
    config = ImageFeaturesConfig(path=str(path), **{**SMALL, **values})
    return build(config, context or DataContext(offline=True)).load()


def vectors(read: SourceData, split: str = "train") -> Any:
    return read.splits[split].columns["embedding"]


def test_folders_are_classes_and_paths_are_ids(shapes: Path) -> None:
    Image.new("L", (9, 5)).save(shapes / "loose.png")
    read = load(shapes)
    rows = read.splits["train"]
    assert read.class_names == ("circle", "square", "triangle")
    assert len(rows) == 12
    for item, label in zip(rows.ids, rows.labels, strict=True):
        split, _, name = item.partition(":")
        assert split == "train"
        assert (shapes / name).is_file()
        folder = name.partition("/")[0]
        assert label == (read.class_names.index(folder) if folder in read.class_names else -1)
    assert sum(rows.labels == -1) == 3


def test_the_vector_is_what_the_last_layer_reads(shapes: Path) -> None:
    actual = vectors(load(shapes, model="resnet18", image_size=64, seed=3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = torchvision.models.resnet18(weights=None).eval()
    transform = torchvision.models.ResNet18_Weights.DEFAULT.transforms(crop_size=64, resize_size=73)
    heard: list[torch.Tensor] = []
    network.fc.register_forward_hook(lambda layer, given, out: heard.append(given[0]))
    files = [item.file for item in list_images(str(shapes), "unlabelled")]
    with torch.inference_mode():
        network(torch.stack([transform(Image.open(file).convert("RGB")) for file in files]))
    np.testing.assert_allclose(actual, heard[0].numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("library", "model", "dim"),
    [
        ("torchvision", "mobilenet_v3_small", 1024),
        ("torchvision", "efficientnet_b0", 1280),
        ("timm", "test_vit", 64),
    ],
)
def test_models_of_all_builds_lose_their_last_layer(shapes: Path, library: str, model: str, dim: int) -> None:
    size = None if model == "test_vit" else 32
    assert vectors(load(shapes, library=library, model=model, image_size=size)).shape == (11, dim)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "wrapped"])
def test_weights_come_from_a_file(shapes: Path, tmp_path: Path, kind: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    if kind == "safetensors":
        save_file(state, file := tmp_path / "w.safetensors")
    elif kind == "pt":
        torch.save(state, file := tmp_path / "w.pt")
    else:
        without_head = {f"module.{n}": v for n, v in state.items() if not n.startswith("classifier")}
        torch.save({"state_dict": without_head, "epoch": 3}, file := tmp_path / "w.pth")
    actual = vectors(load(shapes, weights=str(file)))
    np.testing.assert_array_equal(actual, vectors(load(shapes, seed=5)))
    assert not np.array_equal(actual, vectors(load(shapes, seed=6)))


def test_weights_of_timm_come_from_a_file(shapes: Path, tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", num_classes=7).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    given: dict[str, Any] = {"library": "timm", "model": "test_resnet"}
    assert vectors(load(shapes, weights=str(tmp_path / "w.safetensors"), **given)).shape == (11, 96)
    with pytest.raises(DataError, match="another model"):
        load(
            shapes, weights=str(tmp_path / "w.safetensors"), library="timm", model="test_vit", image_size=None
        )


def test_other_weights_are_refused_with_the_names_that_differ(shapes: Path, tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(1), "extra": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="another model") as caught:
        load(shapes, weights=str(tmp_path / "w.safetensors"))
    assert "missing: features.0.bias" in caught.value.details
    assert "and " in caught.value.details[-1]


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("carried-out"),)


def test_a_file_of_weights_is_never_carried_out(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").write_bytes(pickle.dumps(_Bomb()))
    torch.save({"a": _Bomb()}, tmp_path / "zip.pt")
    for name in ("w.pt", "zip.pt"):
        with pytest.raises(DataError):
            load(shapes, weights=name)
    assert not Path("carried-out").exists()
    (tmp_path / "w.safetensors").write_bytes(b"no")
    for name in ("w.safetensors", "none.pt"):
        with pytest.raises(DataError):
            load(shapes, weights=name)


@pytest.mark.parametrize(
    ("library", "model"), [("torchvision", "resnet18"), ("timm", "test_resnet"), ("timm", "resnet18")]
)
def test_offline_nothing_is_downloaded(
    shapes: Path, tmp_path: Path, library: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(DataError, match="this run is offline") as caught:
        load(shapes, library=library, model=model, weights="download")
    assert "data.weights=FILE" in str(caught.value.hint)


def test_offline_a_download_of_before_is_used(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    url = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(state, tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2])
    assert vectors(load(shapes, weights="download")).shape == (11, 512)


def test_each_image_is_encoded_once(shapes: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    context = DataContext(
        offline=True,
        cache_dir=str(tmp_path / "cache"),
        progress=lambda done, total, what: seen.append((done, total)),
    )
    first = vectors(load(shapes, context, batch_size=4))
    assert seen == [(0, 11), (4, 11), (8, 11), (11, 11)]
    moved = shutil.copytree(shapes, tmp_path / "elsewhere")
    network = torchvision.models.SqueezeNet
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "forward", lambda self, x: pytest.fail("an image is encoded again"))
        np.testing.assert_array_equal(vectors(load(moved, context)), first)
        with pytest.raises(pytest.fail.Exception):
            load(moved, context, seed=1)
    parts = list((tmp_path / "cache").rglob("*.npy"))
    parts[0].write_bytes(parts[0].read_bytes()[:-1])  # damaged: encoded again
    np.testing.assert_allclose(vectors(load(moved, context)), first, rtol=1e-5)


def test_a_cache_that_cannot_be_written_costs_a_note(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    notes: list[str] = []
    load(shapes, DataContext(offline=True, cache_dir=str(tmp_path / "cache"), note=notes.append))
    assert len([note for note in notes if "not kept" in note]) == 1


def test_damaged_images_are_named_or_left_out(shapes: Path) -> None:
    (shapes / "circle" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    with pytest.raises(DataError, match="1 of 12 images") as caught:
        load(shapes)
    assert "bad.png" in caught.value.details[0]
    read = load(shapes, unreadable="skip")
    assert len(read.splits["train"]) == 11
    assert "bad.png" in read.notes[0]


def test_splits_share_their_classes(shapes: Path, tmp_path: Path) -> None:
    draw_shapes(tmp_path / "test", per_class=1, unlabelled=0, seed=9)
    shutil.rmtree(shapes / "circle")
    read = load(shapes, test_path=str(tmp_path / "test"))
    assert read.class_names == ("circle", "square", "triangle")
    assert read.splits["test"].labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "resnet-18"}, "did you mean `resnet18`"),
        ({"model": "fasterrcnn_resnet50_fpn"}, "no model"),
        ({"model": "resnet81", "library": "timm"}, "no model"),
        ({"image_size": 8}, "data.image_size"),
    ],
)
def test_what_the_library_cannot_do_is_a_recipe_error(
    shapes: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        load(shapes, **values)


def test_folders_without_images_are_data_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("empty", "file", "none"):
        with pytest.raises(DataError):
            list_images(str(tmp_path / name), "unlabelled")


def content(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


def test_images_of_all_modes_become_rgb() -> None:
    deep = Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16))
    assert decode(content(deep)).getpixel((0, 0)) == (156, 156, 156)
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert decode(content(clear)).getpixel((0, 0)) == (255, 255, 255)
    for mode in ("1", "L", "P", "LA"):
        assert decode(content(Image.new(mode, (4, 4)))).mode == "RGB"


def test_images_are_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(content(Image.new("RGB", (4, 2)), exif=exif)).size == (2, 4)
