"""Pixels of the rows that a score reads."""

from __future__ import annotations

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.errors import DataError
from flowgmm_cli.scores.values import Floats, array


def pixels(rows: ScoreInputs) -> Floats:
    """Pixels `(N, P)`.

    Raises:
        DataError: the rows are no images.
    """
    if rows.images is None:
        raise DataError("this score reads images, and the rows are none")
    return array(rows.images.flatten(1))
