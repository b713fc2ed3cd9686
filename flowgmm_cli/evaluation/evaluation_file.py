"""`eval/` of a run: results of evaluations, which are merged, and predictions for single rows.

The predictions let models be compared row by row without the data.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.data.array_types import Array, Bools, FloatArray, Floats, Hashes, Ints
from flowgmm_cli.data.fingerprint import row_hashes
from flowgmm_cli.errors import RunError
from flowgmm_cli.evaluation.metrics import CrossFitted, Evaluation, classification_metrics
from flowgmm_cli.evaluation.result_warnings import evaluation_warnings
from flowgmm_cli.evaluation.unknown_rows import UnknownRows
from flowgmm_cli.files import MALFORMED, file_digest, load_json, read_json, read_npz, write_bytes, write_json
from flowgmm_cli.runs import Run
from flowgmm_cli.user_files import allow_read_only

CROSS_FITTED = "cross_fitted"
"""Split of an evaluation of cross-fitted rows."""
_TEXTS = {"class_names", "ids"}  # fields of texts


@dataclass(frozen=True)
class StoredPredictions:
    """Labelled rows with their predictions."""

    FORMAT: ClassVar[str] = "flowgmm/outcomes/2"

    hashes: Hashes  # of the input columns, see `row_hashes`
    labels: Ints  # true classes, int64 `(N,)`
    predictions: Ints  # predicted classes, int64 `(N,)`
    log_probability: Floats  # of the true class, float64 `(N,)`
    class_names: tuple[str, ...]  # index -> name

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def correct(self) -> Bools:
        """Mask of the correct predictions, `(N,)`."""
        return np.equal(self.predictions, self.labels)

    def save(self, path: Path) -> None:
        """Write an npz file."""
        file = io.BytesIO()
        arrays = {name: _encode(value) for name, value in vars(self).items()}
        np.savez_compressed(file, allow_pickle=False, format=_encode(self.FORMAT), **arrays)
        write_bytes(path, file.getvalue())

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read the file that `save` wrote; None if it is missing or damaged."""
        arrays = read_npz(path)
        try:
            if arrays is None or load_json(arrays["format"].tobytes()) != cls.FORMAT:
                return None
            values: dict[str, Any] = {field.name: arrays[field.name] for field in fields(cls)}
            texts = {name: tuple(load_json(values[name].tobytes())) for name in _TEXTS & values.keys()}
            stored = cls(**{**values, **texts})
            stored._require_consistent()
            return stored
        except MALFORMED:
            return None

    def _require_consistent(self) -> None:
        """Raise an error unless there is an entry for each row, and a name for each class."""
        lengths = {len(value) for name, value in vars(self).items() if name != "class_names"}
        if lengths != {len(self)} or not set(self.labels.tolist()) <= set(range(len(self.class_names))):
            raise ValueError("the arrays do not fit together")


@dataclass(frozen=True)
class CrossFittedPredictions(StoredPredictions):
    """Labelled training rows, each with the prediction of a model that has not seen its label.

    The only row of its class cannot be held out, so it is not among them.
    """

    FORMAT: ClassVar[str] = "flowgmm/cross-fitted/1"

    # calibrated `log p(k | x)`, float64 `(N, K)`; the temperature is fitted to the labels of other folds
    log_probabilities: Floats
    rows: Ints  # positions among the training rows, int64 `(N,)`
    folds: Ints  # number of the fold that held out the row, int64 `(N,)`
    ids: tuple[str, ...]  # ids of the rows


def _encode(value: Any) -> Array:
    """Return an array as it is, and texts as the bytes of their JSON."""
    return value if isinstance(value, np.ndarray) else np.frombuffer(json.dumps(value).encode(), np.uint8)


def collect_predictions(
    rows: Rows, columns: tuple[Column, ...], log_probabilities: FloatArray, class_names: tuple[str, ...]
) -> StoredPredictions:
    """Collect the predictions for the labelled rows among N `rows` as their source gives them.

    `log_probabilities` are calibrated `log p(k | x)`, `(N, K)`.
    """
    known = rows.labels >= 0
    rows, log_p = rows.take(known), log_probabilities[known]
    of_label = log_p[np.arange(len(rows)), rows.labels].astype(np.float64)
    return StoredPredictions(row_hashes(rows, columns), rows.labels, log_p.argmax(1), of_label, class_names)


