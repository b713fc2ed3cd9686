"""`flowgmm features`: what the channels of a flow's layers do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli.options import (
    Data,
    Format,
    InputFormat,
    Json,
    Offline,
    PluginModule,
    Quiet,
    Run,
    RunFlag,
    Verbose,
)

if TYPE_CHECKING:
    from flowgmm_cli.inference.features import ChannelEffect, Extent, FlowLayers

SCHEMA = "flowgmm/features/1"
_REFERENCE = 512  # rows over which a channel's spread is taken


def features(
    run: Run = None,
    run_flag: RunFlag = None,
    layer: Annotated[
        int | None,
        typer.Option(
            "--layer",
            help="Number of the layer, 0 for the flow's input; without it the layers are listed.",
            show_default=False,
        ),
    ] = None,
    channel: Annotated[
        int | None,
        typer.Option("--channel", help="From 0; the one that varies most without it.", show_default=False),
    ] = None,
    where: Annotated[
        str,
        typer.Option(
            metavar="bump|channel|site",
            help="Change the channel around a place, everywhere, or at the place alone.",
        ),
    ] = "bump",
    at: Annotated[
        str | None,
        typer.Option(
            metavar="ROW,COLUMN", help="The place, in the layer; its middle without it.", show_default=False
        ),
    ] = None,
    reach: Annotated[
        float, typer.Option(help="How far up and down, in standard deviations of the channel.")
    ] = 3.0,
    steps: Annotated[int, typer.Option(help="Columns of the picture, both ends included.")] = 7,
    n: Annotated[int, typer.Option("--number", "-n", help="Rows that are shown.")] = 6,
    data: Data = None,
    data_format: InputFormat = None,
    save: Annotated[
        str | None,
        typer.Option(
            "--save",
            metavar="FILE|-",
            help="File to write: csv, tsv, parquet, jsonl, npz or, of images, png; - for stdout.",
            show_default=False,
        ),
    ] = None,
    format_: Format = None,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """List the layers of a flow, or show what a channel of one does: rows with it turned up and down.

    The layers up to it are applied to rows of --data, or the run's test rows, the channel is changed, and the
    layers are undone. Images become a PNG grid with a line for each row; of tables the changed rows are
    written in the columns and units of the input.

    Examples: flowgmm features · flowgmm features --layer 9 --channel 3 --save f.png ·
    flowgmm features --layer 4 --where channel --reach 5 --save f.png
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.cli.answers import rows_in
    from flowgmm_cli.cli.made import Picture, made_rows, write_made
    from flowgmm_cli.cli.work import chosen_run, data_context
    from flowgmm_cli.errors import UsageError

    site, place = _check_words(layer, channel, where, at, reach, steps, n, save, as_json=as_json)
    chosen = chosen_run(run, run_flag)
    console.note("loading torch…")

    import numpy as np

    from flowgmm_cli.inference.features import FlowLayers, perturb_channel
    from flowgmm_cli.inference.inputs import read_first_rows
    from flowgmm_cli.inference.samples import image_column
    from flowgmm_cli.trained import TrainedModel

    with console.progress() as progress:
        context = data_context(progress, offline=offline)
        trained = TrainedModel.load(chosen.path, context=context)
        layers = FlowLayers(trained)
        if layer is None:
            _list(str(chosen.path), layers, as_json=as_json)
            return
        picture = image_column(trained.preprocessor.columns)
        if picture is not None and save is None and not as_json:
            raise UsageError("this model makes images, which need a file", hint="--save features.png")
        if save and save.lower().endswith(".png") and picture is None:
            raise UsageError("this model does not make images", hint="--save features.csv")
        reader = rows_in(
            trained,
            chosen.info(),
            context,
            data,
            data_format=data_format,
            on_error="fail",
            purpose="features",
        )
        rows = read_first_rows(reader, max(n, _REFERENCE))
        x = trained.preprocessor.apply(rows, context).x
        turned = perturb_channel(
            layers,
            x[:n],
            layer,
            channel,
            np.linspace(-reach, reach, steps).tolist(),
            reference=x,
            extent=place,
            site=site,
            ids=rows.ids[:n],
        )
    made = turned.rows
    if save or not as_json:
        look = Picture("features", subtitle=_said(turned, where))
        write_made(trained, made, {}, save or "-", format_, look=look)
    if as_json:
        facts = _facts(turned)
        console.print_json(
            {"schema": SCHEMA, "run": str(chosen.path), **facts, "saved": save, "rows": made_rows(made, {})}
        )
    console.note(_said(turned, where))
    if save and save != "-":
        console.note(f"written {save}: {len(made):,} rows")


def _list(run: str, layers: FlowLayers, *, as_json: bool) -> None:
    from flowgmm_cli.cli import console

    if as_json:
        found = [
            {
                "layer": one.number,
                "name": one.name,
                "shape": list(one.shape),
                "channels": one.channels,
                "factored_out": one.factored,
            }
            for one in layers.layers
        ]
        console.print_json({"schema": SCHEMA, "run": run, "layers": found})
        return
    rows = [
        [str(one.number), one.name, " x ".join(map(str, one.shape)), f"{one.channels:,}", f"{one.factored:,}"]
        for one in layers.layers
    ]
    columns = ["layer", "after", "shape", "channels", "factored out"]
    console.print_table(columns, rows, right=["layer", "channels", "factored out"])
    console.note("--layer N --channel C shows what a channel does")


def _facts(turned: ChannelEffect) -> dict[str, Any]:
    return {
        "layer": turned.layer.number,
        "name": turned.layer.name,
        "shape": list(turned.layer.shape),
        "channel": turned.channel,
        "standard_deviation": turned.standard_deviation,
        "n": len(turned.rows),
    }


def _said(turned: ChannelEffect, where: str) -> str:
    what = f"layer {turned.layer.number} ({turned.layer.name}), channel {turned.channel}"
    place = "" if len(turned.layer.shape) == 1 else f", {where}"
    return f"{what}{place}; in its standard deviations of {turned.standard_deviation:.3g}"


def _check_words(
    layer: int | None,
    channel: int | None,
    where: str,
    at: str | None,
    reach: float,
    steps: int,
    n: int,
    save: str | None,
    *,
    as_json: bool,
) -> tuple[tuple[int, int] | None, Extent]:
    """Refuse words that make no sense; return the place and what is changed."""
    from flowgmm_cli.errors import UsageError

    if layer is None and (channel is not None or save):
        word = "--save" if channel is None else "--channel"
        raise UsageError(f"{word} needs --layer", hint="`flowgmm features` lists the layers")
    if as_json and save == "-":
        raise UsageError("--json and --save - would both write to stdout", hint="leave one of them out")
    for name, value, least in (("--steps", steps, 2), ("-n", n, 1)):
        if value < least:
            raise UsageError(
                f"{name} is {value}, it must be at least {least}", hint="flowgmm features --help"
            )
    if not 0 < reach < float("inf"):
        raise UsageError(f"--reach is {reach}, it must be above 0", hint="--reach 3")
    if where not in ("bump", "channel", "site"):
        raise UsageError(f"--where is bump, channel or site, not `{where}`", hint="--where channel")
    kind: Extent = "bump" if where == "bump" else "channel" if where == "channel" else "site"
    if at is None:
        return None, kind
    row, _, column = at.partition(",")
    if not (row.strip().isdecimal() and column.strip().isdecimal()):
        raise UsageError(f"--at {at} is not a row and a column", hint="--at 3,4")
    return (int(row), int(column)), kind
