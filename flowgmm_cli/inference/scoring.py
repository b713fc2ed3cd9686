"""Rows through a trained model, chunk by chunk: latents, densities, class probabilities and scores.

Small chunks are scored in parallel and come out in order, so memory does not grow with the number of rows.
For numbers on a CPU the threads of one process suffice; several processes help where the interpreter is the
limit (encoders of texts) and use several GPUs.
"""

from __future__ import annotations

import copy
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.array_types import Array, Bools
from flowgmm_cli.data.readers.base import Chunk, RowReader, note_once
from flowgmm_cli.data.readers.row_errors import OnError
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.devices import find_device
from flowgmm_cli.errors import DataError
from flowgmm_cli.inference.drift import Drift
from flowgmm_cli.inference.scores import OODRule, Scores
from flowgmm_cli.inference.workers import run_in_processes, run_in_threads
from flowgmm_cli.scores.base import take_rows
from flowgmm_cli.trained_model import TrainedModel

Space = Literal["latent", "input"]


@dataclass(frozen=True)
class Scorer:
    """Score chunks of rows; see `score` for the attributes.

    `context` is that of the encoders, and `name` that of the input in messages.
    """

    trained: TrainedModel
    context: DataContext
    name: str
    scores: tuple[str, ...]
    rule: OODRule | None
    space: Space | None
    on_error: OnError

    def __call__(self, chunk: Chunk) -> Scores:
        """Preprocess rows and compute all their outputs."""
        return self.compute(chunk, *self.preprocess(chunk))

    def preprocess(self, chunk: Chunk) -> tuple[Tensors, dict[int, str]]:
        """Return tensors of the usable rows, and the problems of the others."""
        split, refused = self.trained.preprocessor.apply_valid(
            chunk, self.context, skip=chunk.problems, with_inputs=self.trained.image is not None
        )
        problems = dict(chunk.problems)
        problems |= {place: f"row {chunk.ids[place]}: {reason}" for place, reason in refused.items()}
        self._raise_for(problems)
        return split, problems

    def compute(self, chunk: Chunk, split: Tensors, problems: dict[int, str]) -> Scores:
        """Compute the outputs of preprocessed rows."""
        scorable = np.ones(len(chunk), dtype=bool)
        scorable[list(problems)] = False
        rows = self.trained.encode_rows(split)
        finite = (rows.log_density.isfinite() & ~rows.log_posterior.isnan().any(dim=1)).numpy()
        if not finite.all():
            for place in np.flatnonzero(scorable)[~finite].tolist():
                problems[place] = f"row {chunk.ids[place]}: the model's density of it is not a finite number"
                scorable[place] = False
            self._raise_for(problems)
            rows = take_rows(rows, np.flatnonzero(finite))
        ood = {}
        if self.scores:
            with torch.no_grad():
                ood = self.trained.require_detector()(rows, self.scores)
        vectors = None
        if self.space is not None:
            vectors = rows.latents.z.float() if self.space == "latent" else rows.x

        def expand(values: Array) -> Array:
            """Give each row of the chunk its values, NaN where it has none."""
            if scorable.all():
                return values
            full = np.full((len(scorable), *values.shape[1:]), np.nan, dtype=values.dtype)
            full[scorable] = values
            return full

        return Scores(
            ids=chunk.ids,
            labels=chunk.labels,
            scorable=scorable,
            log_probabilities=expand(rows.log_posterior.double().numpy()),
            log_density=expand(rows.log_density.numpy()),
            class_names=self.trained.class_names,
            ood={name: expand(values) for name, values in ood.items()},
            vectors=None if vectors is None else expand(vectors.numpy()),
            problems=dict(sorted(problems.items())),
            unknown_labels=chunk.unknown_labels,
            rule=self.rule,
            start=chunk.start,
            kept=chunk.kept,
            seen=self._find_seen(chunk),
            p_unknown=expand(rows.latents.p_unknown().double().numpy())
            if self.trained.model.unknown
            else None,
        )

    def _find_seen(self, chunk: Chunk) -> Bools | None:
        """Return a mask of the rows with a label that the training used; None without such rows."""
        labelled = np.union1d(np.flatnonzero(chunk.labels >= 0), list(chunk.unknown_labels)).astype(int)
        if not len(labelled):
            return None
        seen = np.zeros(len(chunk), dtype=bool)
        seen[labelled] = self.trained.find_labelled(chunk.take(labelled))
        return seen if seen.any() else None

    def _raise_for(self, problems: Mapping[int, str]) -> None:
        if problems and self.on_error == "fail":
            raise DataError(
                f"{self.name}, {problems[min(problems)]}",
                hint="correct it, or keep such rows without an answer: --on-error keep",
            )


