"""Grids of generated images: samples, means, interpolation paths, class transfers and turned features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.report.image_grid import ImageRow, Limits, column_images, image_grid_figure

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from flowgmm_cli.api import Column
    from flowgmm_cli.inference.samples import GeneratedRows


def samples_figure(
    rows: GeneratedRows, column: Column, *, limits: Limits, title: str, subtitle: str = ""
) -> Figure:
    """Draw a row for each class, with a block of columns for each value of a column `temperature`."""
    images = column_images(column, rows.cells[column.name])
    temperature = rows.extra_columns.get("temperature", np.zeros(len(rows)))
    temperatures = list(dict.fromkeys(temperature.tolist()))
    classes = sorted(set(rows.classes.tolist()))
    cells = [
        [np.flatnonzero((rows.classes == index) & (temperature == value)) for value in temperatures]
        for index in classes
    ]
    widths = [max((len(parts[block]) for parts in cells), default=0) for block in range(len(temperatures))]
    starts = np.cumsum([0, *widths]).tolist()
    grid = [
        ImageRow(
            rows.class_names[index],
            images[np.concatenate(parts)],
            positions=[starts[block] + i for block, part in enumerate(parts) for i in range(len(part))],
        )
        for index, parts in zip(classes, cells, strict=True)
    ]
    blocks = [(f"temperature {value:g}", width) for value, width in zip(temperatures, widths, strict=True)]
    return image_grid_figure(
        grid, limits=limits, blocks=blocks if len(blocks) > 1 else (), title=title, subtitle=subtitle
    )


def means_figure(rows: GeneratedRows, column: Column, *, limits: Limits, title: str) -> Figure:
    """Draw the means of the classes: in one row if there are few, else in a row for each class."""
    subtitle = "means of the classes"
    if not len(rows) == len(rows.class_names) <= 16:
        return samples_figure(rows, column, limits=limits, title=title, subtitle=subtitle)
    grid = [ImageRow("", column_images(column, rows.cells[column.name]))]
    return image_grid_figure(grid, limits=limits, headings=rows.class_names, title=title, subtitle=subtitle)


def paths_figure(rows: GeneratedRows, column: Column, *, limits: Limits, title: str) -> Figure:
    """Draw a row for each interpolation path; the column `path` has their names if there are several."""
    images = column_images(column, rows.cells[column.name])
    names = rows.extra_columns.get("path", np.array([""] * len(rows), dtype=object))
    t = rows.extra_columns["t"]
    starts = np.flatnonzero(t == 0).tolist()
    ends = [*starts[1:], len(rows)]
    grid = [ImageRow(str(names[start]), images[start:end]) for start, end in zip(starts, ends, strict=True)]
    headings = [f"{value:.2g}" for value in t[: ends[0]]] if starts else []
    return image_grid_figure(grid, limits=limits, headings=headings, title=title, subtitle="from row to row")


def transfer_figure(
    rows: GeneratedRows, column: Column, originals: npt.NDArray[Any], *, limits: Limits, title: str
) -> Figure:
    """Draw original images with their transfers: below them for one class, to their right for all."""
    images, originals = column_images(column, rows.cells[column.name]), column_images(column, originals)
    origins, names = rows.extra_columns["from"], rows.class_names
    if len(rows) == len(originals):
        target = names[int(rows.classes[0])] if len(rows) else ""
        grid = [ImageRow("given", originals), ImageRow(f"as {target}", images)]
        return image_grid_figure(grid, limits=limits, headings=list(origins), title=title)
    transfers = images.reshape(len(originals), len(names), *images.shape[1:])
    grid = [
        ImageRow(
            str(origin),
            np.concatenate([original[None], row]),
            framed=[False, *(name == origin for name in names)],
        )
        for origin, original, row in zip(origins[:: len(names)], originals, transfers, strict=True)
    ]
    return image_grid_figure(
        grid,
        limits=limits,
        blocks=[("", 1), ("", len(names))],
        headings=["given", *names],
        title=title,
        subtitle="given images, and each transferred to every class; the predicted class is framed",
    )


def features_figure(
    rows: GeneratedRows, column: Column, *, limits: Limits, title: str, subtitle: str
) -> Figure:
    """Draw a row for each input row, with a column for each amount by which a channel is shifted."""
    images, amounts = column_images(column, rows.cells[column.name]), rows.extra_columns["amount"]
    steps = len(np.unique(amounts))
    grid = [
        ImageRow(str(rows.ids[start]), images[start : start + steps]) for start in range(0, len(rows), steps)
    ]
    headings = ["0" if abs(amount) < 1e-9 else f"{amount:+.2g}" for amount in amounts[:steps]]
    return image_grid_figure(grid, limits=limits, headings=headings, title=title, subtitle=subtitle)
