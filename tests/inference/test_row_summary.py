"""The summary of training rows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.inference import row_summary
from flowgmm_cli.inference.row_summary import decode_words, number_series, summarise_rows, word_shares


def rows_of(name: str, cells: np.typing.NDArray[np.generic]) -> Rows:
    return Rows({name: cells}, np.full(len(cells), -1), np.arange(len(cells)).astype(str))


def test_numbers_have_a_range_quantiles_and_a_share_of_missing_cells() -> None:
    cells = np.append(np.arange(100.0), [np.nan, np.inf])
    summary = json.loads(json.dumps(summarise_rows(rows_of("x", cells), [Column("x", "numeric")])))
    assert summary["rows"] == 102
    numbers = summary["numbers"]["x"]
    assert numbers["range"] == [0, 99]
    assert numbers["quantiles"] == pytest.approx(np.quantile(cells[:100], [0.05, 0.5, 0.95]))
    assert numbers["missing"] == pytest.approx(2 / 102)


def test_entries_of_short_vectors_are_apart_and_those_of_images_together() -> None:
    cells = np.random.default_rng(0).normal(size=(10, 3))
    series = number_series(Column("v", "vector", (3,)), cells)
    assert list(series) == ["v[0]", "v[1]", "v[2]"]
    assert (series["v[1]"] == cells[:, [1]]).all()
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), dtype=np.uint8)
    (series,) = number_series(Column("p", "image", (4, 5, 3)), images).values()
    flat = images.reshape(10, -1).astype(float)
    assert np.allclose(series, np.stack([flat.min(1), flat.mean(1), flat.max(1)], axis=1))


def test_large_images_are_summarised_by_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_summary, "_MAX_NUMBERS", 64 * 600)
    images = np.zeros((2000, 8, 8), dtype=np.uint8)
    assert summarise_rows(rows_of("p", images), [Column("p", "image", (8, 8))])["rows"] == 600


def test_a_word_is_known_if_two_other_texts_have_it() -> None:
    texts = np.array(["The red card", "the RED car", "the red cat", "the dog", None, " "], dtype=object)
    summary = summarise_rows(rows_of("t", texts), [Column("t", "text")])["words"]["t"]
    # of the texts themselves `the` and `red` occur in two others each, the last words in none
    assert summary["median"] == pytest.approx(np.median([2 / 3, 2 / 3, 2 / 3, 1 / 2]))
    known = decode_words(summary["known"])
    new = np.array(["a red the", "DOG", "123 !", "?!", "", None], dtype=object)
    assert word_shares(new, known)[:4] == pytest.approx([2 / 3, 0, 0, 0])
    assert np.isnan(word_shares(new, known)[4:]).all()
