from hashlib import blake2b

import numpy as np

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.data.fingerprint import fingerprint, row_digests
from flowgmm_cli.data.images.lazy_pixels import lazy_pixels_of

NUMBER, TEXT = Column("n", "numeric"), Column("t", "text")


def rows(numbers, texts, labels=None):
    labels = np.zeros(len(numbers), np.int64) if labels is None else np.array(labels)
    columns = {"n": np.array(numbers, dtype=float), "t": np.array(texts, dtype=object)}
    return Rows(columns, labels, np.arange(len(numbers)).astype(str))


def test_all_nan_and_both_zeros_have_equal_digests():
    other = -np.nan  # a NaN with another sign bit
    digests = row_digests(rows([0.0, -0.0, np.nan, other], ["x"] * 4), [NUMBER, TEXT])
    assert digests[0] == digests[1]
    assert digests[2] == digests[3]
    assert digests[0] != digests[2]


def test_an_empty_cell_differs_from_an_empty_text_and_cells_do_not_run_together():
    texts = [Column("t", "text"), Column("u", "text")]
    columns = {
        "t": np.array(["ab", "a", None, ""], dtype=object),
        "u": np.array(["c", "bc", "x", "x"], dtype=object),
    }
    digests = row_digests(Rows(columns, np.zeros(4, np.int64), np.arange(4).astype(str)), texts)
    assert len(set(digests)) == 4


def test_lone_surrogates_can_be_digested():
    assert len(row_digests(rows([1], ["\ud800"]), [TEXT])) == 1


def of(data, names=("a", "b")):
    columns = [NUMBER, TEXT]
    return fingerprint(columns, names, {"train": data}, {"train": row_digests(data, columns)})


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
    assert of(rows([1, np.nan], ["ü", None]), ("a",)) == "8f7be4f42ccf50808263fc8e3c0d7ce9"


def images(pixels):
    return Rows({"image": pixels}, np.full(len(pixels), -1), np.arange(len(pixels)))


def test_images_have_the_same_digests_in_memory_and_on_the_disk():
    pixels = np.random.default_rng(0).integers(0, 2, (3_000, 2, 2), dtype=np.uint8)
    column = Column("image", "image", (2, 2))
    digests = row_digests(images(pixels), [column])
    assert digests.tolist() == row_digests(images(lazy_pixels_of(pixels)), [column]).tolist()
    assert digests.tolist() == row_digests(images(np.asfortranarray(pixels)), [column]).tolist()
    assert len(set(digests)) == len(np.unique(pixels, axis=0))


def test_a_digest_covers_the_cells_in_order():
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(2_500, 5))  # more than are hashed at once
    numbers[rng.random(numbers.shape) < 0.1] = np.nan
    vectors = rng.normal(size=(2_500, 2, 3)).astype(np.float32)
    words = np.array([None if row % 5 == 0 else f"wörd {row}" for row in range(2_500)], dtype=object)
    cells = {
        "a": numbers[:, 0],
        "b": numbers[:, 1],
        "w": words,
        "v": words[::-1],
        "c": numbers[:, 2],
        "m": vectors,
    }
    columns = [Column(name, "text" if name in "wv" else "numeric") for name in cells if name != "m"]
    digests = row_digests(
        Rows(cells, np.zeros(2_500, np.int64), np.arange(2_500)), [*columns, Column("m", "vector", (2, 3))]
    )

    def data(cell):
        if cell is None or isinstance(cell, str):
            return b"-" if cell is None else f"{len(cell.encode())}:{cell}".encode()
        return np.where(np.isnan(cell), np.nan, np.asarray(cell, dtype="<f8")).tobytes()

    for row in range(2_500):
        whole = b"".join(data(column[row]) for column in cells.values())
        assert digests[row] == blake2b(whole, digest_size=16).digest()


def test_no_rows_have_no_digests():
    assert row_digests(rows([], []), [NUMBER, TEXT]).tolist() == []


def test_neighbouring_columns_are_hashed_together(monkeypatch):
    """A call for each cell took most of the time that comes before training."""
    pieces = []

    class Counted:
        def __init__(self, digest_size):
            self.state = blake2b(digest_size=digest_size)

        def update(self, piece):
            pieces.append(piece)
            self.state.update(piece)

        def digest(self):
            return self.state.digest()

    monkeypatch.setattr("flowgmm_cli.data.fingerprint.blake2b", Counted)
    cells = {f"x{place}": np.zeros(7) for place in range(50)}
    row_digests(Rows(cells, np.zeros(7, np.int64), np.arange(7)), [Column(name, "numeric") for name in cells])
    assert len(pieces) == 7
