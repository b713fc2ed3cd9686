"""Write and print generated rows: images as figures, tables as columns, texts by their nearest texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgmm_cli.cli import output
from flowgmm_cli.errors import UsageError
from flowgmm_cli.user_files import require_writable

if TYPE_CHECKING:
    import numpy.typing as npt

    from flowgmm_cli.inference.samples import GeneratedRows
    from flowgmm_cli.trained_model import TrainedModel

    Columns = dict[str, npt.NDArray[Any]]


def check_image_file(trained: TrainedModel, save: str | None, example: str, *, as_json: bool) -> None:
    """Raise `UsageError` if images have no file, or a PNG file would have no images."""
    images = trained.image is not None
    if images and save is None and not as_json:
        raise UsageError("this model makes images, which need a file", hint=f"--save {example}.png")
    if save and save.lower().endswith(".png") and not images:
        raise UsageError("this model does not make images", hint=f"--save {example}.csv")
    if save and images and save != "-":
        require_writable(Path(save))


def write_samples(rows: GeneratedRows, texts: Columns, save: str, format_: str | None, **labels: Any) -> None:
    """Write generated rows, beside columns of nearest texts, to a file or stdout.

    `labels` are further arguments of `samples_figure`, for images.
    """
    if save.lower().endswith(".png") and format_ is None:
        from flowgmm_cli.files import write_bytes
        from flowgmm_cli.report.figures import png
        from flowgmm_cli.report.samples import samples_figure

        write_bytes(Path(save), png(samples_figure(rows, **labels)))
    else:
        from flowgmm_cli.data.writers.base import find_format, open_writer

        kind = find_format(save, format_)
        columns = rows.table(flat=kind in ("csv", "tsv"), texts=texts)
        if kind in ("parquet", "jsonl"):
            columns = {name: c.reshape(len(c), -1) if c.ndim > 2 else c for name, c in columns.items()}
        inputs = {"flow_input": rows.x.numpy()} if kind == "npz" else {}
        with open_writer(save, format=format_) as writer:
            writer.write({**columns, **inputs})
    if save != "-":
        output.note(f"written {save}: {len(rows):,} rows")


def rows_to_dicts(rows: GeneratedRows, texts: Columns) -> list[dict[str, Any]]:
    """Return the rows as plain values for JSON."""
    lists = {name: values.tolist() for name, values in rows.table(flat=False, texts=texts).items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def print_texts(rows: GeneratedRows, texts: Columns) -> None:
    """Print a paragraph for each sample: its statistics beside the nearest text, further texts below."""
    names, extras = list(texts), rows.rows.extras
    lines: list[list[Any]] = []
    for index in range(len(rows)):
        density, confidence = extras["log_density"][index], extras["confidence"][index]
        cells = [rows.rows.ids[index], rows.class_names[index], f"{density:.1f}", f"{confidence:.2f}"]
        for text, distance in zip(names[::2], names[1::2], strict=True):
            lines.append([*cells, f"{texts[distance][index]:.2f}", " ".join(texts[text][index].split())])
            cells = [""] * 4
    numbers = ["log density", "confidence", "distance"]
    kind = rows.trained.preprocessor.feature_encoder.encoded[0].kind
    output.print_table(["id", "class", *numbers, f"nearest training {kind}"], lines, right=numbers)
