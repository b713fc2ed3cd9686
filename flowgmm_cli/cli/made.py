"""How rows that a model made are written and shown, by kind of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    from flowgmm_cli.api import Rows
    from flowgmm_cli.inference.sampling import Made
    from flowgmm_cli.trained import TrainedModel

    Columns = dict[str, npt.NDArray[Any]]


def write_made(
    trained: TrainedModel,
    made: Made,
    texts: Columns,
    where: str,
    format_: str | None,
    *,
    mode: str,
    given: Rows | None,
    temperature: float,
) -> None:
    """Write made rows to a file or stdout, by its suffix or a format.

    Args:
        trained: the model.
        made: the rows.
        texts: columns of nearest texts.
        where: the file, or `-`.
        format_: its format; None goes by the suffix.
        mode: how the rows were made.
        given: the rows they were made from, if any.
        temperature: of samples.
    """
    if where.lower().endswith(".png") and format_ is None:
        from flowgmm_cli.files import write_bytes
        from flowgmm_cli.report.canvas import png

        write_bytes(Path(where), png(_picture(trained, made, mode, given, temperature)))
        return
    from flowgmm_cli.data.writers.open import find_format, open_writer

    chosen = find_format(where, format_)
    cells = _cells(made, flat=chosen in ("csv", "tsv"))
    if chosen in ("parquet", "jsonl"):
        cells = {name: one.reshape(len(one), -1) if one.ndim > 2 else one for name, one in cells.items()}
    further = {"flow_input": made.x.numpy()} if chosen == "npz" else {}
    with open_writer(where, format=format_) as writer:
        writer.write({**_ours(made), **texts, **cells, **further})


def _picture(trained: TrainedModel, made: Made, mode: str, given: Rows | None, temperature: float) -> Any:
    from flowgmm_cli.inference.sampling import image_column
    from flowgmm_cli.report.grid import GridRow, grid_figure

    column = image_column(made.columns)
    if column is None:
        raise ValueError("not a model of images")
    images: Any = made.cells[column.name]
    limits = trained.preprocessor.featuriser.ranges.get(column.name)
    name = trained.recipe.name
    if mode == "interpolate":
        headings = [f"{t:.2g}" for t in made.further["t"]]
        return grid_figure(
            [GridRow("", images)], limits=limits, headings=headings, title=name, subtitle="from row to row"
        )
    if mode == "transfer" and given is not None:
        target = made.class_names[int(made.classes[0])] if len(made) else ""
        rows = [GridRow("given", given.columns[column.name]), GridRow(f"as {target}", images)]
        return grid_figure(rows, limits=limits, headings=list(made.further["from"]), title=name)
    subtitle = "means of the classes" if mode == "means" else f"samples at temperature {temperature:g}"
    rows = [
        GridRow(label, images[made.classes == index])
        for index, label in enumerate(made.class_names)
        if (made.classes == index).any()
    ]
    if mode == "means" and len(made) == len(made.class_names) <= 16:
        return grid_figure(
            [GridRow("", images)], limits=limits, headings=made.class_names, title=name, subtitle=subtitle
        )
    return grid_figure(rows, limits=limits, title=name, subtitle=subtitle)


def _ours(made: Made) -> Columns:
    table = made.table(flat=False)
    return {name: one for name, one in table.items() if name not in _cells(made)}


def _cells(made: Made, *, flat: bool = False) -> Columns:
    ours = 4 + len(made.further)
    return dict(list(made.table(flat=flat).items())[ours:])


def made_rows(made: Made, texts: Columns) -> list[dict[str, Any]]:
    """Rows for JSON."""
    columns = {**_ours(made), **texts, **_cells(made)}
    lists = {name: values.tolist() for name, values in columns.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def show_texts(made: Made, texts: Columns) -> None:
    """A sample a paragraph: its figures beside the nearest text, the next ones below."""
    from flowgmm_cli.cli import console

    names = list(texts)
    shown: list[list[Any]] = []
    words: Callable[[str], str] = lambda text: " ".join(text.split())  # noqa: E731
    for index in range(len(made)):
        name = made.class_names[int(made.classes[index])]
        own = [made.ids[index], name, f"{made.log_density[index]:.1f}", f"{made.confidence[index]:.2f}"]
        for place in range(0, len(names), 2):
            text, distance = texts[names[place]][index], texts[names[place + 1]][index]
            shown.append([*(own if place == 0 else [""] * 4), f"{distance:.2f}", words(text)])
    console.print_table(
        ["id", "class", "log density", "confidence", "distance", "nearest training text"],
        shown,
        right=["log density", "confidence", "distance"],
    )
