"""Images with their labels, as found somewhere, before they have one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.data.images.pictures import Pictures

if TYPE_CHECKING:
    import numpy.typing as npt

    Strings = npt.NDArray[np.object_]
    Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Part:
    """Images of one split.

    Attributes:
        images: encoded ones; or pixels `(N, height, width)` or `(N, height, width, 3 or 4)`.
        labels: `(N,)`, None where there is none; of arrays as they are in the file.
        ids: `(N,)`.
        extras: see `Rows`.
    """

    images: Pictures | Bytes
    labels: npt.NDArray[Any]
    ids: Strings
    extras: Mapping[str, Strings] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Found:
    """What a path holds.

    Attributes:
        parts: by split; `train` is always there.
        class_names: names in their order, where the data say them; else None.
        notes: what the user should know.
    """

    parts: Mapping[str, Part]
    class_names: tuple[str, ...] | None = None
    notes: Sequence[str] = ()


def objects(cells: Sequence[str | None]) -> Strings:
    """Strings as an array of objects."""
    made = np.empty(len(cells), dtype=object)
    made[:] = cells
    return made
