import io

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.sources import hub_tables
from flowgmm_cli.data.sources.images import build
from flowgmm_cli.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 6, 5, 3), dtype=np.uint8)
FEATURES = datasets.Features({
    "image": datasets.Image(),
    "label": datasets.ClassLabel(names=["zero", "one", "two"]),
})  # fmt: skip
SPLITS = {"train": slice(0, 4), "test": slice(4, 6), "extra": slice(6, 9)}


def dataset(rows):
    images = [Image.fromarray(pixels) for pixels in PIXELS[rows]]
    labels = [None, 2, *[0] * len(images)][: len(images)]
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=FEATURES)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "svhn/data").mkdir(parents=True)
    for split, rows in SPLITS.items():
        dataset(rows).to_parquet(str(tmp_path / f"svhn/data/{split}-00000-of-00001.parquet"))
    return tmp_path / "svhn"


def test_a_hub_style_folder(load, folder):
    data = load(folder)
    assert data.class_names == ("zero", "one", "two")
    assert set(data.splits) == {"train", "test"}
    np.testing.assert_array_equal(data.splits["train"].columns["image"], PIXELS[:4])
    assert data.splits["train"].labels.tolist() == [-1, 2, 0, 0]
    assert data.splits["test"].ids.tolist() == ["test:1", "test:2"]


def test_a_split_without_its_labels_makes_more_training_rows(load, folder):
    rows = load(folder, unlabelled_split="extra").splits["train"]
    np.testing.assert_array_equal(rows.columns["image"], PIXELS[[0, 1, 2, 3, 6, 7, 8]])
    assert rows.labels.tolist() == [-1, 2, 0, 0, -1, -1, -1]
    assert rows.ids.tolist()[3:5] == ["train:4", "unlabelled:1"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"unlabelled_split": "more"}, "no split `more` (data.unlabelled_split)"),
        ({"label": "lable"}, "no column `lable` (data.label); did you mean `label`?"),
        ({"image": "imgae"}, "no column `imgae` (data.image); did you mean `image`?"),
        ({"image": "label"}, "column `label` (data.image) holds no image files"),
    ],
)
def test_wrong_names_are_errors(load, folder, more, words):
    with pytest.raises(DataError) as caught:
        load(folder, **more)
    assert words in caught.value.message


def encode_png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_a_parquet_file_of_plain_bytes(load, tmp_path):
    table = pa.table({"img": [encode_png(pixels) for pixels in PIXELS[:3]], "label": ["b", "a", None]})
    pq.write_table(table, tmp_path / "a.parquet")
    data = load(tmp_path / "a.parquet")
    assert data.class_names == ("a", "b")
    assert data.splits["train"].labels.tolist() == [1, 0, -1]
    np.testing.assert_array_equal(data.splits["train"].columns["image"], PIXELS[:3])
    assert any("no split `test`" in note for note in data.notes)


def test_cells_that_are_no_images(load, tmp_path):
    pq.write_table(
        pa.table({"img": [encode_png(PIXELS[0]), b"x", None], "label": [1, 2, 3]}), tmp_path / "a.parquet"
    )
    with pytest.raises(DataError, match="train:2: it is not an image of a known type") as caught:
        load(tmp_path / "a.parquet")
    assert caught.value.details == ("train:3: the cell is empty", "2 of 3 images cannot be read")
    data = load(tmp_path / "a.parquet", on_error="keep")
    assert data.splits["train"].ids.tolist() == ["train:1"]


@pytest.mark.parametrize("count", [0, 2])
def test_which_column_must_be_plain(load, tmp_path, count):
    cells = {f"img{index}": [encode_png(PIXELS[0])] for index in range(count)}
    pq.write_table(pa.table({**cells, "label": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=rf"has {count or 'no'} columns of images") as caught:
        load(tmp_path / "a.parquet")
    assert "data.image" in caught.value.hint
    if count:
        assert load(tmp_path / "a.parquet", image="img1").columns[0].shape == (6, 5, 3)


def test_the_recipe_decides_the_request_to_the_hub(monkeypatch, tmp_path):
    requests = []

    def load_dataset(path, name, *, revision):
        requests.append((path, name, revision))
        return datasets.DatasetDict({split: dataset(rows) for split, rows in SPLITS.items()})

    monkeypatch.setattr(hub_tables, "probe", lambda path, revision: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    config = ImagesConfig(path="ufldl/svhn", name="cropped_digits", revision="abc", unlabelled_split="extra")
    data = build(config, DataContext(cache_dir=str(tmp_path))).load()
    assert requests == [("ufldl/svhn", "cropped_digits", "abc")]
    np.testing.assert_array_equal(data.splits["train"].columns["image"], PIXELS[[0, 1, 2, 3, 6, 7, 8]])
