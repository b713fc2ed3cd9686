"""`flowgmm sample`: rows that a model makes, from its classes or from other rows."""

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
    import numpy.typing as npt

    from flowgmm_cli.api import DataContext, Rows
    from flowgmm_cli.inference.interpolation import InterpolationPath
    from flowgmm_cli.inference.samples import GeneratedRows
    from flowgmm_cli.trained import TrainedModel

    Columns = dict[str, npt.NDArray[Any]]

SCHEMA = "flowgmm/sample/1"


def sample(
    run: Run = None,
    run_flag: RunFlag = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            "-c",
            metavar="NAME",
            help="Draw rows of this class; can be repeated. Without it classes are drawn by their weights.",
            show_default=False,
        ),
    ] = None,
    n: Annotated[int, typer.Option("--number", "-n", help="Rows of each --class; without it, in all.")] = 16,
    temperature: Annotated[
        str,
        typer.Option(
            metavar="T[,T...]",
            help="Factor on the standard deviations: 1 follows the model's density, less stays closer to "
            "the classes' means (0). Several are set side by side.",
        ),
    ] = "0.7",
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 0,
    around: Annotated[
        str,
        typer.Option(
            metavar="rows|means",
            help="Draw around where the training rows of each class lie, which looks like them, or around "
            "the means that the model tells classes by.",
        ),
    ] = "rows",
    means: Annotated[bool, typer.Option("--means", help="The means of the classes instead.")] = False,
    interpolate: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--interpolate",
            metavar="ROW ROW",
            help="A path between two rows instead: ids, or numbers from 1, of --data or the run's test rows; "
            "with commas several paths, such as 5,9 17,2.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Rows of a path, both ends included.")] = 8,
    path: Annotated[
        str,
        typer.Option(
            metavar="linear|spherical",
            help="Straight through the latent space, or at the distance from the means that rows have.",
        ),
    ] = "linear",
    transfer: Annotated[
        str | None,
        typer.Option(
            "--transfer",
            metavar="CLASS|all",
            help="Carry rows of --data, or the run's test rows, into this class, or each, instead: its mean "
            "takes the place of their own class's, what is particular to each row stays.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    data_format: InputFormat = None,
    nearest: Annotated[int, typer.Option(help="Of texts: training texts shown for each row.")] = 3,
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
    """Make rows: of classes, on the way between two rows, or of one class in the manner of another.

    Tables come in the columns and units of the input; of texts the nearest training texts are shown; images
    become a PNG grid, or arrays in an npz file. Each row has its log-density and the calibrated probability
    of its class.

    Examples: flowgmm sample --class Sports -n 16 · flowgmm sample -n 1000 --temperature 1 --save rows.csv ·
    flowgmm sample digits/latest --class 3 --save threes.png · flowgmm sample --interpolate 5 17 ·
    flowgmm sample --transfer Business --data new.csv --save moved.csv · flowgmm sample --means ·
    flowgmm sample digits/latest --class 3 --class 8 -n 6 --temperature 0.3,0.7,1 --save grid.png
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.cli.answers import rows_in
    from flowgmm_cli.cli.made import Picture, made_rows, show_texts, write_made
    from flowgmm_cli.cli.making import carried, drawn, numbers, pairs, walked
    from flowgmm_cli.cli.work import chosen_run, data_context
    from flowgmm_cli.errors import UsageError

    way = _check_words(classes, n, means, interpolate, steps, path, transfer, data, nearest)
    temperatures = numbers(temperature, "--temperature")
    ends = pairs(interpolate) if interpolate else []
    if as_json and save == "-":
        raise UsageError("--json and --save - would both write to stdout", hint="leave one of them out")
    if around not in ("means", "rows"):
        raise UsageError(f"--around is means or rows, not `{around}`", hint="--around rows")
    chosen = chosen_run(run, run_flag)
    console.note("loading torch…")

    from flowgmm_cli.inference.samples import image_column
    from flowgmm_cli.inference.sampling import class_means
    from flowgmm_cli.trained import TrainedModel

    with console.progress() as progress:
        context = data_context(progress, offline=offline)
        trained = TrainedModel.load(chosen.path, context=context)
        picture = image_column(trained.preprocessor.columns)
        if picture is not None and save is None and not as_json:
            raise UsageError(
                "this model makes images, which need a file", hint="--save samples.png, or --save samples.npz"
            )
        if save and save.lower().endswith(".png") and picture is None:
            raise UsageError("this model does not make images", hint="--save samples.csv")
        if (members := len(trained.model.parts)) > 1:
            each = "each draws its share" if not (means or interpolate or transfer) else "the first is used"
            console.note(f"{members} members of an ensemble: {each}")
        given: Rows | None = None
        source = trained.sampling_model if around == "rows" else trained.model
        if interpolate or transfer:
            purpose = "--interpolate" if interpolate else "--transfer"
            reader = rows_in(
                trained,
                chosen.info(),
                context,
                data,
                data_format=data_format,
                on_error="fail",
                purpose=purpose,
            )
        if interpolate:
            from flowgmm_cli.inference.inputs import select_rows

            given = select_rows(reader, [name for pair in ends for name in pair])
            made = walked(trained, _seen(trained, given, context), ends, steps=steps, path=way)
            mode = "interpolate"
        elif transfer:
            most = None if save and not save.lower().endswith(".png") else n
            given, made = carried(trained, reader, transfer, most, lambda rows: _seen(trained, rows, context))
            mode = "transfer"
        elif means:
            mode, made = "means", class_means(trained, source=source)
        else:
            made = drawn(trained, n, temperatures, classes=classes, seed=seed, source=source)
            mode = "draw"
        if given is not None:
            _say_loss(trained, given, context)
        texts = _texts(trained, made, chosen.info(), context, nearest)

    factor = temperatures[0] if len(temperatures) == 1 else temperatures
    fixed = {"temperature": factor, "seed": seed} if mode == "draw" else {}
    if save or not (as_json or texts):
        look = Picture(mode, given, temperatures)
        write_made(trained, made, texts, save or "-", format_, look=look)
    if as_json:
        console.print_json(
            {
                "schema": SCHEMA,
                "run": str(chosen.path),
                "mode": mode,
                "n": len(made),
                **fixed,
                "saved": save,
                "rows": made_rows(made, texts),
            }
        )
    elif texts and not save:
        show_texts(made, texts)
    if save and save != "-":
        console.note(f"written {save}: {len(made):,} rows")


def _check_words(
    classes: list[str] | None,
    n: int,
    means: bool,
    interpolate: tuple[str, str] | None,
    steps: int,
    path: str,
    transfer: str | None,
    data: str | None,
    nearest: int,
) -> InterpolationPath:
    from flowgmm_cli.errors import UsageError

    modes = {"--class": classes, "--means": means, "--interpolate": interpolate, "--transfer": transfer}
    chosen = [name for name, value in modes.items() if value]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} do not go together", hint="one of them at a time")
    if data and not (interpolate or transfer):
        raise UsageError(
            "--data names rows to start from, but none are asked for",
            hint="--interpolate ROW ROW or --transfer CLASS; the file to write is --save FILE",
        )
    bounds = {"-n": (n, 1), "--steps": (steps, 2), "--nearest": (nearest, 1)}
    for name, (value, least) in bounds.items():
        if value < least:
            raise UsageError(f"{name} is {value}, it must be at least {least}", hint="flowgmm sample --help")
    if path not in ("linear", "spherical"):
        raise UsageError(f"--path is linear or spherical, not `{path}`", hint="--path spherical")
    return "linear" if path == "linear" else "spherical"


def _seen(trained: TrainedModel, rows: Rows, context: DataContext) -> Any:
    return trained.preprocessor.apply(rows, context).x


def _say_loss(trained: TrainedModel, rows: Rows, context: DataContext) -> None:
    """How well given rows come back: through the flow, and through the transforms."""
    from flowgmm_cli.cli import console
    from flowgmm_cli.inference.interpolation import column_errors, round_trip_error

    x = _seen(trained, rows, context)
    console.note(f"given rows come back from the latent space within {round_trip_error(trained, x):.1g}")
    gone = {name: share for name, share in column_errors(trained, rows, x).items() if share > 1e-4}
    for name, share in gone.items():
        console.note(f"`{name}` comes back within {share:.2%} of its range: the transforms lose the rest")
    for reason in trained.preprocessor.inexact if gone else ():
        console.debug(reason)


def _texts(
    trained: TrainedModel, made: GeneratedRows, info: dict[str, Any], context: DataContext, nearest: int
) -> Columns:
    """Nearest training texts; nothing where the model reads no texts."""
    from flowgmm_cli.cli import console

    feature_encoder = trained.preprocessor.feature_encoder
    if not any(column.kind == "text" for column in feature_encoder.columns):
        return {}
    from flowgmm_cli.inference.inputs import load_run_rows
    from flowgmm_cli.inference.nearest_texts import nearest_text_columns

    rows = load_run_rows(
        trained,
        context,
        fingerprint=info.get("fingerprint"),
        warn=console.warn,
        purpose="showing texts near to a sample",
    )
    return nearest_text_columns(feature_encoder, made.features, rows.train, context, k=nearest)
