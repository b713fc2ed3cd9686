"""An exported model: rows to predictions and latents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime

from flowgmm_runtime.cells import InputError, to_string
from flowgmm_runtime.columns import Column, Floats, Problems, Table, encode_table

SCHEMA = "flowgmm/onnx/1"
BATCH_ROWS = 1024
Row = Mapping[str, Any] | str
"""Cells by column; for a model of one text column also the text alone."""


class FolderError(ValueError):
    """A folder that is no exported model, or one of another version."""


@dataclass(frozen=True)
class Results:
    """Outputs for rows in order, NaN for a row with an entry in `problems`."""

    ids: list[str]
    probabilities: Floats  # calibrated, `(N, K)`
    p_unknown: Floats  # `(N,)`, 0 for a model without unknown kinds
    log_density: Floats  # log p(x), `(N,)`
    ood_score: Floats  # higher = further out, `(N,)`
    latents: Floats  # `(N, D)`
    problems: Problems


class Model:
    """An exported model, see `load`.

    Attributes:
        class_names: index -> name.
        columns: the columns that the model reads.
        score: name of the out-of-distribution score.
        threshold: rows with a higher score are flagged.
    """

    def __init__(self, folder: str | PathLike[str], *, threads: int | None = None) -> None:
        path = Path(folder)
        values = _read_values(path)
        self.class_names: list[str] = values["class_names"]
        self.columns = [Column.from_values(column, path) for column in values["columns"]]
        self.score: str = values["score"]
        self.threshold: float = values["threshold"]
        self.settings: dict[str, Any] = values["settings"]
        self._id: str | None = values["id"]
        self._unknown: bool = values["unknown"]
        self._names: list[str] = values["probability_columns"]
        self._outputs: list[str] = values["outputs"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        graph = path / values["graph"]
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no common class of its errors
            raise FolderError(f"{graph} cannot be loaded: {error}") from error

    def predict(
        self, rows: Iterable[Row], *, on_error: Literal["keep", "fail"] = "keep"
    ) -> list[dict[str, Any]]:
        """Return a dict for each row: id, prediction, confidence, ood_score, is_ood and p_<class>.

        Args:
            rows: dicts with the columns as keys; for a model of texts also `str`.
            on_error: a row that cannot be scored gets None for all but its id, or raises `InputError`.
        """
        results = self._score(rows, on_error)
        columns = self.table(results)
        return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]

    def embed(self, rows: Iterable[Row], *, on_error: Literal["keep", "fail"] = "keep") -> Floats:
        """Return latents `(N, D)`, NaN for a row that cannot be scored; of an ensemble the first member's."""
        return self._score(rows, on_error).latents

    def score_table(self, table: Table, *, start: int = 0, problems: Problems | None = None) -> Results:
        """Compute all outputs of a table.

        Args:
            table: cells by column, all of the same number.
            start: number of rows before these, for their ids.
            problems: rows that cannot be read.

        Raises:
            InputError: a column is missing.
        """
        names = list(table)
        found = [column.find(names) for column in self.columns]
        count = len(table[found[0][0]])
        problems = dict(problems or {})
        features = encode_table(self.columns, found, table, problems)
        valid = np.delete(np.arange(count), list(problems))
        outputs: dict[str, Floats] = {}
        for part in (valid[i : i + BATCH_ROWS] for i in range(0, max(1, len(valid)), BATCH_ROWS)):
            values = self._session.run(None, {"features": features[part]})
            for name, value in zip(self._outputs, values, strict=True):
                full = outputs.setdefault(name, np.full((count, *value.shape[1:]), np.nan, value.dtype))
                full[part] = value
        usable = np.isfinite(outputs["log_density"]) & ~np.isnan(outputs["probabilities"]).any(axis=1)
        for row in np.flatnonzero(~usable).tolist():
            problems.setdefault(row, "the model's density of it is not a finite number")
        ids = [str(row) for row in range(start + 1, start + count + 1)]
        if self._id is not None and self._id in table:
            cells = map(to_string, table[self._id])
            ids = [cell or number for cell, number in zip(cells, ids, strict=True)]
        return Results(ids, **outputs, problems=dict(sorted(problems.items())))

    def table(self, results: Results) -> dict[str, list[Any]]:
        """Return the columns of predictions, as `flowgmm predict` writes them; a missing cell is None."""
        best = np.where(np.isnan(results.log_density), -1, results.probabilities.argmax(axis=1))
        shares = results.probabilities.astype(np.float32)
        columns: dict[str, list[Any]] = {
            "id": results.ids,
            "prediction": [None if k < 0 else self.class_names[k] for k in best.tolist()],
            "confidence": _to_cells(shares.max(axis=1)),
            "ood_score": _to_cells(results.ood_score.astype(np.float32)),
            "is_ood": (results.ood_score > self.threshold).tolist(),
        }
        by_class = [*shares.T, results.p_unknown.astype(np.float32)][: len(self._names)]
        columns |= {name: _to_cells(share) for name, share in zip(self._names, by_class, strict=True)}
        for row in results.problems:
            for name in columns:
                if name != "id":
                    columns[name][row] = None
        return columns

    def _score(self, rows: Iterable[Row], on_error: Literal["keep", "fail"]) -> Results:
        table = self._tabulate(list(rows))
        results = self.score_table(table)
        if results.problems and on_error == "fail":
            row, reason = next(iter(results.problems.items()))
            raise InputError(f"row {row + 1}: {reason}")
        return results

    def _tabulate(self, rows: Sequence[Row]) -> dict[str, list[Any]]:
        """Return the cells by column; without rows there are the columns of the model."""
        name = self.columns[0].spellings()[0][0]
        dicts = [{name: row} if isinstance(row, str) else row for row in rows]
        names = dict.fromkeys(key for row in dicts for key in row)
        names = names or dict.fromkeys(name for column in self.columns for name in column.spellings()[0])
        return {name: [row.get(name) for row in dicts] for name in names}


def load(folder: str | PathLike[str], *, threads: int | None = None) -> Model:
    """Load a folder that `flowgmm export` has written.

    Args:
        folder: the folder.
        threads: of onnxruntime; None for one a core.

    Raises:
        FolderError: the folder holds no exported model, or one of another version.
    """
    return Model(folder, threads=threads)


def _read_values(folder: Path) -> dict[str, Any]:
    file = folder / "model.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FolderError(f"{folder} is no exported model: {error}") from error
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        raise FolderError(f"{file} has another schema than {SCHEMA}: install another version of the runtime")
    return values


def _to_cells(values: Floats) -> list[float]:
    """Return numbers of single precision with as few digits as reproduce them."""
    return [float(str(value)) for value in values]


def iterate(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of at most `size` rows."""
    batch: list[Any] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
