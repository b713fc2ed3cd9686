"""Rows through a trained model, chunk by chunk: latents, densities, class probabilities and scores.

Small chunks are scored in parallel and come out in order, so memory does not grow with the number of rows.
For numbers on a CPU the threads of one process suffice; several processes help where the interpreter is the
limit (encoders of texts) and use several GPUs.
"""

from __future__ import annotations

import copy
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flowgmm_cli.api import DataContext, Rows, iterate_batches
from flowgmm_cli.data.preprocessor import Tensors
from flowgmm_cli.data.readers.base import Chunk, OnError, RowReader, note_once
from flowgmm_cli.devices import find_device
from flowgmm_cli.errors import DataError
from flowgmm_cli.inference.workers import run_in_processes, run_in_threads
from flowgmm_cli.scores.base import take_rows
from flowgmm_cli.trained_model import TrainedModel

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

# small enough to keep all workers busy, large enough to hide the cost of a call; a text takes longer than
# numbers
_CHUNK_ROWS, _TEXT_CHUNK_ROWS = 16384, 4096


@dataclass(frozen=True)
class ScoredRows:
    """Outputs of the model for consecutive rows of the input, in order.

    Attributes:
        start: number of rows before these.
        ids: names of the rows, `(N,)`.
        labels: true classes where the input has them, int64 `(N,)`, -1 elsewhere.
        scorable: mask of the rows that could be scored, `(N,)`; the others have NaN everywhere.
        log_probabilities: calibrated `log p(k | x)`, `(N, K)`.
        log_density: `log p(x)` in nats, including the transforms' log-determinant, `(N,)`.
        ood: out-of-distribution scores by name, each `(N,)`, higher = further out.
        z: latents, float32 `(N, D)`; None unless requested.
        x: the flow's input, float32 `(N, D)`; None unless requested.
        problems: position among these rows -> reason why the row could not be scored.
    """

    start: int
    ids: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    scorable: npt.NDArray[np.bool_]
    log_probabilities: Floats
    log_density: Floats
    ood: Mapping[str, Floats] = field(default_factory=dict)
    z: npt.NDArray[np.float32] | None = None
    x: npt.NDArray[np.float32] | None = None
    problems: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def classes(self) -> npt.NDArray[np.int64]:
        """Most probable class of each row `(N,)`, -1 where it could not be scored."""
        return np.where(self.scorable, self.log_probabilities.argmax(axis=1), -1)


@dataclass(frozen=True)
class ScoreRequest:
    """Outputs to compute for each row, and the treatment of rows that cannot be scored; see `score`."""

    scores: tuple[str, ...]
    latents: bool
    inputs: bool
    on_error: OnError
    input_name: str


