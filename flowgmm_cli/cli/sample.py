"""`flowgmm sample`: rows that a model generates, from its classes or from other rows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import open_session
from flowgmm_cli.cli.validation import check_stdout, parse_floats, parse_row_pairs
from flowgmm_cli.errors import UsageError

SCHEMA = "flowgmm/sample/1"


Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        "-c",
        metavar="NAME",
        help="Draw rows of this class; can be repeated. Without it classes are drawn by their weights.",
    ),
]
SampleCount = Annotated[
    int, typer.Option("--number", "-n", min=1, help="Rows of each --class; without it, in all.")
]
Temperature = Annotated[
    str,
    typer.Option(
        metavar="T[,T...]",
        help="Factor on the standard deviations: 1 follows the model's density, less stays closer to "
        "the class means (0). Several values are shown side by side.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the random numbers.")]
Around = Annotated[
    Literal["rows", "means"],
    typer.Option(
        metavar="rows|means",
        help="Draw around the training rows of each class, which gives rows that look like them, or "
        "around the class means that the classifier uses.",
    ),
]
Means = Annotated[bool, typer.Option("--means", help="Generate the class means instead.")]
Interpolate = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--interpolate",
        metavar="ROW ROW",
        help="Generate a path between two rows instead: ids, or numbers from 1, of --data or the run's "
        "test rows; with commas several paths, such as 5,9 17,2.",
    ),
]
Steps = Annotated[int, typer.Option(min=2, help="Rows of a path, both ends included.")]
PathShape = Annotated[
    Literal["linear", "spherical"],
    typer.Option(
        metavar="linear|spherical",
        help="A straight path through the latent space, or one that keeps the rows' distance from the means.",
    ),
]
Transfer = Annotated[
    str | None,
    typer.Option(
        "--transfer",
        metavar="CLASS|all",
        help="Move rows of --data, or the run's test rows, into this class, or each, instead: its mean "
        "replaces the mean of their own class, and their residual stays.",
    ),
]
Nearest = Annotated[int, typer.Option(min=1, help="For texts: number of training texts shown for each row.")]


def sample(
    run: options.Run = None,
    run_flag: options.RunFlag = None,
    classes: Classes = None,
    n: SampleCount = 16,
    temperature: Temperature = "0.7",
    seed: Seed = 0,
    around: Around = "rows",
    means: Means = False,
    interpolate: Interpolate = None,
    steps: Steps = 8,
    path: PathShape = "linear",
    transfer: Transfer = None,
    data: options.Data = None,
    data_format: options.DataFormat = None,
    nearest: Nearest = 3,
    save: options.SaveSamples = None,
    format_: options.Format = None,
    offline: options.Offline = False,
    as_json: options.Json = False,
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
    modes = {"--class": classes, "--means": means, "--interpolate": interpolate, "--transfer": transfer}
    _check_modes([name for name, value in modes.items() if value], data)
    temperatures = parse_floats(temperature, "--temperature")
    pairs = parse_row_pairs(interpolate)
    check_stdout(save, as_json=as_json)
    with open_session(run, run_flag, offline=offline) as session:
        from flowgmm_cli.cli import sample_output
        from flowgmm_cli.cli.generate import Request, find_nearest_texts, generate

        sample_output.check_image_file(session.trained, save, "samples", as_json=as_json)
        request = Request(
            classes=classes,
            n=n,
            temperatures=temperatures,
            seed=seed,
            around=around,
            means=means,
            pairs=pairs,
            steps=steps,
            path=path,
            target=transfer,
            max_rows=None if save and not save.lower().endswith(".png") else n,
            data=data,
            data_format=data_format,
        )
        if (members := len(session.trained.model.parts)) > 1:
            use = "each draws its share" if request.mode == "draw" else "the first is used"
            output.note(f"ensemble of {members}: {use}")
        rows, source = generate(session, request)
        texts = find_nearest_texts(session, rows, nearest)
    if save or not (as_json or texts):
        layout = sample_output.FigureLayout(request.mode, source, temperatures)
        sample_output.write_samples(session.trained, rows, texts, save or "-", format_, layout=layout)
    if as_json:
        values: dict[str, Any] = {"schema": SCHEMA, "run": str(session.run.path), "mode": request.mode}
        values |= {"n": len(rows)}
        if request.mode == "draw":
            factor = temperatures[0] if len(temperatures) == 1 else temperatures
            values |= {"temperature": factor, "seed": seed}
        output.print_json({**values, "saved": save, "rows": sample_output.rows_to_dicts(rows, texts)})
    elif texts and not save:
        sample_output.print_texts(rows, texts)


def _check_modes(modes: list[str], data: str | None) -> None:
    """Raise `UsageError` if several ways to generate rows are named, or `--data` has no use."""
    if len(modes) > 1:
        raise UsageError(f"{' and '.join(modes)} do not go together", hint="choose one of them")
    if data and not {"--interpolate", "--transfer"} & {*modes}:
        raise UsageError(
            "--data names rows to start from, which only --interpolate and --transfer use",
            hint="--interpolate ROW ROW or --transfer CLASS; the file to write is --save FILE",
        )
