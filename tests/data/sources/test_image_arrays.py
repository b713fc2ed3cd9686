import gzip
import os
import struct
import tracemalloc

import numpy as np
import pytest

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.data.fingerprint import row_hashes
from flowgmm_cli.data.images.arrays import LazyPixels
from flowgmm_cli.data.sources import images
from flowgmm_cli.errors import DataError

DRAWN = np.random.default_rng(0)
GREY = DRAWN.integers(0, 256, (10, 6, 5), dtype=np.uint8)
COLOUR = DRAWN.integers(0, 256, (10, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(10, dtype=np.uint8) % 3
IMAGE = Column("image", "image", COLOUR.shape[1:])


@pytest.fixture
def idx(tmp_path):
    def write(name, array):
        head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        data = head + array.tobytes()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path / name

    return write


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dash", ["-", "."])
def test_a_folder_like_mnists(load, idx, tmp_path, suffix, dash):
    idx(f"train-images{dash}idx3-ubyte{suffix}", GREY)
    idx(f"train-labels{dash}idx1-ubyte.gz", LABELS)
    idx(f"t10k-images{dash}idx3-ubyte{suffix}", GREY[:4])
    idx(f"t10k-labels{dash}idx1-ubyte", LABELS[:4])
    data = load(tmp_path, class_names=["ox", "elk", "cow"])
    assert data.class_names == ("ox", "elk", "cow")
    np.testing.assert_array_equal(data.splits["train"].columns["image"], GREY)
    np.testing.assert_array_equal(data.splits["test"].columns["image"], GREY[:4])
    assert data.splits["train"].labels.tolist() == LABELS.tolist()
    assert data.splits["test"].ids.tolist() == ["test:1", "test:2", "test:3", "test:4"]
    assert data.notes == ()


def test_test_images_alone_are_a_single_split(load, idx, tmp_path):
    idx("t10k-images-idx3-ubyte", GREY)
    idx("t10k-labels-idx1-ubyte", LABELS)
    data = load(tmp_path)
    assert set(data.splits) == {"train"}
    assert "data.split.test" in data.notes[0]


def test_single_files(load, idx):
    train = idx("emnist-train-images-idx3-ubyte", GREY)
    idx("emnist-train-labels-idx1-ubyte", LABELS)
    test = idx("other.idx", GREY[:3])
    data = load(train, test_path=str(test))
    assert data.splits["train"].labels.tolist() == LABELS.tolist()
    assert data.splits["test"].labels.tolist() == [-1, -1, -1]
    assert any("other.idx has no labels" in note for note in data.notes)


def test_several_sets_in_a_folder(load, idx, tmp_path):
    for name in ("letters", "digits"):
        idx(f"{name}-train-images-idx3-ubyte", GREY)
    with pytest.raises(DataError, match="several sets of IDX files") as caught:
        load(tmp_path)
    assert len(caught.value.details) == 2


def test_labels_of_another_length(load, idx, tmp_path):
    idx("train-images-idx3-ubyte", GREY)
    idx("train-labels-idx1-ubyte", LABELS[:5])
    with pytest.raises(DataError, match=r"10 rows, but labels of shape \(5,\)"):
        load(tmp_path)


def test_idx_files_of_numbers_are_no_images(load, idx):
    with pytest.raises(DataError, match="must hold images"):
        load(idx("train-labels-idx1-ubyte", LABELS))


def test_rows_that_a_file_only_claims_take_no_memory(load, tmp_path):
    claimed = 2**22
    (tmp_path / "a.idx").write_bytes(struct.pack(">HBB3I", 0, 8, 3, claimed, 1, 1) + bytes(9))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="ends after row 9"):
            load(tmp_path / "a.idx")
        assert tracemalloc.get_traced_memory()[1] < 4 * claimed  # pixels of a byte, but no label of each
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "names",
    [("x", "y", "x_test", "y_test"), ("x_train", "y_train", "x_test", "y_test"),
     ("train_images", "train_labels", "test_images", "test_labels")],
)  # fmt: skip
def test_arrays_of_the_usual_names(load, tmp_path, names):
    arrays = dict(zip(names, [COLOUR, LABELS[:, None], COLOUR[:4], LABELS[:4]], strict=True))
    np.savez(tmp_path / "a.npz", **arrays, names=np.array(["ox", "elk", "cow"]))
    data = load(tmp_path / "a.npz")
    assert data.class_names == ("ox", "elk", "cow")
    np.testing.assert_array_equal(data.splits["train"].columns["image"], COLOUR)
    assert data.splits["test"].labels.tolist() == LABELS[:4].tolist()
    assert data.columns[0].shape == (6, 5, 3)


