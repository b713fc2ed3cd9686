"""Predictions of rows that are in memory, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.inference.predictions import Flag
from flowgmm_cli.inference.scoring import Scored

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Predicted:
    """What a model says of rows; every array has one entry for each of them, in order.

    Attributes:
        ids: names of the rows.
        prediction: names of classes; None for a row that could not be scored, which has NaN elsewhere.
        confidence: calibrated probability of the predicted class.
        probabilities: `(N, K)`, in the order of `class_names`.
        log_density: `log p(x)` in nats.
        ood_score: how far out, higher = further; None for runs without scores.
        is_ood: whether that is above the threshold; None for runs without scores.
        class_names: index -> name.
        problems: position -> why the row could not be scored.
    """

    ids: npt.NDArray[Any]
    prediction: npt.NDArray[Any]
    confidence: Floats
    probabilities: Floats
    log_density: Floats
    ood_score: Floats | None
    is_ood: npt.NDArray[np.bool_] | None
    class_names: tuple[str, ...]
    problems: dict[int, str]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, stream: Sequence[Scored], class_names: tuple[str, ...], flag: Flag | None) -> Predicted:
        """Put scored rows together, at least one stretch of them."""
        names = np.array(
            [*class_names, None], dtype=object
        )  # the last one, at -1, for rows without an answer
        probabilities = np.exp(together(stream, lambda one: one.log_probabilities))
        ood = together(stream, lambda one: one.ood[flag.score]) if flag else None
        return cls(
            ids=together(stream, lambda one: one.ids),
            prediction=names[together(stream, lambda one: one.classes)],
            confidence=probabilities.max(axis=1),
            probabilities=probabilities,
            log_density=together(stream, lambda one: one.log_density),
            ood_score=ood,
            is_ood=ood > flag.threshold if flag and ood is not None else None,
            class_names=class_names,
            problems={one.start + place: why for one in stream for place, why in one.problems.items()},
        )


def together(stream: Sequence[Scored], part: Callable[[Scored], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """One array of all stretches, one after the other."""
    return np.concatenate([part(one) for one in stream])