def score(
    trained: TrainedModel,
    reader: RowReader,
    *,
    rule: OODRule | None = None,
    scores: Sequence[str] = (),
    space: Space | None = None,
    context: DataContext | None = None,
    on_error: OnError = "keep",
    device: str = "auto",
    processes: int = 1,
    folder: Path | None = None,
    drift: Drift | None = None,
) -> Iterator[Scores]:
    """Score all rows of an input, in order.

    `rule` flags rows by its score; `scores` are names of further out-of-distribution scores. With `space`
    there are vectors of the latent space, or the inputs of the flow. `context` is that of the encoders, and
    vectors of texts are not cached on disk. A row that cannot be scored has NaN and an entry in `problems`,
    unless `on_error` is `fail`. Several processes load the model from the run directory `folder`, and use a
    GPU each, as far as there are enough. `drift` gets a sample of the rows.

    Raises:
        DataError: the input is malformed; with `on_error="fail"`, a row cannot be scored.
        RunError: scores are requested of a model that has none.
        RunFailedError: a process was killed.
        UsageError: there is no score or device of that name.
    """
    names = tuple(dict.fromkeys([*([rule.score] if rule else []), *scores]))
    if names:
        trained.require_detector()
    context = context or DataContext()
    target = find_device(device, option="--device ", names=("auto", "cpu", "cuda"))
    settings: dict[str, Any] = {"name": reader.name, "scores": names, "rule": rule}
    settings |= {"space": space, "on_error": on_error}
    drift = drift or Drift(trained, reader.name)
    chunks = _add_rows(reader, drift)
    threads = torch.get_num_threads()
    if processes > 1 and folder is not None:
        share = max(1, threads // processes)
        load = (_load_scorer, folder.absolute(), settings, context.offline, target.type, share)
        scored = run_in_processes(_score_chunk, chunks, processes=processes, initializer=load)
    else:
        quiet = DataContext(offline=context.offline, note=note_once(context), streaming=True)
        scorer = Scorer(to_device(trained, target), quiet, **settings)
        # text encoders have threads of their own, and not all of them are thread-safe: only this thread calls
        # them
        has_texts = bool(trained.preprocessor.feature_encoder.encoded)
        scored = run_in_threads(
            (partial(scorer.compute, chunk, *scorer.preprocess(chunk)) for chunk in chunks)
            if has_texts
            else (partial(scorer, chunk) for chunk in chunks),
            workers=threads if target.type == "cpu" else 1,
            threads=threads if has_texts else 1,
        )
    yield from scored
    for note in drift.notes():
        context.note(note)


def _add_rows(chunks: Iterable[Chunk], drift: Drift) -> Iterator[Chunk]:
    """Yield the chunks, and add their readable rows to `drift`."""
    for chunk in chunks:
        good = np.delete(np.arange(len(chunk)), list(chunk.problems))
        drift.add(chunk.take(good) if chunk.problems else chunk)
        yield chunk


_scorers: list[Scorer] = []  # the scorer of a worker process


def _load_scorer(
    rank: int, folder: Path, settings: Mapping[str, Any], offline: bool, device: str, threads: int
) -> None:
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process stops the workers
    torch.set_num_threads(threads)
    threadpool_limits(limits=threads, user_api="blas")
    index = rank % torch.cuda.device_count() if device == "cuda" else None
    target = torch.device(device) if index is None else torch.device(device, index)
    context = DataContext(offline=offline, streaming=True)
    trained = to_device(TrainedModel.load(folder, context=context), target)
    _scorers.append(Scorer(trained, context, **settings))


def _score_chunk(chunk: Chunk) -> Scores:
    return _scorers[0](chunk)


def to_device(trained: TrainedModel, device: torch.device) -> TrainedModel:
    """Return the same with its model on a device."""
    current = trained.model.temperature.device
    if device.type == current.type and device.index in (None, current.index):
        return trained
    return replace(trained, model=copy.deepcopy(trained.model).to(device))
