"""`flowgmm features`: the effect of the channels of a flow's layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import open_session
from flowgmm_cli.cli.validation import check_stdout
from flowgmm_cli.errors import UsageError

if TYPE_CHECKING:
    from flowgmm_cli.inference.layers import Step

SCHEMA = "flowgmm/features/1"
_REFERENCE_ROWS = 512  # rows over which the standard deviation of a channel is taken

LayerNumber = Annotated[
    int | None,
    options.option("--layer", "Number of the layer, 0 for the input; without it the layers are listed."),
]
Channel = Annotated[
    int | None, options.option("--channel", "Number of the channel, from 0; the most variable without it.")
]
Extent = Annotated[
    Literal["bump", "channel", "site"],
    typer.Option(
        metavar="bump|channel|site",
        help="Change the channel around a position, at all positions, or at the position alone.",
    ),
]
Position = Annotated[
    str | None, typer.Option(metavar="ROW,COLUMN", help="The position in the layer; its middle without it.")
]
Reach = Annotated[
    float, typer.Option(help="Largest change, up and down, in standard deviations of the channel.")
]
Steps = Annotated[int, typer.Option(min=2, help="Columns of the figure, both ends included.")]
RowCount = Annotated[int, options.option("--number -n", "Number of rows shown.", min=1)]


def features(
    run: options.Run = None,
    run_flag: options.RunFlag = None,
    layer: LayerNumber = None,
    channel: Channel = None,
    where: Extent = "bump",
    at: Position = None,
    reach: Reach = 3.0,
    steps: Steps = 7,
    n: RowCount = 6,
    data: options.Data = None,
    data_format: options.DataFormat = None,
    save: options.SaveSamples = None,
    format_: options.Format = None,
    as_json: options.Json = False,
) -> None:
    """List the layers of a flow, or show the effect of a channel: rows with it turned up and down.

    The layers up to it are applied to rows of --data, or the run's test rows, the channel is changed, and the
    layers are inverted. Images become a PNG grid with a line for each row; changed rows of tables are written
    in the columns and units of the input.

    Examples: flowgmm features · flowgmm features --layer 9 --channel 3 --save f.png ·
    flowgmm features --layer 4 --where channel --reach 5 --save f.png
    """
    if layer is None and (channel is not None or save):
        word = "--save" if channel is None else "--channel"
        raise UsageError(f"{word} needs --layer", hint="`flowgmm features` lists the layers")
    check_stdout(save, as_json=as_json)
    if not 0 < reach < float("inf"):
        raise UsageError(f"--reach is {reach}, it must be above 0", hint="--reach 3")
    site = _parse_site(at)
    with open_session(run, run_flag) as session:
        import numpy as np

        from flowgmm_cli.cli import sample_output
        from flowgmm_cli.inference.features import FlowLayers, perturb_channel
        from flowgmm_cli.inference.inputs import read_first_rows

        trained, path = session.trained, str(session.run.path)
        layers = FlowLayers(trained)
        if layer is None:
            _print_layers(path, layers.steps, as_json=as_json)
            return
        sample_output.check_image_file(trained, save, "features", as_json=as_json)
        reader = session.open_rows(data, purpose="features", data_format=data_format)
        rows = read_first_rows(reader, max(n, _REFERENCE_ROWS))
        x = trained.preprocessor.apply(rows, session.context).x
        amounts, ids = np.linspace(-reach, reach, steps).tolist(), rows.ids[:n]
        changed, channel, deviation = perturb_channel(
            layers, x[:n], layer, channel, amounts, reference=x, extent=where, site=site, ids=ids
        )
    step = layers[layer]
    position = f", {where}" if len(step.shape) > 1 else ""
    description = f"layer {layer} ({step.name}), channel {channel}{position}"
    description += f"; in its standard deviations of {deviation:.3g}"
    if save or not as_json:
        labels: dict[str, Any] = {"mode": "features", "subtitle": description}
        sample_output.write_samples(changed, {}, save or "-", format_, **labels)
    if as_json:
        values = {"schema": SCHEMA, "run": path, "layer": layer, "name": step.name, "shape": list(step.shape)}
        values |= {"channel": channel, "standard_deviation": deviation, "n": len(changed), "saved": save}
        output.print_json({**values, "rows": sample_output.rows_to_dicts(changed, {})})
    output.note(description)


def _print_layers(run: str, layers: Sequence[Step], *, as_json: bool) -> None:
    width = math.prod(layers[0].shape)
    rows = [(k, s.name, s.shape, s.shape[0], width - math.prod(s.shape)) for k, s in enumerate(layers)]
    if as_json:
        keys = ["layer", "name", "shape", "channels", "factored_out"]
        values = [dict(zip(keys, row, strict=True)) for row in rows]
        output.print_json({"schema": SCHEMA, "run": run, "layers": values})
        return
    cells = [[k, name, " x ".join(map(str, shape)), *numbers] for k, name, shape, *numbers in rows]
    columns = ["layer", "after", "shape", "channels", "factored out"]
    output.print_table(columns, cells, right=["layer", "channels", "factored out"])
    output.note("--layer N --channel C shows the effect of a channel")


def _parse_site(at: str | None) -> tuple[int, int] | None:
    if at is None:
        return None
    row, _, column = at.partition(",")
    if not (row.strip().isdecimal() and column.strip().isdecimal()):
        raise UsageError(f"--at {at} is not a row and a column", hint="--at 3,4")
    return int(row), int(column)
