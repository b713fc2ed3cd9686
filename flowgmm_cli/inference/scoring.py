"""Rows through a trained model, chunk by chunk: everything per row that the commands write.

Memory stays flat however many rows there are: small pieces of them are worked on side by side, see `workers`.
"""

from __future__ import annotations

import copy
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flowgmm_cli.api import DataContext, Latents, Rows, ScoreInputs, iterate_batches
from flowgmm_cli.data.preprocessor import Tensors
from flowgmm_cli.data.readers.base import Chunk, OnError, RowReader, note_once
from flowgmm_cli.errors import DataError, RunError, RunFailedError, UsageError
from flowgmm_cli.inference.workers import iterate_results, run_in_order
from flowgmm_cli.trained import TrainedModel

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized


# rows worked on at once: of fewer, what each piece costs by itself is felt; a text alone takes long
_PIECE, _PIECE_OF_TEXTS = 16384, 4096
_NOT_FINITE = "the model's density of it is not a finite number"


@dataclass(frozen=True)
class ScoredRows:
    """What a model says of every row of one stretch of the input, in order.

    Attributes:
        start: number of rows before this stretch.
        ids: names of the rows, `(N,)`.
        labels: true classes where the input has them, int64 `(N,)`, -1 where not.
        good: which rows could be scored, `(N,)`; the others have NaN everywhere.
        log_probabilities: calibrated `log p(k | x)`, `(N, K)`.
        log_density: `log p(x)` in nats, the transforms' log-determinant included, `(N,)`.
        ood: out-of-distribution scores by name, each `(N,)`, higher = further out.
        z: latents, float32 `(N, D)`; None where nobody asked for them.
        x: the flow's input, float32 `(N, D)`; None where nobody asked for it.
        problems: position in this stretch -> why that row could not be scored.
    """

    start: int
    ids: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    good: npt.NDArray[np.bool_]
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
        """The likeliest class of each row `(N,)`, -1 where it could not be scored."""
        return np.where(self.good, self.log_probabilities.argmax(axis=1), -1)