@dataclass(frozen=True)
class Scorer:
    """Score chunks of rows; `context` is that of the encoders."""

    trained: TrainedModel
    request: ScoreRequest
    context: DataContext

    def __call__(self, chunk: Chunk) -> ScoredRows:
        """Preprocess rows and compute all their outputs."""
        return self.compute(chunk, *self.preprocess(chunk))

    def preprocess(self, chunk: Chunk) -> tuple[Tensors, dict[int, str]]:
        """Return tensors of the usable rows, and the problems of the others."""
        rows = chunk.rows
        split, refused = self.trained.preprocessor.apply_valid(
            rows, self.context, skip=chunk.problems, with_inputs=self.trained.image is not None
        )
        problems = dict(chunk.problems)
        problems |= {place: f"row {rows.ids[place]}: {reason}" for place, reason in refused.items()}
        self._raise_for(problems)
        return split, problems

    def compute(self, chunk: Chunk, split: Tensors, problems: dict[int, str]) -> ScoredRows:
        """Compute the outputs of preprocessed rows."""
        scorable = np.ones(len(chunk), dtype=bool)
        scorable[list(problems)] = False
        rows = self.trained.encode_rows(split)
        finite = rows.log_density.isfinite() & ~rows.log_posterior.isnan().any(dim=1)
        if not finite.all():
            for place in np.flatnonzero(scorable)[~finite.numpy()].tolist():
                problems[place] = (
                    f"row {chunk.rows.ids[place]}: the model's density of it is not a finite number"
                )
                scorable[place] = False
            self._raise_for(problems)
            rows = take_rows(rows, np.flatnonzero(finite.numpy()))
        ood: dict[str, Floats] = {}
        if self.request.scores:
            with torch.no_grad():
                ood = self.trained.require_detector()(rows, self.request.scores)

        def expand(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            """Give each row of the chunk its values, NaN where it has none."""
            if scorable.all():
                return values
            full = np.full((len(scorable), *values.shape[1:]), np.nan, dtype=values.dtype)
            full[scorable] = values
            return full

        return ScoredRows(
            start=chunk.start,
            ids=chunk.rows.ids,
            labels=chunk.rows.labels,
            scorable=scorable,
            log_probabilities=expand(rows.log_posterior.double().numpy()),
            log_density=expand(rows.log_density.numpy()),
            ood={name: expand(values) for name, values in ood.items()},
            z=expand(rows.latents.z.float().numpy()) if self.request.latents else None,
            x=expand(rows.x.numpy()) if self.request.inputs else None,
            problems=dict(sorted(problems.items())),
        )

    def _raise_for(self, problems: Mapping[int, str]) -> None:
        if problems and self.request.on_error == "fail":
            raise DataError(
                f"{self.request.input_name}, {problems[min(problems)]}",
                hint="correct it, or keep such rows without an answer: --on-error keep",
            )


def score(
    trained: TrainedModel,
    reader: RowReader,
    *,
    scores: Sequence[str] = (),
    latents: bool = False,
    inputs: bool = False,
    context: DataContext | None = None,
    on_error: OnError = "keep",
    device: str = "auto",
    processes: int = 1,
    folder: Path | None = None,
) -> Iterator[ScoredRows]:
    """Score all rows of an input, in order.

    Args:
        trained: the model.
        reader: the rows.
        scores: names of out-of-distribution scores to compute.
        latents: return latent vectors.
        inputs: return the flow's inputs.
        context: context of the encoders; vectors of texts are not cached on disk.
        on_error: `fail` raises for a row that cannot be scored, `keep` gives it NaN and an entry in
            `problems`.
        device: `auto`, `cpu` or `cuda`; several processes use one GPU each, as far as there are enough.
        processes: number of processes.
        folder: run directory from which several processes load the model.

    Raises:
        DataError: the input is malformed; with `on_error="fail"`, a row cannot be scored.
        RunError: scores are requested of a model that has none.
        RunFailedError: a process was killed.
        UsageError: there is no score or device of that name.
    """
    if scores:
        trained.require_detector()
    context = context or DataContext()
    target = find_device(device, option="--device ", names=("auto", "cpu", "cuda"))
    request = ScoreRequest(tuple(scores), latents, inputs, on_error, reader.name)
    chunks = split_chunks(reader, trained)
    threads = torch.get_num_threads()
    if processes > 1 and folder is not None:
        yield from run_in_processes(
            _score_chunk,
            chunks,
            processes=processes,
            initializer=_load_scorer,
            initargs=(folder.absolute(), request, context.offline, target.type, max(1, threads // processes)),
        )
        return
    quiet = DataContext(offline=context.offline, note=note_once(context), streaming=True)
    scorer = Scorer(to_device(trained, target), request, quiet)
    # text encoders have threads of their own, and not all of them are thread-safe: only this thread calls
    # them
    has_texts = _has_texts(trained)
    yield from run_in_threads(
        (partial(scorer.compute, chunk, *scorer.preprocess(chunk)) for chunk in chunks)
        if has_texts
        else (partial(scorer, chunk) for chunk in chunks),
        workers=threads if target.type == "cpu" else 1,
        threads=threads if has_texts else 1,
    )


_scorers: list[Scorer] = []  # the scorer of a worker process


def _load_scorer(
    rank: int, folder: Path, request: ScoreRequest, offline: bool, device: str, threads: int
) -> None:
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process stops the workers
    torch.set_num_threads(threads)
    threadpool_limits(limits=threads, user_api="blas")
    index = rank % torch.cuda.device_count() if device == "cuda" else None
    target = torch.device(device) if index is None else torch.device(device, index)
    context = DataContext(offline=offline, streaming=True)
    trained = to_device(TrainedModel.load(folder, context=context), target)
    _scorers.append(Scorer(trained, request, context))


def _score_chunk(chunk: Chunk) -> ScoredRows:
    return _scorers[0](chunk)


def to_device(trained: TrainedModel, device: torch.device) -> TrainedModel:
    """Return the same with its model on a device."""
    current = trained.model.temperature.device
    if device.type == current.type and device.index in (None, current.index):
        return trained
    return replace(trained, model=copy.deepcopy(trained.model).to(device))


def split_chunks(reader: RowReader, trained: TrainedModel) -> Iterator[Chunk]:
    """Divide the reader's chunks into small ones, in order."""
    size = _TEXT_CHUNK_ROWS if _has_texts(trained) else _CHUNK_ROWS
    for chunk in reader:
        for part in iterate_batches(len(chunk), size):
            rows = Rows(
                columns={name: cells[part] for name, cells in chunk.rows.columns.items()},
                labels=chunk.rows.labels[part],
                ids=chunk.rows.ids[part],
            )
            problems = {
                place - part.start: reason
                for place, reason in chunk.problems.items()
                if part.start <= place < part.stop
            }
            yield Chunk(rows, chunk.start + part.start, problems)


def _has_texts(trained: TrainedModel) -> bool:
    return any(column.kind == "text" for column in trained.preprocessor.columns)
