import time

import numpy as np

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.data.content import fingerprint, row_digests
from flowgmm_cli.data.images.store import of_array

NUMBER, TEXT = Column("n", "numeric"), Column("t", "text")


def rows(numbers, texts, labels=None):
    labels = np.zeros(len(numbers), np.int64) if labels is None else np.array(labels)
    columns = {"n": np.array(numbers, dtype=float), "t": np.array(texts, dtype=object)}
    return Rows(columns, labels, np.arange(len(numbers)).astype(str))


def test_equal_rows_have_equal_digests_whatever_their_nan_and_zero():
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


def test_the_fingerprint_sees_content_labels_names_and_order():
    def of(data, names=("a", "b")):
        return fingerprint([NUMBER, TEXT], names, {"train": data})

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
    assert fingerprint([NUMBER, TEXT], ("a",), {"train": rows([1, np.nan], ["ü", None])}) == (
        "8f7be4f42ccf50808263fc8e3c0d7ce9"
    )


def images(pixels):
    return Rows({"image": pixels}, np.full(len(pixels), -1), np.arange(len(pixels)))


def test_images_have_the_same_digests_in_memory_and_on_the_disk():
    pixels = np.random.default_rng(0).integers(0, 2, (3_000, 2, 2), dtype=np.uint8)
    column = Column("image", "image", (2, 2))
    digests = row_digests(images(pixels), [column])
    assert digests.tolist() == row_digests(images(of_array(pixels)), [column]).tolist()
    assert digests.tolist() == row_digests(images(np.asfortranarray(pixels)), [column]).tolist()
    assert len(set(digests)) == len(np.unique(pixels, axis=0))


def test_sixty_thousand_images_take_no_time():
    pixels = np.random.default_rng(0).integers(0, 256, (60_000, 28, 28), dtype=np.uint8)
    started = time.process_time()
    row_digests(images(pixels), [Column("image", "image", (28, 28))])
    assert time.process_time() - started < 2
