"""Predictions for single test rows, stored so that runs can be compared row by row without the data."""

from __future__ import annotations

import io
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.data.fingerprint import row_digests
from flowgmm_cli.files import write_bytes

FORMAT = "flowgmm/outcomes/1"


@dataclass(frozen=True)
class StoredPredictions:
    """Labelled rows with their predictions."""

    digests: npt.NDArray[np.uint8]  # of the input columns, uint8 `(N, 16)`
    labels: npt.NDArray[np.int64]  # true classes, int64 `(N,)`
    predictions: npt.NDArray[np.int64]  # predicted classes, int64 `(N,)`
    log_probability: npt.NDArray[np.float64]  # of the true class, float64 `(N,)`
    class_names: tuple[str, ...]  # index -> name

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Mask of the correct predictions, `(N,)`."""
        return np.equal(self.predictions, self.labels)

    def save(self, path: Path) -> None:
        """Write an npz file."""
        file = io.BytesIO()
        names = [name.encode("utf-8", "surrogatepass") for name in self.class_names]
        np.savez_compressed(
            file,
            format=np.frombuffer(FORMAT.encode(), dtype=np.uint8),
            digests=self.digests,
            labels=self.labels.astype(np.int32),
            predictions=self.predictions.astype(np.int32),
            log_probability=self.log_probability,
            names=np.frombuffer(b"".join(names), dtype=np.uint8),
            lengths=np.array([len(name) for name in names], dtype=np.int64),
        )
        write_bytes(path, file.getvalue())

    @classmethod
    def load(cls, path: Path) -> StoredPredictions | None:
        """Read the file that `save` wrote; None if it is missing or damaged."""
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                if file["format"].tobytes().decode() != FORMAT:
                    return None
                names = np.split(file["names"], np.cumsum(file["lengths"])[:-1])
                return cls(
                    file["digests"],
                    file["labels"].astype(np.int64),
                    file["predictions"].astype(np.int64),
                    file["log_probability"],
                    tuple(name.tobytes().decode("utf-8", "surrogatepass") for name in names),
                )
        except (OSError, ValueError, KeyError, EOFError, IndexError, BadZipFile):
            return None


def collect_predictions(
    rows: Rows,
    columns: tuple[Column, ...],
    log_probabilities: npt.NDArray[np.floating[Any]],
    class_names: tuple[str, ...],
) -> StoredPredictions:
    """Collect the predictions for the labelled rows among N `rows` as their source gives them.

    `log_probabilities` are calibrated `log p(k | x)`, `(N, K)`.
    """
    known = rows.labels >= 0
    labelled, log_p = rows.take(known), log_probabilities[known]
    digests = b"".join(row_digests(labelled, columns))
    return StoredPredictions(
        np.frombuffer(digests, dtype=np.uint8).reshape(len(labelled), -1),
        labelled.labels,
        log_p.argmax(1),
        log_p[np.arange(len(labelled)), labelled.labels].astype(np.float64),
        class_names,
    )


def match_rows(
    first: StoredPredictions, second: StoredPredictions
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the positions of rows with equal contents and true class in both, in order of `first`.

    Among equal rows the first is matched with the first, the second with the second.
    """
    unmatched: dict[tuple[bytes, str], list[int]] = defaultdict(list)
    for index in reversed(range(len(second))):
        unmatched[_key(second, index)].append(index)
    left, right = [], []
    for index in range(len(first)):
        candidates = unmatched.get(_key(first, index))
        if candidates:
            left.append(index)
            right.append(candidates.pop())
    return np.array(left, dtype=np.intp), np.array(right, dtype=np.intp)


def _key(stored: StoredPredictions, index: int) -> tuple[bytes, str]:
    return stored.digests[index].tobytes(), stored.class_names[stored.labels[index]]
