"""Folders of images and texts as the rows of a model of images, vectors or texts."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from flowgmm_cli.data.readers.open import open_table
from flowgmm_cli.data.readers.table import ReadSettings, load_table
from flowgmm_cli.errors import DataError

DRAWN = np.random.default_rng(0)
GREY = DRAWN.integers(0, 256, (4, 3, 4), dtype=np.uint8)
COLOUR = DRAWN.integers(0, 256, (3, 4, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Write images to a folder: `folder(oak__1=pixels, a_dot_BMP=pixels)`."""

    def make(**images):
        for name, pixels in images.items():
            name = name.replace("__", "/").replace("_dot_", ".")
            path = tmp_path / "images" / (name if "." in name else f"{name}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        return tmp_path / "images"

    return make


@pytest.mark.parametrize("kind", ["image", "vector"])
def test_images_are_rows_named_by_their_paths(rows, read, vector, image, folder, notes, kind):
    path = folder(oak__a10=GREY[0], oak__a9=GREY[1], fir__b_dot_BMP=GREY[2], test__ash__2=GREY[3])
    (path / "notes.md").write_text("no image")
    (path / ".hidden.png").write_text("no image")
    reader = rows(path, image(3, 4) if kind == "image" else vector(3, 4), chunk_rows=2)
    assert reader.total == 4
    result = read(reader)
    assert result.ids == ["fir/b.BMP", "oak/a9.png", "oak/a10.png", "test/ash/2.png"]
    assert result.labels == [-1, 1, 1, 0]
    assert result.unknown_labels == {0: "fir"}
    assert result.columns["v"].dtype == (np.uint8 if kind == "image" else np.float32)
    np.testing.assert_array_equal(result.columns["v"], GREY[[2, 1, 0, 3]])
    vector_note = f"{path}: 4 images, read as numbers from 0 (black) to 255 (white)"
    assert notes == ([] if kind == "image" else [vector_note])


def test_images_outside_the_folders_of_classes_have_no_label(rows, read, vector, folder):
    path = folder(a=GREY[0], unlabelled__b=GREY[0], new__ash__c=GREY[0], new__elm__d=GREY[0])
    result = read(rows(path, vector(3, 4)))
    assert result.ids == ["a.png", "new/ash/c.png", "new/elm/d.png", "unlabelled/b.png"]
    assert result.labels == [-1, 0, -1, -1]
    assert result.unknown_labels == {2: "elm"}


@pytest.mark.parametrize("name", ["labels.csv", "metadata.csv"])
def test_labels_are_those_of_a_table_beside_the_images(rows, read, vector, image, folder, name):
    path = folder(a=GREY[0], b=GREY[1], oak__c=GREY[2], ash__d=GREY[3])
    (path / name).write_text("file_name,kind\na.png,oak\nb.png,fir\ngone.png,oak\nash/d.png,\n")
    (path / "oak/metadata.csv").write_text("file_name,kind\nc.png,ash\n")
    for schema in (image(3, 4), vector(3, 4)):
        result = read(rows(path, schema))
        assert result.ids == ["a.png", "ash/d.png", "b.png", "oak/c.png"]
        assert result.labels == [1, -1, -1, 0]
        assert result.unknown_labels == {2: "fir"}


def test_a_table_without_labels_is_left_out(rows, read, image, folder, notes):
    path = folder(oak__c=GREY[2])
    (path / "metadata.csv").write_text("file_name,caption\noak/c.png,a tree\n")
    assert read(rows(path, image(3, 4))).labels == [1]
    assert "has no column `kind`" in notes[0]


def test_vectors_have_the_range_of_training(rows, read, vector, folder, notes):
    result = read(rows(folder(a=GREY[0]), vector(3, 4, ranges={"v": (0.0, 1.0)})))
    assert np.allclose(result.columns["v"][0], GREY[0] / 255)
    assert "1 (white)" in notes[0]


@pytest.mark.parametrize(
    ("shape", "given", "expected", "said"),
    [
        ((3, 4, 1), GREY[0], GREY[0][..., None], None),
        ((1, 3, 4), GREY[0], GREY[0][None], None),
        ((12,), GREY[0], None, None),
        ((9,), GREY[0][:, :3], GREY[0][:, :3].ravel(), None),
        ((3, 4, 3), COLOUR, COLOUR, None),
        ((3, 3, 4), COLOUR, COLOUR.transpose(2, 0, 1), None),
        ((3, 4, 3), GREY[0], np.repeat(GREY[0][..., None], 3, axis=2), "grey is turned into colour"),
        ((3, 4), np.dstack([GREY[0], 0 * GREY[0]]), np.full((3, 4), 255), "transparency becomes white"),
        ((3, 4), GREY[0].astype(np.uint16) * 257, GREY[0], "16 bits are scaled to 8, 65,535 to 255"),
    ],
)
def test_images_become_vectors_of_the_shape_of_the_model(
    rows, read, vector, folder, notes, shape, given, expected, said
):
    path = folder(a=given, b=given)
    if expected is None:
        with pytest.raises(DataError, match="reads no images"):
            rows(path, vector(*shape))
        return
    result = read(rows(path, vector(*shape)))
    assert (result.columns["v"] == expected).all()
    assert [note.removeprefix(f"{path}: ") for note in notes[1:]] == ([said] if said else [])


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_images_are_resized_as_in_training(rows, read, image, folder, resize):
    path = folder(oak__1=DRAWN.integers(0, 256, (9, 20), dtype=np.uint8), ash__2=GREY[0])
    trained = read(rows(f"{{use: images, path: {path}, size: [3, 4], resize: {resize}}}", image(3, 4)))
    result = read(rows(path, image(3, 4, resize=resize)))
    assert result.ids == trained.ids
    np.testing.assert_array_equal(result.columns["v"], trained.columns["v"])


@pytest.mark.parametrize("kind", ["image", "vector"])
def test_unusable_images_are_errors_or_problems(rows, read, vector, image, folder, kind):
    path = folder(a=GREY[0], b=GREY[0].T.copy(), e=GREY[1])
    (path / "c.png").write_bytes((path / "a.png").read_bytes()[:50])
    (path / "d.png").write_bytes(b"")
    schema = image(3, 4) if kind == "image" else vector(3, 4)
    with pytest.raises(DataError) as caught:
        list(rows(path, schema))
    assert caught.value.message == f"{path}, b.png: the image is 3x4 pixels, the model reads 4x3"
    assert "-resize 4x3!" in caught.value.hint
    assert "--on-error keep" in caught.value.hint
    result = read(rows(path, schema, on_error="keep"))
    assert result.problems == {
        1: "b.png: the image is 3x4 pixels, the model reads 4x3",
        2: "c.png: it cannot be decoded: image file is truncated",
        3: "d.png: the file is empty",
    }
    np.testing.assert_array_equal(result.columns["v"][[0, 4]], GREY[:2])


def test_texts_are_rows_too(rows, read, texts, tmp_path):
    for name, content in [("2.txt", b"two\nlines"), ("10.txt", b"\xe4"), ("1.txt", b"")]:
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / name).write_bytes(content)
    result = read(rows(tmp_path / "d", texts, on_error="keep"))
    assert result["text"] == ["", "two\nlines", ""]
    assert result.ids == ["1.txt", "2.txt", "10.txt"]
    assert result.problems == {2: "10.txt: not UTF-8 text"}


