import numpy as np
import pytest
from PIL import Image

from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.sources.images import build
from flowgmm_cli.errors import DataError


@pytest.fixture
def make(tmp_path):
    """Make images, each of a shade of its own: `make("cat/1.png", ...)`."""

    def write(*names):
        for name in names:
            path = tmp_path / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 3), len(list((tmp_path / "photos").rglob("*")))).save(path)
        return tmp_path / "photos"

    return write


@pytest.fixture
def load(context):
    return lambda path, **more: build(ImagesConfig(path=str(path), **more), context).load()


def labelled(rows, names):
    """Id -> class."""
    return {
        row_id: names[label] if label >= 0 else None
        for row_id, label in zip(rows.ids, rows.labels, strict=True)
    }


@pytest.mark.parametrize("unlabelled", ["unlabelled", "unlabeled", "rest"])
def test_folders_are_classes(load, make, unlabelled):
    folder = make("dog 10/1.png", "dog 9/a/b.png", "cat/2.jpg", "cat/10.jpg", f"{unlabelled}/x.png")
    data = load(folder, **({"unlabelled": "rest"} if unlabelled == "rest" else {}))
    assert data.class_names == ("cat", "dog 9", "dog 10")
    assert labelled(data.splits["train"], data.class_names) == {
        "cat/2.jpg": "cat",
        "cat/10.jpg": "cat",
        "dog 9/a/b.png": "dog 9",
        "dog 10/1.png": "dog 10",
        f"{unlabelled}/x.png": None,
    }
    assert data.notes == ()


def test_folders_without_images_loose_images_and_other_files_are_noted(load, make):
    folder = make("cat/1.png", "dog/1.png", "loose.png")
    (folder / "bird/nothing").mkdir(parents=True)
    (folder / "cat/notes.txt").write_text("")
    data = load(folder)
    assert data.class_names == ("cat", "dog")
    assert data.splits["train"].labels.tolist() == [0, 1, -1]
    assert data.notes == (
        f"{folder}: files that are not images are left out (1 .txt)",
        f"{folder}: 1 of 3 images are in no class folder and have no label",
        f"{folder}: folders without images are not classes: bird",
    )


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_folders_of_splits(load, make, val):
    folder = make(
        "train/cat/1.png", "train/dog/1.png", "train/unlabelled/1.png", "test/cat/1.png", f"{val}/dog/1.png",
        "unlabelled/9.png", "old/cat/3.png",
    )  # fmt: skip
    data = load(folder)
    assert data.class_names == ("cat", "dog")
    assert {name: labelled(rows, data.class_names) for name, rows in data.splits.items()} == {
        "train": {
            "train/cat/1.png": "cat",
            "train/dog/1.png": "dog",
            "train/unlabelled/1.png": None,
            "unlabelled/9.png": None,
        },
        "test": {"test/cat/1.png": "cat"},
        "val": {f"{val}/dog/1.png": "dog"},
    }
    assert any(note.endswith("left out: old") for note in data.notes)


def test_a_test_folder_without_classes_is_left_out(load, make):
    data = load(make("train/cat/1.png", "train/dog/1.png", "test/1.png"))
    assert set(data.splits) == {"train"}
    assert any(note.endswith("left out: test") for note in data.notes)


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "VAL", "unlabelled"), ("train",)])
def test_split_folders_without_class_folders_are_not_classes(load, make, names):
    folder = make(*(f"{name}/1.png" for name in names))
    with pytest.raises(DataError, match=r"no image has a label, since .* folders of splits") as caught:
        load(folder)
    assert f"such as {names[0]}/cat" in caught.value.hint
    assert load(folder / names[0]).splits["train"].labels.tolist() == [-1]


def test_classes_may_be_named_like_splits(load, make):
    data = load(make("train/1.png", "test/1.png", "boat/1.png"))
    assert data.class_names == ("boat", "test", "train")


def test_images_without_classes_have_no_label(load, make):
    data = load(make("1.png", "2.png"))
    assert data.class_names == ()
    assert data.splits["train"].labels.tolist() == [-1, -1]
    assert "no image has a label" in data.notes[0]


def test_pixels_belong_to_their_names(load, make):
    folder = make("b/1.png", "a/1.png", "unlabelled/1.png", "a/0.png")
    rows = load(folder).splits["train"]
    for name, pixels in zip(rows.ids, rows.columns["image"], strict=True):
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(folder / name)))


def test_a_folder_without_images(load, tmp_path):
    for name in ("a.txt", "b.csv"):
        (tmp_path / name).write_text("")
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="holds no image") as caught:
        load(tmp_path)
    assert caught.value.details == ("it holds: a.txt, b.csv, c/",)
