import numpy as np
import pytest
from PIL import Image

from flowgmm_cli.errors import DataError

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=2)


@pytest.fixture
def folder(tmp_path):
    def make(**images):
        for name, pixels in images.items():
            path = tmp_path / "images" / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        return tmp_path / "images"

    return make


def test_images_are_rows_named_by_their_paths(rows, read, vector, folder, notes):
    path = folder(oak__a10_dot_png=GREY, oak__a9_dot_png=GREY + 1, fir__b_dot_BMP=GREY + 2)
    (path / "notes.md").write_text("no image")
    (path / ".hidden.png").write_text("no image")
    reader = rows(path, vector(3, 4), chunk_rows=2)
    assert reader.total == 3
    result = read(reader)
    assert result.ids == ["fir/b.BMP", "oak/a9.png", "oak/a10.png"]
    assert result.labels == [-1, 1, 1]
    assert result.unknown_labels == {0: "fir"}
    assert (result.columns["v"] == np.stack([GREY + 2, GREY + 1, GREY])).all()
    assert "from 0 (black) to 255 (white)" in notes[0]


def test_images_outside_the_folders_of_classes_have_no_label(rows, read, vector, folder):
    path = folder(
        a_dot_png=GREY, unlabelled__b_dot_png=GREY, new__ash__c_dot_png=GREY, new__elm__d_dot_png=GREY
    )
    result = read(rows(path, vector(3, 4)))
    assert result.ids == ["a.png", "new/ash/c.png", "new/elm/d.png", "unlabelled/b.png"]
    assert result.labels == [-1, 0, -1, -1]
    assert result.unknown_labels == {2: "elm"}


def test_pixels_have_the_range_of_training(rows, read, vector, folder, notes):
    path = folder(a_dot_png=GREY)
    result = read(rows(path, vector(3, 4, ranges={"v": (0.0, 1.0)})))
    assert np.allclose(result.columns["v"][0], GREY / 255)
    assert "1 (white)" in notes[0]


@pytest.mark.parametrize(
    ("shape", "given", "expected", "said"),
    [
        ((3, 4, 1), GREY, GREY[..., None], None),
        ((1, 3, 4), GREY, GREY[None], None),
        ((3, 4, 3), COLOUR, COLOUR, None),
        ((3, 3, 4), COLOUR, COLOUR.transpose(2, 0, 1), None),
        ((3, 4, 3), GREY, np.repeat(GREY[..., None], 3, axis=2), "grey is turned into colour"),
        ((3, 4), np.dstack([GREY, 0 * GREY]), np.full_like(GREY, 255), "transparency becomes white"),
        ((3, 4), GREY.astype(np.uint16) * 257, GREY, "16 bits are scaled to 8, 65,535 to 255"),
    ],
)
def test_channels_are_converted_with_a_note(rows, read, vector, folder, notes, shape, given, expected, said):
    result = read(rows(folder(a_dot_png=given, b_dot_png=given), vector(*shape)))
    assert (result.columns["v"] == expected).all()
    assert notes[1:] == ([note for note in notes if note.endswith(said)] if said else [])
    assert len(notes) == (2 if said else 1)


def test_a_table_of_labels_beside_images_is_not_read_as_rows(rows, read, vector, folder):
    path = folder(a_dot_png=GREY)
    (path / "labels.csv").write_text("file,kind\na.png,oak\n")
    result = read(rows(path, vector(3, 4)))
    assert (result.ids, result.labels) == (["a.png"], [1])


def test_square_images_may_be_vectors(rows, read, vector, folder):
    result = read(rows(folder(a_dot_png=GREY[:, :3]), vector(9)))
    assert (result.columns["v"][0] == GREY[:, :3].ravel()).all()


def test_images_are_never_resized_and_damaged_ones_are_named(rows, read, vector, folder):
    path = folder(a_dot_png=GREY, b_dot_png=GREY.T.copy())
    (path / "c.png").write_bytes((path / "a.png").read_bytes()[:50])
    with pytest.raises(DataError) as caught:
        list(rows(path, vector(3, 4)))
    assert caught.value.message == f"{path}, b.png: the image is 3x4 pixels, the model reads 4x3"
    assert "-resize 4x3!" in caught.value.hint
    result = read(rows(path, vector(3, 4), on_error="keep"))
    assert list(result.problems) == [1, 2]
    assert result.problems[2].startswith("c.png: it cannot be decoded")
    assert (result.columns["v"][0] == GREY).all()


def test_texts_are_rows_too(rows, read, texts, tmp_path):
    for name, content in [("2.txt", b"two\nlines"), ("10.txt", b"\xe4"), ("1.txt", b"")]:
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / name).write_bytes(content)
    result = read(rows(tmp_path / "d", texts, on_error="keep"))
    assert result["text"] == ["", "two\nlines", ""]
    assert result.ids == ["1.txt", "2.txt", "10.txt"]
    assert result.problems == {2: "10.txt: not UTF-8 text"}


def test_folders_without_usable_files(rows, vector, table, texts, tmp_path):
    (tmp_path / "data.bin").write_text("")
    with pytest.raises(DataError, match="holds no images") as caught:
        rows(tmp_path, vector(3, 4))
    assert "data.bin" in caught.value.details[0]
    with pytest.raises(DataError, match="holds no text files") as caught:
        rows(tmp_path, texts)
    assert "use: hf_text" in caught.value.hint
    for schema in (table, vector(7)):
        with pytest.raises(DataError, match="reads no images"):
            rows(tmp_path, schema)
