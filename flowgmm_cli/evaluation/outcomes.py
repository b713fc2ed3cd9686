"""What a model said of single test rows, kept so that runs can be compared row by row without data."""

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
class Outcomes:
    """Labelled rows with what was said of them.

    Attributes:
        digests: of the input columns, uint8 `(N, 16)`.
        labels: true classes, int64 `(N,)`.
        predictions: predicted classes, int64 `(N,)`.
        log_probability: of the true class, float64 `(N,)`.
        class_names: index -> name.
    """

    digests: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    predictions: npt.NDArray[np.int64]
    log_probability: npt.NDArray[np.float64]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the prediction is right, `(N,)`."""
        found: npt.NDArray[np.bool_] = self.predictions == self.labels
        return found

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
    def load(cls, path: Path) -> Outcomes | None:
        """Read what `save` wrote; None where there is no such file or it is damaged."""
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                if file["format"].tobytes().decode() != FORMAT:
                    return None
                ends = np.cumsum(file["lengths"])
                parts = np.split(file["names"], ends[:-1])
                names = tuple(part.tobytes().decode("utf-8", "surrogatepass") for part in parts)
                return cls(
                    file["digests"],
                    file["labels"].astype(np.int64),
                    file["predictions"].astype(np.int64),
                    file["log_probability"],
                    names,
                )
        except (OSError, ValueError, KeyError, EOFError, IndexError, BadZipFile):
            return None


def outcomes(
    rows: Rows,
    columns: tuple[Column, ...],
    log_probabilities: npt.NDArray[np.floating[Any]],
    class_names: tuple[str, ...],
) -> Outcomes:
    """Keep what was said of the labelled rows among `rows`.

    Args:
        rows: N rows as their source gives them.
        columns: the input columns.
        log_probabilities: calibrated `log p(k | x)`, `(N, K)`.
        class_names: K names.
    """
    known = rows.labels >= 0
    chosen = rows.take(known)
    said, labels = log_probabilities[known], chosen.labels
    digests = b"".join(row_digests(chosen, columns))
    return Outcomes(
        np.frombuffer(digests, dtype=np.uint8).reshape(len(labels), -1),
        labels,
        said.argmax(1),
        said[np.arange(len(labels)), labels].astype(np.float64),
        class_names,
    )


def pair(one: Outcomes, other: Outcomes) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Positions of the rows that both hold, with the same contents and true class, in order of `one`.

    Of equal rows the first is paired with the first, the second with the second.
    """
    waiting: dict[tuple[bytes, str], list[int]] = defaultdict(list)
    for place in reversed(range(len(other))):
        waiting[_key(other, place)].append(place)
    left, right = [], []
    for place in range(len(one)):
        places = waiting.get(_key(one, place))
        if places:
            left.append(place)
            right.append(places.pop())
    return np.array(left, dtype=np.intp), np.array(right, dtype=np.intp)


def _key(found: Outcomes, place: int) -> tuple[bytes, str]:
    return found.digests[place].tobytes(), found.class_names[found.labels[place]]
