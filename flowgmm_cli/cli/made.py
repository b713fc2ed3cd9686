"""How rows that a model made are written and shown, by kind of data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from flowgmm_cli.api import Rows
    from flowgmm_cli.inference.samples import GeneratedRows
    from flowgmm_cli.trained import TrainedModel

    Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Picture:
    """How a picture of made rows is laid out.

    Attributes:
        mode: how the rows were made: `draw`, `means`, `interpolate`, `transfer` or `features`.
        given: the rows they were made from, if any.
        temperatures: of samples.
        subtitle: of a picture of features.
    """

    mode: str
    given: Rows | None = None
    temperatures: Sequence[float] = ()
    subtitle: str = ""


def write_made(
    trained: TrainedModel,
    made: GeneratedRows,
    texts: Columns,
    where: str,
    format_: str | None,
    *,
    look: Picture,
) -> None:
    """Write made rows to a file or stdout, by its suffix or a format.

    Args:
        trained: the model.
        made: the rows.
        texts: columns of nearest texts.
        where: the file, or `-`.
        format_: its format; None goes by the suffix.
        look: how a picture of them is laid out.
    """
    if where.lower().endswith(".png") and format_ is None:
        from flowgmm_cli.files import write_bytes
        from flowgmm_cli.report.figures import png

        write_bytes(Path(where), png(_figure(trained, made, look)))
        return
    from flowgmm_cli.data.writers.open import find_format, open_writer

    chosen = find_format(where, format_)
    cells = _cells(made, flat=chosen in ("csv", "tsv"))
    if chosen in ("parquet", "jsonl"):
        cells = {name: one.reshape(len(one), -1) if one.ndim > 2 else one for name, one in cells.items()}
    extra_columns = {"flow_input": made.x.numpy()} if chosen == "npz" else {}
    with open_writer(where, format=format_) as writer:
        writer.write({**_ours(made), **texts, **cells, **extra_columns})


def _figure(trained: TrainedModel, made: GeneratedRows, look: Picture) -> Figure:
    from flowgmm_cli.inference.samples import image_column
    from flowgmm_cli.report import generated_images

    column = image_column(made.columns)
    if column is None:
        raise ValueError("not a model of images")
    limits, title = trained.preprocessor.ranges.get(column.name), trained.recipe.name
    if look.mode == "interpolate":
        return generated_images.paths_figure(made, column, limits=limits, title=title)
    if look.mode == "transfer" and look.given is not None:
        given = look.given.columns[column.name]
        return generated_images.transfer_figure(made, column, given, limits=limits, title=title)
    if look.mode == "means":
        return generated_images.means_figure(made, column, limits=limits, title=title)
    if look.mode == "features":
        return generated_images.features_figure(
            made, column, limits=limits, title=title, subtitle=look.subtitle
        )
    several = len(look.temperatures) > 1
    subtitle = "samples" if several else f"samples at temperature {look.temperatures[0]:g}"
    return generated_images.samples_figure(made, column, limits=limits, title=title, subtitle=subtitle)


def _ours(made: GeneratedRows) -> Columns:
    table = made.table(flat=False)
    return {name: one for name, one in table.items() if name not in _cells(made)}


def _cells(made: GeneratedRows, *, flat: bool = False) -> Columns:
    ours = 4 + len(made.extra_columns)
    return dict(list(made.table(flat=flat).items())[ours:])


def made_rows(made: GeneratedRows, texts: Columns) -> list[dict[str, Any]]:
    """Rows for JSON."""
    columns = {**_ours(made), **texts, **_cells(made)}
    lists = {name: values.tolist() for name, values in columns.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def show_texts(made: GeneratedRows, texts: Columns) -> None:
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
