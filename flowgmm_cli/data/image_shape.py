"""What the entries of a column look like as images; channels come first wherever tensors of them are."""

from __future__ import annotations

from flowgmm_cli.api import Column

MOST_CHANNELS = 4
"""A first axis longer than this is the height of an image with its channels last, or no image."""
WHITE = 255
"""The largest value of a pixel of an `image` column."""


def image_shape(column: Column) -> tuple[int, int, int] | None:
    """`(channels, height, width)` of a column's entries; None where they are no images.

    `image` columns hold `(height, width)` or `(height, width, channels)`, vector columns that count as images
    `(height, width)` or `(channels, height, width)`. In the feature matrix the order is channels first.

    >>> image_shape(Column("photo", "image", (32, 24, 3)))
    (3, 32, 24)
    >>> image_shape(Column("x", "vector", (8, 8)))
    (1, 8, 8)
    >>> image_shape(Column("x", "vector", (50,))) is None
    True
    """
    shape = column.shape
    if len(shape) == 2 and column.kind in ("image", "vector"):
        return (1, *shape)
    if len(shape) != 3:
        return None
    if column.kind == "image":
        return (shape[2], shape[0], shape[1])
    return shape if column.kind == "vector" and shape[0] <= MOST_CHANNELS else None
