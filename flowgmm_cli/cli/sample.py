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
    flags = {"--class": classes, "--means": means, "--interpolate": interpolate, "--transfer": transfer}
    mode = _check_modes([name for name, value in flags.items() if value], data)
    temperatures = parse_floats(temperature, "--temperature")
    pairs = parse_row_pairs(interpolate)
    check_stdout(save, as_json=as_json)
    with open_session(run, run_flag, offline=offline) as session:
        from flowgmm_cli.cli import generate, sample_output
        from flowgmm_cli.inference.sampling import class_means

        trained, origin = session.trained, None
        sample_output.check_image_file(trained, save, "samples", as_json=as_json)
        if (members := len(trained.model.parts)) > 1:
            use = "each draws its share" if mode == "draw" else "the first is used"
            output.note(f"ensemble of {members}: {use}")
        source = (trained.sampling_model if around == "rows" else None) or trained.model
        if mode == "means":
            rows = class_means(trained, source=source)
        elif mode == "draw":
            rows = generate.draw(trained, classes, n, temperatures, seed=seed, source=source)
        else:
            reader = session.open_rows(data, purpose=f"--{mode}", data_format=data_format)
            if mode == "interpolate":
                rows, origin = generate.interpolate_pairs(session, reader, pairs, steps=steps, path=path)
            else:
                max_rows = None if save and not save.lower().endswith(".png") else n
                rows, origin = generate.transfer_rows(session, reader, transfer or generate.ALL, max_rows)
        texts = generate.find_nearest_texts(session, rows, nearest)
    if save or not (as_json or texts):
        at = f" at temperature {temperatures[0]:g}" if len(temperatures) == 1 else ""
        labels: dict[str, Any] = {"mode": mode, "origin": origin, "subtitle": f"samples{at}"}
        sample_output.write_samples(trained, rows, texts, save or "-", format_, **labels)
    if as_json:
        values: dict[str, Any] = {"schema": SCHEMA, "run": str(session.run.path), "mode": mode}
        values |= {"n": len(rows)}
        if mode == "draw":
            factor = temperatures[0] if len(temperatures) == 1 else temperatures
            values |= {"temperature": factor, "seed": seed}
        output.print_json({**values, "saved": save, "rows": sample_output.rows_to_dicts(rows, texts)})
    elif texts and not save:
        sample_output.print_texts(rows, texts)


def _check_modes(flags: list[str], data: str | None) -> str:
    """Return the mode, `interpolate`, `transfer`, `means` or `draw`.

    Raises `UsageError` if several are named, or `--data` has no use.
    """
    if len(flags) > 1:
        raise UsageError(f"{' and '.join(flags)} do not go together", hint="choose one of them")
    if data and not {"--interpolate", "--transfer"} & {*flags}:
        raise UsageError(
            "--data names rows to start from, which only --interpolate and --transfer use",
            hint="--interpolate ROW ROW or --transfer CLASS; the file to write is --save FILE",
        )
    return flags[0].removeprefix("--") if flags and flags != ["--class"] else "draw"