def test_folders_without_usable_files(rows, vector, image, table, texts, tmp_path):
    (tmp_path / "data.bin").write_text("")
    for schema in (vector(3, 4), image(3, 4)):
        with pytest.raises(DataError, match="holds no images") as caught:
            rows(tmp_path, schema)
        assert "data.bin" in caught.value.details[0]
    assert "use: images" in caught.value.hint
    with pytest.raises(DataError, match="holds no text files") as caught:
        rows(tmp_path, texts)
    assert "use: hf_text" in caught.value.hint
    for schema in (table, vector(7)):
        with pytest.raises(DataError, match="reads no images"):
            rows(tmp_path, schema)


def write_texts(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_folders_of_texts_by_class_are_a_table(notes, tmp_path):
    files = {"neg/10.txt": "bad\r\nfilm", "neg/9.txt": "\ufeffworse", "pos/deep/1.TXT": "gr\xfcn"}
    files |= {"unsup/1.txt": "a film", "urls.txt": "http", "pos/notes": "no text", "neg/2.txt": b"\xff"}
    reader = open_table(str(write_texts(tmp_path / "d", files)), note=notes.append)
    assert reader.names == ["id", "text", "label"]
    table = load_table(reader, on_error="keep", note=notes.append)
    assert table.data.to_pydict() == {
        "id": ["neg/9.txt", "neg/10.txt", "pos/deep/1.TXT", "unsup/1.txt"],
        "text": ["worse", "bad\nfilm", "gr\xfcn", "a film"],
        "label": ["neg", "neg", "pos", None],
    }
    assert "left out: urls.txt" in notes[0]
    assert "1 of 5 rows cannot be read and are left out (neg/2.txt: not UTF-8 text)" in notes[1]
    with pytest.raises(DataError, match=r"d, neg/2\.txt: not UTF-8 text"):
        load_table(reader, on_error="fail", note=notes.append)


def test_texts_without_a_suffix_and_in_another_encoding(rows, read, texts, tmp_path, notes):
    folder = write_texts(tmp_path / "d", {"sci.med/1": b"gr\xfcn", "README": "all", "alt/2": "blue"})
    settings = ReadSettings(encoding="cp1252")
    table = load_table(open_table(str(folder), settings, note=notes.append), on_error=None, note=notes.append)
    assert table.data["text"].to_pylist() == ["blue", "gr\xfcn"]
    assert table.data["label"].to_pylist() == ["alt", "sci.med"]
    result = read(rows(folder, replace(texts, settings=settings)))
    assert (result.ids, result["text"]) == (["alt/2", "sci.med/1"], ["blue", "gr\xfcn"])


def test_folders_of_splits_are_no_classes(notes, tmp_path):
    files = {"train/pos/1.txt": "a", "test/pos/1.txt": "b", "README": "c", "unsup/1.txt": "d"}
    with pytest.raises(DataError, match="test and train are folders of splits") as caught:
        open_table(str(write_texts(tmp_path / "d", files)), note=notes.append)
    assert caught.value.hint.endswith("/d/test")
    assert open_table(str(tmp_path / "d/train"), note=notes.append).rows == 1
