import pytest
from PIL import Image

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
def load_table(make, load):
    """Load four images with a table of labels: `load_table("file,label\\na.png,ox\\n", "train.csv")`."""

    def write(table, name="labels.csv", **more):
        folder = make("a.png", "b.png", "c.jpg", "deep/d.png")
        (folder / name).write_text(table)
        return load(folder, **more)

    return write


def classes(data, split="train"):
    """Id -> class."""
    rows, names = data.splits[split], [*data.class_names, None]
    return {row_id: names[label] for row_id, label in zip(rows.ids, rows.labels, strict=True)}


@pytest.mark.parametrize("unlabelled", ["unlabelled", "unlabeled", "rest"])
def test_folders_are_classes(load, make, unlabelled):
    folder = make("dog 10/1.png", "dog 9/a/b.png", "cat/2.jpg", "cat/10.jpg", f"{unlabelled}/x.png")
    data = load(folder, **({"unlabelled": "rest"} if unlabelled == "rest" else {}))
    assert data.class_names == ("cat", "dog 9", "dog 10")
    assert classes(data) == {
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
    assert {name: classes(data, name) for name in data.splits} == {
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


def test_a_folder_without_images(load, tmp_path):
    for name in ("a.txt", "b.csv"):
        (tmp_path / name).write_text("")
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="holds no image") as caught:
        load(tmp_path)
    assert caught.value.details == ("it holds: a.txt, b.csv, c/",)


@pytest.mark.parametrize("none", ["", "unlabelled", "unlabeled"])
def test_labels_by_file(load_table, none):
    data = load_table(f"label,file\nox,a.png\n{none},b.png\nelk,deep/d.png\n")
    assert classes(data) == {"a.png": "ox", "b.png": None, "c.jpg": None, "deep/d.png": "elk"}
    assert data.notes == ("labels.csv does not name 1 of 4 images",)


@pytest.mark.parametrize("file", ["a", "./a.png", "a.png"])
def test_a_file_may_be_named_without_its_suffix(load_table, file):
    assert classes(load_table(f"file,label\n{file},ox\ndeep\\d,elk\n"))["a.png"] == "ox"


def test_other_names_of_file_and_columns(load_table):
    data = load_table("id\tbreed\tuse\na\tox\t1\nb\telk\t\n", "train.tsv", labels_file="train.tsv", file="id",
                label="breed", labels={"column": "use"})  # fmt: skip
    assert classes(data) == {"a.png": "ox", "b.png": "elk", "c.jpg": None, "deep/d.png": None}
    assert data.splits["train"].extras["use"].tolist() == ["1", None, None, None]


def test_a_table_outside_the_folder(load_table, tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("file,label\na.png,ox\n")
    assert classes(load_table("", "unused.txt", labels_file=str(path)))["a.png"] == "ox"


def test_each_split_has_its_table(load, make):
    folder = make("train/1.png", "train/2.png", "test/1.png", "test/2.png", "unlabelled/1.png")
    (folder / "train/labels.csv").write_text("file,label\n1.png,ox\n2.png,\n")
    (folder / "test/labels.csv").write_text("file,label\n1.png,ox\n")
    data = load(folder)
    assert classes(data) == {"train/1.png": "ox", "train/2.png": None, "unlabelled/1.png": None}
    assert classes(data, "test") == {"test/1.png": "ox", "test/2.png": None}


def test_a_table_beside_the_splits_names_their_images(load, make):
    folder = make("train/1.png", "train/2.png", "test/1.png")
    (folder / "labels.csv").write_text("file,label\ntrain/1.png,ox\ntrain/2.png,elk\ntest/1,ox\n")
    data = load(folder)
    assert classes(data) == {"train/1.png": "ox", "train/2.png": "elk"}
    assert classes(data, "test") == {"test/1.png": "ox"}


def test_the_hubs_metadata_file_has_labels(load_table):
    table = "file_name,label\na.png,ox\ndeep/d.png,elk\n"
    assert classes(load_table(table, "metadata.csv")) == {
        "a.png": "ox", "b.png": None, "c.jpg": None, "deep/d.png": "elk",
    }  # fmt: skip
    assert classes(load_table("file,label\na.png,cow\n"))["a.png"] == "cow"  # labels.csv comes first


def test_a_metadata_file_without_labels_is_left_out(load_table):
    data = load_table("file_name,caption\na.png,an ox\n", "metadata.csv")
    assert data.class_names == ("deep",)
    assert any(
        "metadata.csv has no column `label` (data.label), so it is left out" in note for note in data.notes
    )


def test_missing_files_are_named_with_near_matches(load_table):
    lines = "".join(f"x{index}.png,ox\n" for index in range(9))
    with pytest.raises(DataError) as caught:
        load_table(f"file,label\na.pgn,ox\n,elk\n{lines}b.png,ox\n")
    assert "labels.csv, row 1: there is no image a.pgn; did you mean `a.png`?" in caught.value.message
    assert caught.value.details[0] == "row 2: it names no image"
    assert caught.value.details[-1] == "11 of 12 rows cannot be read"
    data = load_table("file,label\na.pgn,ox\nb.png,ox\n", on_error="keep")
    assert classes(data)["b.png"] == "ox"
    assert "1 of 2 rows cannot be read and are left out (row 1: there is no image a.pgn" in data.notes[0]


def test_two_labels_of_a_file(load_table):
    with pytest.raises(DataError, match=r"a\.png is named twice, as `ox` and as `elk`"):
        load_table("file,label\na.png,ox\na.png,elk\n")
    assert classes(load_table("file,label\na.png,ox\na.png,ox\n"))["a.png"] == "ox"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"labels_file": "label.csv"}, "has no file label.csv (data.labels_file)"),
        ({"file": "flie"}, "has no column `flie` (data.file); did you mean `file`?"),
        ({"label": "class"}, "has no column `class` (data.label)"),
    ],
)
def test_wrong_names_are_errors(load_table, more, words):
    with pytest.raises(DataError) as caught:
        load_table("file,label\na.png,ox\n", **more)
    assert words in caught.value.message
