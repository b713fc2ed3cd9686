"""The scoring stream against the model itself on the same rows."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.data.readers.base import Chunk, MemoryReader, RowReader
from flowgmm_cli.errors import DataError, RunError
from flowgmm_cli.inference.scores import OODRule, Scores
from flowgmm_cli.inference.scoring import score
from flowgmm_cli.scores.detector import Detector, fit_detector
from flowgmm_cli.trained_model import TrainedModel

MakeTrained = Callable[..., TrainedModel]
CONTEXT = DataContext()


def own(trained: TrainedModel) -> Rows:
    rows = load_rows(trained.recipe.data, CONTEXT).test
    assert rows is not None
    return rows


@pytest.fixture
def trained(make_trained: MakeTrained) -> TrainedModel:
    """A model with a detector of two scores."""
    made = make_trained("ood.scores=[{use: nll}, {use: latent_knn}]", "data.test_n=300")
    return replace(made, detector=detector_of(made))


def detector_of(trained: TrainedModel) -> Detector:
    seen = trained.encode_rows(trained.preprocessor.apply(own(trained), CONTEXT, with_inputs=True))
    return fit_detector(trained.recipe.ood.scores, seen, seen, trained.model, 0)


def chunk_of(rows: Rows, **values: Any) -> Chunk:
    return Chunk(**vars(rows), **values)


class Chunks:
    """A reader of given chunks, or of an error after them, that notes where those it has read begin."""

    name, total = "x.csv", None

    def __init__(self, *chunks: Chunk | DataError) -> None:
        self.chunks, self.read = chunks, list[int]()

    def __iter__(self) -> Iterator[Chunk]:
        for chunk in self.chunks:
            if isinstance(chunk, DataError):
                raise chunk
            self.read.append(chunk.start)
            yield chunk


def whole(stream: Iterator[Scores]) -> Scores:
    """All pieces as one."""
    pieces = list(stream)
    starts = np.cumsum([0, *(len(piece) for piece in pieces)])[:-1]
    assert [piece.start for piece in pieces] == starts.tolist()
    return Scores.concatenate(pieces)


def test_scores_equal_the_outputs_of_the_model(trained: TrainedModel) -> None:
    rows = own(trained)
    split = trained.preprocessor.apply(rows, CONTEXT)
    seen, reader = trained.encode_rows(split), MemoryReader(rows, "test")
    rule = OODRule("nll", 1.0, 0.05)
    found = whole(score(trained, reader, rule=rule, scores=("latent_knn",), space="latent"))
    assert found.scorable.all()
    assert found.ids.tolist() == rows.ids.tolist()
    assert found.labels.tolist() == rows.labels.tolist()
    assert np.allclose(found.log_probabilities, seen.log_posterior, atol=1e-5)
    assert np.allclose(found.log_density, seen.log_density, atol=1e-5)
    assert found.classes.tolist() == seen.log_posterior.argmax(1).tolist()
    inputs = whole(score(trained, reader, space="input"))
    assert found.vectors is not None
    assert inputs.vectors is not None
    assert np.allclose(found.vectors, seen.latents.z.numpy(), atol=1e-6)
    assert np.allclose(inputs.vectors, split.x.numpy(), atol=1e-6)
    assert inputs.ood == {}
    assert list(found.ood) == ["nll", "latent_knn"]
    assert np.array_equal(found.is_ood, found.ood["nll"] > 1)
    assert trained.detector is not None
    for name, values in trained.detector(seen).items():
        assert np.allclose(found.ood[name], values, atol=1e-5)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads, for this test only."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_rows_do_not_depend_on_their_neighbours_or_on_threads(
    trained: TrainedModel, threads: int, chunk: int
) -> None:
    rows = own(trained).take(np.arange(120))
    plain = whole(score(trained, MemoryReader(rows, "test"), scores=("nll",), space="latent"))
    reader = MemoryReader(rows, "test", chunk_rows=chunk)
    found = whole(score(trained, reader, scores=("nll",), space="latent"))
    assert torch.get_num_threads() == threads
    assert found.ids.tolist() == plain.ids.tolist()
    assert np.allclose(found.log_probabilities, plain.log_probabilities, atol=1e-5)
    assert np.allclose(found.ood["nll"], plain.ood["nll"], atol=1e-5)
    assert np.allclose(found.vectors, plain.vectors, atol=1e-5)


def spoiled(trained: TrainedModel) -> tuple[Rows, dict[int, str]]:
    """Rows of which some cannot be used, and some cannot even be read."""
    rows = own(trained).take(np.arange(40))
    column, cells = next(iter(rows.columns.items()))
    cells = cells.copy()
    cells[3], cells[17], cells[39] = np.nan, np.inf, 1e300
    return replace(rows, columns={**rows.columns, column: cells}), {
        5: "line 7: 1 cell, but the header has 2",
        38: "line 40: ?",
    }


def test_problems_keep_their_place(trained: TrainedModel) -> None:
    rows, problems = spoiled(trained)
    bad = [3, 5, 17, 38, 39]
    reader = Chunks(chunk_of(rows, problems=problems))
    found = whole(score(trained, reader, scores=("nll",), space="latent"))
    assert np.flatnonzero(~found.scorable).tolist() == bad
    assert sorted(found.problems) == bad
    assert found.problems[5] == problems[5]
    assert found.problems[3].startswith(f"row {rows.ids[3]}: ")
    for values in (found.log_probabilities, found.log_density, found.ood["nll"], found.vectors):
        assert values is not None
        missing = np.isnan(values).reshape(40, -1)
        assert missing.all(1).tolist() == missing.any(1).tolist() == (~found.scorable).tolist()
    assert found.classes[bad].tolist() == [-1] * 5
    clean = own(trained).take(np.flatnonzero(found.scorable))
    alone = whole(score(trained, MemoryReader(clean, "clean"), scores=("nll",)))
    assert np.allclose(found.log_probabilities[found.scorable], alone.log_probabilities, atol=1e-5)
    assert found.ids[found.scorable].tolist() == alone.ids.tolist()


@pytest.mark.parametrize("place", [3, 39])
def test_a_bad_row_is_an_error_if_on_error_is_fail(trained: TrainedModel, place: int) -> None:
    rows, _ = spoiled(trained)
    rows = rows.take(np.array([0, 1, place, 2]))
    with pytest.raises(DataError, match=rf"x\.csv, row {rows.ids[2]}: ") as caught:
        list(score(trained, Chunks(chunk_of(rows)), on_error="fail"))
    assert "--on-error keep" in str(caught.value.hint)


def test_a_density_that_is_no_number_is_a_problem_of_its_row(trained: TrainedModel) -> None:
    rows = own(trained).take(np.arange(6))

    class Odd(torch.nn.Module):
        def __init__(self, flow: torch.nn.Module) -> None:
            super().__init__()
            self.flow = flow

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            z, log_det = self.flow(x)
            odd = x[:, 0] == x[:, 0].max()
            return z, torch.where(odd, math.nan, log_det)

    trained.model.flow = Odd(trained.model.flow)  # type: ignore[assignment]
    found = whole(score(trained, MemoryReader(rows, "test"), scores=("nll",)))
    assert (~found.scorable).sum() == 1
    assert "not a finite number" in next(iter(found.problems.values()))
    assert np.isfinite(found.ood["nll"][found.scorable]).all()


# --- work side by side ------------------------------------------------------------------------------------


def test_only_a_few_chunks_are_read_ahead(trained: TrainedModel, threads: int) -> None:
    rows = own(trained)
    chunks = [chunk_of(rows.take(np.arange(start, start + 10)), start=start) for start in range(0, 300, 10)]
    reader = Chunks(*chunks)
    stream = score(trained, reader)
    for taken in range(5):
        next(stream)
        assert len(reader.read) <= taken + 2 * threads + 1
    stream.close()


def test_a_closed_stream_leaves_no_threads(trained: TrainedModel) -> None:
    before = threading.active_count()
    stream = score(trained, MemoryReader(own(trained), "test", chunk_rows=10))
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_an_error_of_the_reader_comes_through(trained: TrainedModel) -> None:
    reader = Chunks(chunk_of(own(trained).take(np.arange(4))), DataError("cut short"))
    with pytest.raises(DataError, match="cut short"):
        list(score(trained, reader))


# --- texts, notes, devices --------------------------------------------------------------------------------


def test_notes_are_printed_once_and_vectors_of_texts_are_not_cached(
    trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    contexts: list[DataContext] = []
    apply = type(trained.preprocessor).apply_valid

    def noisy(self: object, rows: Rows, context: DataContext, **options: object) -> object:
        contexts.append(context)
        context.note("some cells are new")
        return apply(self, rows, context, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(trained.preprocessor), "apply_valid", noisy)
    reader: RowReader = MemoryReader(own(trained), "test", chunk_rows=50)
    list(score(trained, reader, context=DataContext(cache_dir=str(tmp_path), note=told.append)))
    assert told == ["some cells are new"]
    assert len(contexts) == 6
    assert all(context.streaming for context in contexts)


def test_scores_of_a_model_without_them_are_an_error(make_trained: MakeTrained) -> None:
    trained = make_trained()
    reader = MemoryReader(own(trained), "test")
    assert whole(score(trained, reader)).ood == {}
    with pytest.raises(RunError, match="no out-of-distribution scores"):
        list(score(trained, reader, scores=("nll",)))
