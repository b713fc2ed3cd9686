"""Images with their labels, before they are converted to one format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flowgmm_cli.data.array_types import Array, Bytes, Strings
from flowgmm_cli.data.images.encoded_images import EncodedImages


@dataclass(frozen=True)
class ImageSplit:
    """Images of a split."""

    images: EncodedImages | Bytes  # encoded; or pixels `(N, height, width)` or `(N, height, width, 3 or 4)`
    labels: Array  # `(N,)`, None if unlabelled; for pixels the values of the file
    ids: Strings  # `(N,)`
    extras: Mapping[str, Strings] = field(default_factory=dict)  # see `Rows`

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class ImageSet:
    """The images at a path."""

    splits: Mapping[str, ImageSplit]  # by name; `train` always exists
    class_names: tuple[str, ...] | None = None  # names in order, if the data define them; else None
    notes: Sequence[str] = ()  # for the user


def object_array(cells: Sequence[str | None]) -> Strings:
    """Return strings as an array of objects."""
    array = np.empty(len(cells), dtype=object)
    array[:] = cells
    return array
