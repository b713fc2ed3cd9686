"""Out-of-distribution scores as operations that the graph of an exported model can hold."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from flowgmm_cli.api import Score, ScoreInputs
from flowgmm_cli.scores.base import TensorScore, score_tensor
from flowgmm_cli.scores.blend import BLEND
from flowgmm_cli.scores.combination import Combined
from flowgmm_cli.scores.detector import Detector

Operation = Callable[[ScoreInputs], Tensor]
"""Computes the score `(N,)` of rows."""


class NoOperationError(Exception):
    """A score cannot be expressed; the text is its name."""


def detector_operation(detector: Detector, name: str) -> Operation:
    """Return the operation of a score of a detector. Raises `NoOperationError` for one without operation."""
    if (blend := detector.blend) is not None and name == BLEND:
        parts = {part: detector_operation(detector, part) for part in blend.names}
        return lambda rows: blend.compute({part: operation(rows) for part, operation in parts.items()})
    score = next(fitted.score for fitted in detector.scores if fitted.name == name)
    if not _has_operation(score):
        raise NoOperationError(name)
    return lambda rows: score_tensor(score, rows)


def _has_operation(score: Score) -> bool:
    """Return True for built-in scores of tensor operations; one of a plugin may override them."""
    is_own = isinstance(score, TensorScore) and type(score).__module__.startswith("flowgmm_cli.")
    return is_own and (not isinstance(score, Combined) or all(map(_has_operation, score.scores)))