def test_named_arrays_and_unlabelled_rows(load, tmp_path):
    y = LABELS.astype(int)
    y[3:] = -1
    np.savez(tmp_path / "a.npz", pictures=COLOUR.transpose(0, 3, 1, 2), kinds=y, x=GREY[:2])
    data = load(tmp_path / "a.npz", x="pictures", y="kinds")
    np.testing.assert_array_equal(data.splits["train"].columns["image"], COLOUR)
    assert data.splits["train"].labels.tolist() == [0, 1, 2, *[-1] * 7]
    with pytest.raises(DataError, match=r"no array `pictrues` \(data.x\); did you mean `pictures`"):
        load(tmp_path / "a.npz", x="pictrues")


def test_arrays_without_labels_or_images(load, tmp_path):
    np.savez(tmp_path / "a.npz", x=GREY)
    data = load(tmp_path / "a.npz")
    assert data.splits["train"].labels.tolist() == [-1] * 10
    assert "array `x` has no labels; data.y can name them" in data.notes[0]
    np.savez(tmp_path / "b.npz", x=GREY.reshape(10, -1), y=LABELS)
    with pytest.raises(DataError, match=r"b\.npz, `train` must hold images"):
        load(tmp_path / "b.npz")
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "c.npz")


def test_size_and_channels_of_arrays(load, tmp_path):
    np.savez(tmp_path / "a.npz", x=GREY, y=LABELS)
    assert load(tmp_path / "a.npz", channels="colour").columns[0].shape == (6, 5, 3)
    assert load(tmp_path / "a.npz", size=4, resize="crop").columns[0].shape == (4, 4)
    with pytest.raises(DataError, match="5x6 pixels"):
        load(tmp_path / "a.npz", size=4)
    np.savez(tmp_path / "b.npz", x=GREY, y=LABELS, x_test=COLOUR, y_test=LABELS)
    data = load(tmp_path / "b.npz")
    assert data.splits["train"].columns["image"].shape == data.splits["test"].columns["image"].shape
    assert data.notes == ("`train`: grey is turned into colour",)
    np.savez(tmp_path / "b.npz", x=GREY, y=LABELS, x_test=GREY[:, :5], y_test=LABELS)
    with pytest.raises(DataError, match="images differ in size: the image in `train` is 5x6"):
        load(tmp_path / "b.npz")


def test_npy_files(load, tmp_path):
    np.save(tmp_path / "x.npy", COLOUR)
    np.save(tmp_path / "y.npy", LABELS)
    data = load(tmp_path / "x.npy", y=str(tmp_path / "y.npy"))
    assert type(data.splits["train"].columns["image"]) is np.ndarray
    assert data.splits["train"].labels.tolist() == LABELS.tolist()
    lazy = load(tmp_path / "x.npy", y=str(tmp_path / "y.npy"), memory=0.0)
    assert isinstance(lazy.splits["train"].columns["image"], LazyPixels)
    np.testing.assert_array_equal(np.asarray(lazy.splits["train"].columns["image"]), COLOUR)


def test_images_on_disk_are_digested_once(load, tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", COLOUR)
    first, changed = (row_hashes(Rows({"image": x}, LABELS, LABELS), [IMAGE]) for x in (COLOUR, COLOUR[::-1]))

    def hashes():
        rows = load(tmp_path / "x.npy", memory=0.0).splits["train"]
        return row_hashes(rows, [IMAGE]).tolist()

    assert hashes() == first.tolist()
    with monkeypatch.context() as patch:
        patch.setattr(images, "row_hashes", None)
        assert hashes() == first.tolist()
    np.save(tmp_path / "x.npy", COLOUR[::-1])
    os.utime(tmp_path / "x.npy", (0, 0))  # within a tick of the clock the time would be the same
    assert hashes() == changed.tolist()


@pytest.mark.parametrize(
    ("place", "sizes", "shape"),
    [
        ("mnist", {"train": 60_000, "test": 10_000}, (28, 28)),
        ("fashion_mnist", {"train": 10_000}, (28, 28)),
        ("notmnist/t10k-images-idx3-ubyte.gz", {"train": 10_000}, (28, 28)),
        ("cifar10/cifar10_train_first4000.npz", {"train": 4_000}, (32, 32, 3)),
    ],
)
def test_real_sets(load, shared_data, place, sizes, shape):
    data = load(shared_data / place)
    assert {name: len(rows) for name, rows in data.splits.items()} == sizes
    assert data.columns[0].shape == shape
    assert len(data.class_names) == 10
    assert ("airplane" in data.class_names) == place.startswith("cifar")
    assert np.bincount(data.splits["train"].labels).min() > 300