def collect_cross_fitted(
    rows: Rows,
    columns: tuple[Column, ...],
    log_probabilities: Floats,
    class_names: tuple[str, ...],
    *,
    positions: Ints,
    folds: Ints,
) -> CrossFittedPredictions:
    """Collect the predictions `(n, K)` for the training `rows` at some positions, held out in `folds`."""
    order = np.argsort(positions)
    labelled, log_p = rows.take(positions[order]), log_probabilities[order]
    stored = collect_predictions(labelled, columns, log_p, class_names)
    return CrossFittedPredictions(
        **vars(stored),
        log_probabilities=log_p,
        rows=positions[order],
        folds=folds[order],
        ids=tuple(map(str, labelled.ids)),
    )


def match_rows(
    first: StoredPredictions, second: StoredPredictions
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the positions of rows with equal contents and true class in both, in order of `first`.

    Among equal rows the first is matched with the first, the second with the second.
    """
    places = {key: place for place, key in enumerate(_row_keys(second))}
    pairs = [(place, places[key]) for place, key in enumerate(_row_keys(first)) if key in places]
    left, right = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    return left, right


def _row_keys(stored: StoredPredictions) -> Iterator[tuple[int, str, int]]:
    """Yield contents and class of each row, with the number of equal rows before it."""
    seen: Counter[tuple[int, str]] = Counter()
    for value, label in zip(stored.hashes.tolist(), stored.labels, strict=True):
        key = (value, stored.class_names[label])
        yield (*key, seen[key])
        seen[key] += 1


def cross_fitted_file(run: Run) -> Path:
    """Return the file of the cross-fitted predictions, which may be missing."""
    return run.path / "eval" / f"{CROSS_FITTED}.npz"


def evaluate_cross_fitted(predictions: CrossFittedPredictions, run: Run) -> Evaluation:
    """Evaluate the labelled rows that the training of a run held out; `run.json` has their number."""
    info = run.info()
    labelled = int((info.get("rows") or {}).get("labelled", len(predictions)))
    metrics = classification_metrics(
        predictions.log_probabilities, predictions.labels, predictions.class_names
    )
    summary, unknown = CrossFitted.summarise(metrics, labelled), UnknownRows.measure(info.get("unknown"))
    return Evaluation(CROSS_FITTED, metrics, None, cross_fitted=summary, unknown=unknown)


def save_evaluation(
    run: Run, evaluation: Evaluation, *, fingerprint: str, warn: Callable[[str], None] = lambda text: None
) -> Evaluation:
    """Write `eval/<split>.json`; baselines of an earlier evaluation of the same model and rows are kept.

    `fingerprint` is that of the rows. `warn` is called if baselines are dropped, as those of other rows or of
    another model are, and if the run is read-only.
    """
    basis = {"data": fingerprint, "model": file_digest(run.path / "model.safetensors")}
    evaluation = replace(evaluation, basis=basis)
    path = run.path / "eval" / f"{evaluation.split}.json"
    earlier = load_evaluation(path)
    if earlier and earlier.baselines and not evaluation.baselines:
        if earlier.basis == basis:
            evaluation = replace(evaluation, baselines=earlier.baselines, verdict=earlier.verdict)
        else:
            changed = "data" if earlier.basis.get("data") != fingerprint else "model"
            warn(f"the {changed} has changed since the baselines were fitted, so their results are dropped")
    found = [warning.to_dict() for warning in evaluation_warnings(evaluation)]
    with allow_read_only(run.path, warn):
        write_json(path, {**evaluation.to_dict(str(run.path)), "warnings": found})
    return evaluation


def load_predictions(run: Run, split: str) -> StoredPredictions | None:
    """Read the predictions for the rows of a split, or for cross-fitted rows; None without any."""
    kind = CrossFittedPredictions if split == CROSS_FITTED else StoredPredictions
    return kind.load(run.path / "eval" / f"{split}.npz")


def find_test_hashes(run: Run) -> Hashes | None:
    """Return hashes of the test rows that a run has from the one it goes on from; None if it starts anew."""
    if not (start := run.info().get("from")):
        return None
    stored = load_predictions(run, "test") or load_predictions(Run(Path(start["run"])), "test")
    return stored.hashes if stored else None


def load_results(run: Run) -> Evaluation | None:
    """Read the results on test rows, or on cross-fitted rows of a run without test rows."""
    return load_evaluation(run.path / "eval" / "test.json") or load_evaluation(
        run.path / "eval" / f"{CROSS_FITTED}.json"
    )


def load_evaluation(path: Path) -> Evaluation | None:
    """Read a file that `save_evaluation` wrote; None if it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        return Evaluation.from_dict(read_json(path, "evaluation"))
    except (RunError, *MALFORMED):
        return None
