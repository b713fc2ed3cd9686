"""Surroundings of rows that come in chunks without end."""

from __future__ import annotations

from dataclasses import replace

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.readers.faults import once


def streaming(context: DataContext) -> DataContext:
    """Return the surroundings for the preprocessing of chunk after chunk.

    Vectors of texts are not kept on disk, a note is said once and not with every chunk, and steps within a
    chunk report no progress.
    """
    return replace(context, streaming=True, note=once(context), progress=lambda done, total, what: None)
