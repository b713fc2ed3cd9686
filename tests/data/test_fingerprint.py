import struct
from hashlib import blake2b

import numpy as np

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.data.fingerprint import fingerprint, row_hashes
from flowgmm_cli.data.images.arrays import lazy_pixels_of

NUMBER, TEXT = Column("n", "numeric"), Column("t", "text")


def rows(numbers, texts, labels=None):
    labels = np.zeros(len(numbers), np.int64) if labels is None else np.array(labels)
    columns = {"n": np.array(numbers, dtype=float), "t": np.array(texts, dtype=object)}
    return Rows(columns, labels, np.arange(len(numbers)).astype(str))


def test_all_nan_and_both_zeros_have_equal_hashes():
    other = -np.nan  # a NaN with another sign bit
    hashes = row_hashes(rows([0.0, -0.0, np.nan, other], ["x"] * 4), [NUMBER, TEXT])
    assert hashes[0] == hashes[1]
    assert hashes[2] == hashes[3]
    assert hashes[0] != hashes[2]


def test_an_empty_cell_differs_from_an_empty_text_and_cells_do_not_run_together():
    texts = [Column("t", "text"), Column("u", "text")]
    columns = {
        "t": np.array(["ab", "a", None, ""], dtype=object),
        "u": np.array(["c", "bc", "x", "x"], dtype=object),
    }
    hashes = row_hashes(Rows(columns, np.zeros(4, np.int64), np.arange(4).astype(str)), texts)
    assert len(set(hashes)) == 4


def test_lone_surrogates_can_be_hashed():
    assert len(row_hashes(rows([1], ["\ud800"]), [TEXT])) == 1


def of(data, names=("a", "b")):
    columns = [NUMBER, TEXT]
    return fingerprint(columns, names, {"train": data}, {"train": row_hashes(data, columns)})


def test_the_fingerprint_sees_content_labels_names_and_order():
    base = of(rows([1, 2], ["x", "y"]))
    assert base == of(rows([1, 2], ["x", "y"]))
    variants = {
        of(rows([1, 3], ["x", "y"])),
        of(rows([1, 2], ["x", "z"])),
        of(rows([1, 2], ["x", "y"], [0, 1])),
        of(rows([2, 1], ["y", "x"])),
        of(rows([1, 2], ["x", "y"]), ("a", "c")),
    }
    assert len(variants | {base}) == 6


def test_the_fingerprint_is_the_same_on_every_machine():
    assert of(rows([1, np.nan], ["ü", None]), ("a",)) == "7731e337d9a16f137fed74b45dec58d1"


def test_a_hash_mixes_the_words_of_a_row():
    expected = 0
    for word in (struct.unpack("<Q", struct.pack("<d", 1.5))[0], hash_of_text("x")):
        expected = (expected ^ word ^ word >> 31) * 0x9E3779B97F4A7C15 % 2**64
        expected ^= expected >> 29
    assert row_hashes(rows([1.5], ["x"]), [NUMBER, TEXT]).tolist() == [expected]


def hash_of_text(text):
    return int.from_bytes(blake2b(b"+" + text.encode(), digest_size=8).digest(), "little")


def images(pixels):
    return Rows({"image": pixels}, np.full(len(pixels), -1), np.arange(len(pixels)))


def test_images_have_the_same_hashes_in_memory_and_on_the_disk():
    pixels = np.random.default_rng(0).integers(0, 2, (3_000, 2, 2), dtype=np.uint8)
    column = Column("image", "image", (2, 2))
    hashes = row_hashes(images(pixels), [column])
    assert hashes.tolist() == row_hashes(images(lazy_pixels_of(pixels)), [column]).tolist()
    assert hashes.tolist() == row_hashes(images(np.asfortranarray(pixels)), [column]).tolist()
    assert len(set(hashes)) == len(np.unique(pixels, axis=0))


def test_a_hash_covers_all_cells_in_order():
    rng = np.random.default_rng(0)
    size = 20_000  # more than are hashed at once
    cells = {
        "a": rng.integers(0, 3, size).astype(float),
        "w": np.array([None, "", "-", "wörd"], dtype=object)[rng.integers(0, 4, size)],
        "v": np.array(["x", "y"], dtype=object)[rng.integers(0, 2, size)],
        "b": np.array([np.nan, -1.0, 1.0])[rng.integers(0, 3, size)],
        "m": rng.integers(0, 2, (size, 2, 2)).astype(np.float32),
        "p": rng.integers(0, 2, (size, 3, 3), dtype=np.uint8),
        "long": rng.integers(0, 2, (size, 1)) * np.arange(100),
    }
    kinds = {"w": "text", "v": "category", "m": "vector", "p": "image", "long": "vector"}
    columns = [Column(name, kinds.get(name, "numeric"), array.shape[1:]) for name, array in cells.items()]
    hashes = row_hashes(Rows(cells, np.zeros(size, np.int64), np.arange(size)), columns).tolist()
    contents = [
        repr([array[row].tolist() if array.ndim > 1 else array[row] for array in cells.values()])
        for row in range(size)
    ]
    assert len(set(hashes)) == len(set(contents)) == len(set(zip(hashes, contents, strict=True)))
    cells["a"], cells["b"] = cells["b"], cells["a"]
    assert row_hashes(Rows(cells, np.zeros(size, np.int64), np.arange(size)), columns).tolist() != hashes


def test_no_rows_have_no_hashes():
    assert row_hashes(rows([], []), [NUMBER, TEXT]).tolist() == []
