import pytest
from PIL import Image

from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.sources.images import build
from flowgmm_cli.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png", "c.jpg", "deep/d.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def load(context, folder):
    def make(table, name="labels.csv", **more):
        (folder / name).write_text(table)
        return build(ImagesConfig(path=str(folder), **more), context).load()

    return make


def classes(data):
    rows = data.splits["train"]
    names = [*data.class_names, None]
    return {row_id: names[label] for row_id, label in zip(rows.ids, rows.labels, strict=True)}


def test_labels_by_file(load):
    data = load("label,file\nox,a.png\n,b.png\nelk,deep/d.png\n")
    assert classes(data) == {"a.png": "ox", "b.png": None, "c.jpg": None, "deep/d.png": "elk"}
    assert data.notes == ("labels.csv does not name 1 of 4 images",)


@pytest.mark.parametrize("file", ["a", "./a.png", "a.png"])
def test_a_file_may_be_named_without_its_suffix(load, file):
    assert classes(load(f"file,label\n{file},ox\ndeep\\d,elk\n"))["a.png"] == "ox"


def test_other_names_of_file_and_columns(load):
    data = load("id\tbreed\tuse\na\tox\t1\nb\telk\t\n", "train.tsv", labels_file="train.tsv", file="id",
                label="breed", labels={"column": "use"})  # fmt: skip
    assert classes(data) == {"a.png": "ox", "b.png": "elk", "c.jpg": None, "deep/d.png": None}
    assert data.splits["train"].extras["use"].tolist() == ["1", None, None, None]


def test_a_table_beside_the_folder(load, folder):
    path = folder.parent / "l.csv"
    path.write_text("file,label\na.png,ox\n")
    assert classes(load("", "unused.txt", labels_file=str(path)))["a.png"] == "ox"


def test_each_split_has_its_table(load, folder):
    for split, table in (("train", "file,label\n1.png,ox\n2.png,\n"), ("test", "file,label\n1.png,ox\n")):
        (folder / split).mkdir()
        for name in ("1.png", "2.png"):
            Image.new("L", (4, 3)).save(folder / split / name)
        (folder / split / "labels.csv").write_text(table)
    data = load("", "unused.txt")
    assert classes(data) == {"train/1.png": "ox", "train/2.png": None}
    assert data.splits["test"].labels.tolist() == [0, -1]


def test_the_hubs_metadata_file_has_labels(load, folder):
    table = "file_name,label\na.png,ox\ndeep/d.png,elk\n"
    assert classes(load(table, "metadata.csv")) == {
        "a.png": "ox", "b.png": None, "c.jpg": None, "deep/d.png": "elk",
    }  # fmt: skip
    assert classes(load("file,label\na.png,cow\n"))["a.png"] == "cow"  # labels.csv comes first


def test_a_metadata_file_without_labels_is_left_out(load):
    data = load("file_name,caption\na.png,an ox\n", "metadata.csv")
    assert data.class_names == ("deep",)
    assert any(
        "metadata.csv has no column `label` (data.label), so it is left out" in note for note in data.notes
    )


def test_a_table_beside_the_splits_names_their_images(load, folder):
    for name in ("train/1.png", "train/2.png", "test/1.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 3)).save(folder / name)
    for name in ("a.png", "b.png", "c.jpg", "deep/d.png"):
        (folder / name).unlink()
    data = load("file,label\ntrain/1.png,ox\ntrain/2.png,elk\ntest/1,ox\n")
    assert classes(data) == {"train/1.png": "ox", "train/2.png": "elk"}
    assert data.splits["test"].labels.tolist() == [data.class_names.index("ox")]


def test_missing_files_are_named_with_near_matches(load):
    lines = "".join(f"x{index}.png,ox\n" for index in range(9))
    with pytest.raises(DataError) as caught:
        load(f"file,label\na.pgn,ox\n,elk\n{lines}b.png,ox\n")
    assert "labels.csv, row 1: there is no image a.pgn; did you mean `a.png`?" in caught.value.message
    assert caught.value.details[0] == "row 2: it names no image"
    assert caught.value.details[-1] == "11 of 12 rows cannot be read"
    data = load("file,label\na.pgn,ox\nb.png,ox\n", on_error="keep")
    assert classes(data)["b.png"] == "ox"
    assert "1 of 2 rows cannot be read and are left out (row 1: there is no image a.pgn" in data.notes[0]


def test_two_labels_of_a_file(load):
    with pytest.raises(DataError, match=r"a\.png is named twice, as `ox` and as `elk`"):
        load("file,label\na.png,ox\na.png,elk\n")
    assert classes(load("file,label\na.png,ox\na.png,ox\n"))["a.png"] == "ox"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"labels_file": "label.csv"}, "has no file label.csv (data.labels_file)"),
        ({"file": "flie"}, "has no column `flie` (data.file); did you mean `file`?"),
        ({"label": "class"}, "has no column `class` (data.label)"),
    ],
)
def test_wrong_names_are_errors(load, more, words):
    with pytest.raises(DataError) as caught:
        load("file,label\na.png,ox\n", **more)
    assert words in caught.value.message
