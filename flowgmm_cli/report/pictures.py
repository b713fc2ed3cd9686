"""Grids of images that a model made: samples, means, paths, and images carried into other classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.report.image_grid import ImageRow, as_pictures, grid_figure

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from flowgmm_cli.api import Column
    from flowgmm_cli.inference.sampling import GeneratedRows

    Limits = tuple[float, float] | None


def samples_figure(
    made: GeneratedRows, column: Column, *, limits: Limits, title: str, subtitle: str = ""
) -> Figure:
    """A row for each class; with a column `temperature` a block of columns for each."""
    images = as_pictures(column, made.cells[column.name])
    heat = made.further.get("temperature", np.zeros(len(made)))
    heats = list(dict.fromkeys(heat.tolist()))
    found = [
        (index, [np.flatnonzero((made.classes == index) & (heat == one)) for one in heats])
        for index in dict.fromkeys(sorted(made.classes.tolist()))
    ]
    widths = [max((len(parts[block]) for _, parts in found), default=0) for block in range(len(heats))]
    starts = np.cumsum([0, *widths]).tolist()
    rows = [
        ImageRow(
            made.class_names[index],
            images[np.concatenate(parts)],
            places=[starts[block] + place for block, part in enumerate(parts) for place in range(len(part))],
        )
        for index, parts in found
    ]
    blocks = [(f"temperature {one:g}", width) for one, width in zip(heats, widths, strict=True)]
    return grid_figure(
        rows, limits=limits, blocks=blocks if len(heats) > 1 else (), title=title, subtitle=subtitle
    )


def means_figure(made: GeneratedRows, column: Column, *, limits: Limits, title: str) -> Figure:
    """The means of the classes: one row where there are few, else a row for each class."""
    subtitle = "means of the classes"
    if not len(made) == len(made.class_names) <= 16:
        return samples_figure(made, column, limits=limits, title=title, subtitle=subtitle)
    images = as_pictures(column, made.cells[column.name])
    return grid_figure(
        [ImageRow("", images)], limits=limits, headings=made.class_names, title=title, subtitle=subtitle
    )


def paths_figure(made: GeneratedRows, column: Column, *, limits: Limits, title: str) -> Figure:
    """A row for each path; the column `path` has their names where there are several."""
    images = as_pictures(column, made.cells[column.name])
    names = made.further.get("path", np.array([""] * len(made), dtype=object))
    t = made.further["t"]
    starts = np.flatnonzero(t == 0).tolist()
    ends = [*starts[1:], len(made)]
    rows = [ImageRow(str(names[start]), images[start:end]) for start, end in zip(starts, ends, strict=True)]
    headings = [f"{one:.2g}" for one in t[: ends[0]]] if starts else []
    return grid_figure(rows, limits=limits, headings=headings, title=title, subtitle="from row to row")


def transfer_figure(
    made: GeneratedRows, column: Column, given: npt.NDArray[Any], *, limits: Limits, title: str
) -> Figure:
    """Given images beside what they become: in one class below them, in every class to their right."""
    images, given = as_pictures(column, made.cells[column.name]), as_pictures(column, given)
    came, names = made.further["from"], made.class_names
    if len(made) == len(given):
        target = names[int(made.classes[0])] if len(made) else ""
        rows = [ImageRow("given", given), ImageRow(f"as {target}", images)]
        return grid_figure(rows, limits=limits, headings=list(came), title=title)
    each = len(names)
    rows = [
        ImageRow(
            str(came[each * place]),
            np.concatenate([given[place : place + 1], images[each * place : each * (place + 1)]]),
            framed=[False, *(name == came[each * place] for name in names)],
        )
        for place in range(len(given))
    ]
    subtitle = "given images, and each carried into every class; its own, as predicted, is framed"
    blocks = [("", 1), ("", each)]
    above = ["given", *names]
    return grid_figure(rows, limits=limits, blocks=blocks, headings=above, title=title, subtitle=subtitle)


def features_figure(
    made: GeneratedRows, column: Column, *, limits: Limits, title: str, subtitle: str
) -> Figure:
    """A row for each row, a column for each amount by which a channel is turned."""
    images, amounts = as_pictures(column, made.cells[column.name]), made.further["amount"]
    each = len(np.unique(amounts))
    rows = [
        ImageRow(str(made.ids[start]), images[start : start + each]) for start in range(0, len(made), each)
    ]
    headings = ["0" if abs(one) < 1e-9 else f"{one:+.2g}" for one in amounts[:each]]
    return grid_figure(rows, limits=limits, headings=headings, title=title, subtitle=subtitle)