@dataclass(frozen=True)
class Scorer:
    """What is wanted of each piece; see `score`."""

    trained: TrainedModel
    scores: tuple[str, ...]
    latents: bool
    inputs: bool
    context: DataContext
    on_error: OnError
    name: str

    def prepare(self, chunk: Chunk) -> tuple[Tensors, dict[int, str]]:
        """Tensors of the rows that can be used, and what is wrong with the others."""
        rows = chunk.rows
        split, refused = self.trained.preprocessor.apply_usable(
            rows, self.context, skip=chunk.problems, with_inputs=self.trained.image is not None
        )
        problems = dict(chunk.problems)
        problems |= {place: f"row {rows.ids[place]}: {reason}" for place, reason in refused.items()}
        self._refuse(problems)
        return split, problems

    def whole(self, chunk: Chunk) -> ScoredRows:
        """Both steps."""
        return self.finish(chunk, *self.prepare(chunk))

    def finish(self, chunk: Chunk, split: Tensors, problems: dict[int, str]) -> ScoredRows:
        """Density, probabilities, scores and latents."""
        good = np.ones(len(chunk), dtype=bool)
        good[list(problems)] = False
        seen = self.trained.encode_rows(split)
        finite = seen.log_density.isfinite() & ~seen.log_posterior.isnan().any(dim=1)
        if not finite.all():
            places = np.flatnonzero(good)[~finite.numpy()]
            problems |= {int(place): f"row {chunk.rows.ids[place]}: {_NOT_FINITE}" for place in places}
            self._refuse(problems)
            good[places] = False
            seen = _take(seen, finite)
        ood: dict[str, Floats] = {}
        if self.scores and self.trained.detector is not None:
            with torch.no_grad():
                ood = self.trained.detector(seen, self.scores)

        def spread(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            if good.all():
                return values
            full = np.full((len(good), *values.shape[1:]), np.nan, dtype=values.dtype)
            full[good] = values
            return full

        return ScoredRows(
            start=chunk.start,
            ids=chunk.rows.ids,
            labels=chunk.rows.labels,
            good=good,
            log_probabilities=spread(seen.log_posterior.double().numpy()),
            log_density=spread(seen.log_density.numpy()),
            ood={name: spread(values) for name, values in ood.items()},
            z=spread(seen.latents.z.float().numpy()) if self.latents else None,
            x=spread(seen.x.numpy()) if self.inputs else None,
            problems=dict(sorted(problems.items())),
        )

    def _refuse(self, problems: Mapping[int, str]) -> None:
        if problems and self.on_error == "fail":
            raise DataError(
                f"{self.name}, {problems[min(problems)]}",
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
    device: str | None = None,
) -> Iterator[ScoredRows]:
    """Score rows; every row of the input comes out once, in order.

    Args:
        trained: the model.
        reader: the rows.
        scores: names of out-of-distribution scores to compute.
        latents: keep latent vectors.
        inputs: keep the flow's inputs.
        context: surroundings; vectors of texts are not kept on disk.
        on_error: what becomes of rows that cannot be scored: an error, or NaN and an entry in `problems`.
        device: `cpu`, `cuda`, or `auto` (the default).

    Raises:
        DataError: the input is malformed; with `on_error="fail"`, a row cannot be scored.
        RunError: scores are asked for, but the run has none.
        UsageError: there is no score of that name, or no such device.
    """
    if scores and trained.detector is None:
        raise RunError(
            "this run has no out-of-distribution scores: it was trained by an older version",
            hint="train again to have them",
        )
    place = find_device(device or "auto")
    trained = to_device(trained, place)
    context = context or DataContext()
    quiet = DataContext(offline=context.offline, note=note_once(context), streaming=True)
    task = Scorer(trained, tuple(scores), latents, inputs, quiet, on_error, reader.name)
    # encoders of texts have threads of their own, and not all of them bear to be called by several at once
    reads_texts = _reads_texts(trained)
    threads = torch.get_num_threads()
    yield from run_in_order(
        _jobs(reader, task, alone=reads_texts),
        workers=threads if place.type == "cpu" else 1,
        threads=threads if reads_texts else 1,
    )


def to_device(trained: TrainedModel, place: torch.device) -> TrainedModel:
    """The same with its model on a device."""
    here = trained.model.temperature.device
    if place.type == here.type and place.index in (None, here.index):
        return trained
    return replace(trained, model=copy.deepcopy(trained.model).to(place))


def find_device(name: str) -> torch.device:
    """The device called `auto`, `cpu` or `cuda`.

    Raises:
        UsageError: there is no such device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device is auto, cpu or cuda, not `{name}`", hint="--device auto")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UsageError(
            "--device is cuda, but this machine has none that torch can use",
            hint="--device auto takes what is there; `flowgmm doctor` shows it",
        )
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def _jobs(reader: RowReader, task: Scorer, *, alone: bool) -> Iterator[Callable[[], ScoredRows]]:
    for chunk in split_chunks(reader, task.trained):
        yield partial(task.finish, chunk, *task.prepare(chunk)) if alone else partial(task.whole, chunk)


def _reads_texts(trained: TrainedModel) -> bool:
    return any(column.kind == "text" for column in trained.preprocessor.columns)


def split_chunks(reader: RowReader, trained: TrainedModel) -> Iterator[Chunk]:
    """The rows in small pieces, in order, for a model."""
    size = _PIECE_OF_TEXTS if _reads_texts(trained) else _PIECE
    for chunk in reader:
        for part in iterate_batches(len(chunk), size):
            yield Chunk(
                Rows(
                    columns={name: cells[part] for name, cells in chunk.rows.columns.items()},
                    labels=chunk.rows.labels[part],
                    ids=chunk.rows.ids[part],
                ),
                chunk.start + part.start,
                {at - part.start: why for at, why in chunk.problems.items() if part.start <= at < part.stop},
            )


def _take(seen: ScoreInputs, mask: torch.Tensor) -> ScoreInputs:
    latents = seen.latents
    return ScoreInputs(
        x=seen.x[mask],
        latents=Latents(latents.z[mask], latents.log_det[mask], latents.class_log_prob[mask]),
        log_posterior=seen.log_posterior[mask],
        log_density=seen.log_density[mask],
        images=None if seen.images is None else seen.images[mask],
    )


@dataclass(frozen=True)
class _Wanted:
    """A `Task` as it is sent to a process, which loads the model by itself."""

    folder: Path
    scores: tuple[str, ...]
    latents: bool
    inputs: bool
    offline: bool
    on_error: OnError
    name: str
    device: str
    threads: int


def score_by(
    processes: int,
    folder: Path,
    trained: TrainedModel,
    reader: RowReader,
    *,
    scores: Sequence[str] = (),
    latents: bool = False,
    inputs: bool = False,
    context: DataContext | None = None,
    on_error: OnError = "keep",
    device: str | None = None,
) -> Iterator[ScoredRows]:
    """Score rows with several processes; every row of the input comes out once, in order.

    On GPUs each process has one of its own, as far as there are enough.

    Args:
        processes: how many; 1 scores here.
        folder: the run whose model it is.
        trained, reader, scores, latents, inputs, context, on_error, device: see `score`.

    Raises:
        RunFailedError: a process has been killed.
        FlowgmmError: as for `score`.
    """
    context = context or DataContext()
    if processes == 1:
        yield from score(
            trained,
            reader,
            scores=scores,
            latents=latents,
            inputs=inputs,
            context=context,
            on_error=on_error,
            device=device,
        )
        return
    wanted = _Wanted(
        folder.absolute(),
        tuple(scores),
        latents,
        inputs,
        context.offline,
        on_error,
        reader.name,
        find_device(device or "auto").type,
        max(1, torch.get_num_threads() // processes),
    )
    # a process that torch has begun to work in cannot be forked
    surroundings = multiprocessing.get_context("spawn")
    number = surroundings.Value("i", 0)
    pool = ProcessPoolExecutor(
        processes, mp_context=surroundings, initializer=_begin, initargs=(wanted, number)
    )
    try:
        yield from iterate_results(
            (pool.submit(_work, piece) for piece in split_chunks(reader, trained)), ahead=2 * processes
        )
    except BrokenProcessPool as error:
        raise RunFailedError(
            "a process that scored rows has been killed; this machine may have run out of memory",
            hint=f"fewer than --processes {processes}",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_tasks: list[Scorer] = []  # of this process, once it has begun


def _begin(wanted: _Wanted, number: Synchronized[int]) -> None:
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asked for the work ends it
    torch.set_num_threads(wanted.threads)
    threadpool_limits(limits=wanted.threads, user_api="blas")
    with number.get_lock():
        place = number.value
        number.value += 1
    device = torch.device(wanted.device)
    if device.type == "cuda":
        device = torch.device("cuda", place % torch.cuda.device_count())
    context = DataContext(offline=wanted.offline, streaming=True)
    trained = to_device(TrainedModel.load(wanted.folder, context=context), device)
    _tasks.append(
        Scorer(trained, wanted.scores, wanted.latents, wanted.inputs, context, wanted.on_error, wanted.name)
    )


def _work(piece: Chunk) -> ScoredRows:
    return _tasks[0].whole(piece)
