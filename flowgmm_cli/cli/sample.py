"""`flowgmm sample`: rows that a model generates, from its classes or from other rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import open_session
from flowgmm_cli.cli.validation import check_stdout, parse_floats, parse_row_pairs
from flowgmm_cli.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from flowgmm_cli.api import Rows
    from flowgmm_cli.cli.session import Session
    from flowgmm_cli.inference.samples import GeneratedRows
    from flowgmm_cli.inference.sampling import InterpolationPath
    from flowgmm_cli.model import Model
    from flowgmm_cli.trained_model import TrainedModel

SCHEMA = "flowgmm/sample/1"
ALL = "all"
"""Value of `--transfer` that stands for every class, unless a class has this name."""
_ROWS = 16  # by default
_IMAGES_PER_CLASS = 6  # of a picture, at each temperature

Classes = Annotated[
    list[str] | None,
    options.option(
        "--class -c NAME",
        "Draw rows of this class; can be repeated. Without it classes are drawn by their weights.",
    ),
]
SampleCount = Annotated[
    int | None,
    options.option(
        "--number -n",
        "Rows of each --class; without it, in all, by default 16. A PNG file without --class has "
        "equally many of every class, by default 6.",
        min=1,
    ),
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
Means = Annotated[bool, options.option("--means", "Generate the class means instead.")]
Interpolate = Annotated[
    tuple[str, str] | None,
    options.option(
        "--interpolate ROW ROW",
        "Generate a path between two rows instead: ids, or numbers from 1, of --data or the run's "
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
    options.option(
        "--transfer CLASS|all",
        "Move the first rows of --data, or test rows of all classes, into this class, or each, instead: "
        "its mean replaces the mean of their own class, and their residual stays.",
    ),
]
Nearest = Annotated[int, typer.Option(min=1, help="For texts: number of training texts shown for each row.")]


def sample(
    run: options.Run = None,
    run_flag: options.RunFlag = None,
    classes: Classes = None,
    n: SampleCount = None,
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
    as_json: options.Json = False,
) -> None:
    """Make rows: of classes, on the way between two rows, or of one class in the manner of another.

    Tables come in the columns and units of the input; of texts the nearest training texts are shown; images
    become a PNG grid, or arrays in an npz file. Each row has its log-density and the calibrated probability
    of its class.

    Examples: flowgmm sample --class Sports -n 16 · flowgmm sample -n 1000 --temperature 1 --save rows.csv ·
    flowgmm sample runs/digits/latest --class 3 --save threes.png · flowgmm sample --interpolate 5 17 ·
    flowgmm sample --transfer Business --data new.csv --save moved.csv · flowgmm sample --means ·
    flowgmm sample runs/digits/latest --class 3 --class 8 -n 6 --temperature 0.3,0.7,1 --save grid.png
    """
    flags = {"--class": classes, "--means": means, "--interpolate": interpolate, "--transfer": transfer}
    mode = _check_modes([name for name, value in flags.items() if value], data)
    temperatures = parse_floats(temperature, "--temperature")
    pairs = parse_row_pairs(interpolate)
    check_stdout(save, as_json=as_json)
    with open_session(run, run_flag) as session:
        from flowgmm_cli.cli import sample_output
        from flowgmm_cli.inference.inputs import balance_classes, read_first_rows, select_rows
        from flowgmm_cli.inference.sampling import class_means

        trained, origin = session.trained, None
        is_picture = save is not None and save.lower().endswith(".png")
        sample_output.check_image_file(trained, save, "samples", as_json=as_json)
        if (members := len(trained.model.parts)) > 1:
            use = "each draws its share" if mode == "draw" else "the first is used"
            output.note(f"ensemble of {members}: {use}")
        source = (trained.sampling_model if around == "rows" else None) or trained.model
        if mode == "means":
            rows = class_means(trained, source=source)
        elif mode == "draw":
            if is_picture and not classes:
                classes = list(trained.class_names)
                n = -(-n // len(classes)) if n else _IMAGES_PER_CLASS
            rows = _draw(trained, classes, n or _ROWS, temperatures, seed=seed, source=source)
        else:
            reader = session.open_rows(data, purpose=f"--{mode}", data_format=data_format)
            if mode == "interpolate":
                origin = select_rows(reader, [name for pair in pairs for name in pair])
                rows = _interpolate(session, origin, pairs, steps, path)
            else:
                whole = save is not None and not is_picture
                origin = read_first_rows(reader, None if whole or data is None else n or _ROWS)
                if not whole and data is None:
                    k = len(trained.class_names)
                    origin = origin.take(balance_classes(origin.labels, n or max(_ROWS // k, 1) * k))
                rows = _transfer(session, origin, transfer or ALL)
        texts = _find_nearest_texts(session, rows, nearest)
    if save or not (as_json or texts):
        at = f" at temperature {temperatures[0]:g}" if len(temperatures) == 1 else ""
        labels: dict[str, Any] = {"mode": mode, "origin": origin, "subtitle": f"samples{at}"}
        sample_output.write_samples(rows, texts, save or "-", format_, **labels)
    if as_json:
        values: dict[str, Any] = {"schema": SCHEMA, "run": str(session.run.path), "mode": mode}
        values |= {"n": len(rows)}
        if mode == "draw":
            factor = temperatures[0] if len(temperatures) == 1 else temperatures
            values |= {"temperature": factor, "seed": seed}
        output.print_json({**values, "saved": save, "rows": sample_output.rows_to_dicts(rows, texts)})
    elif texts and not save:
        sample_output.print_texts(rows, texts)


def _draw(
    trained: TrainedModel,
    names: Sequence[str] | None,
    n: int,
    temperatures: Sequence[float],
    *,
    seed: int,
    source: Model,
) -> GeneratedRows:
    """Draw `n` rows of each class, or in all by the classes' weights, at each temperature."""
    import torch

    from flowgmm_cli.inference.samples import class_index
    from flowgmm_cli.inference.sampling import draw_samples

    draws = []
    classes = [class_index(trained, name) for name in names] if names else None
    for temperature in temperatures:
        generator = torch.Generator().manual_seed(seed)  # the same numbers for all
        work: dict[str, Any] = {"temperature": temperature, "generator": generator, "source": source}
        draws.append(draw_samples(trained, n, classes=classes, **work))
    return draws[0] if len(draws) == 1 else draws[0].concatenate(draws, {"temperature": temperatures})


def _interpolate(
    session: Session, rows: Rows, pairs: Sequence[tuple[str, str]], steps: int, path: InterpolationPath
) -> GeneratedRows:
    """Generate a path of `steps` rows between the rows of each pair."""
    from flowgmm_cli.inference.sampling import interpolate

    x = _note_round_trip(session, rows)
    ends = [x[start : start + 2] for start in range(0, len(x), 2)]
    paths = [interpolate(session.trained, both, steps=steps, path=path) for both in ends]
    names = [f"{first} to {last}" for first, last in pairs]
    return paths[0] if len(paths) == 1 else paths[0].concatenate(paths, {"path": names})


def _transfer(session: Session, rows: Rows, target: str) -> GeneratedRows:
    """Transfer rows into a class, or into each (`ALL`)."""
    from flowgmm_cli.inference.samples import class_index
    from flowgmm_cli.inference.sampling import transfer

    trained = session.trained
    index = None if target == ALL and ALL not in trained.class_names else class_index(trained, target)
    return transfer(trained, _note_round_trip(session, rows), index, ids=rows.ids)


def _note_round_trip(session: Session, rows: Rows) -> Tensor:
    """Return the flow's inputs of rows; a note says how exactly flow and transforms can be inverted."""
    from flowgmm_cli.inference.sampling import column_errors, round_trip_error

    trained = session.trained
    x = trained.preprocessor.apply(rows, session.context).x
    error = round_trip_error(trained, x)
    output.note(f"the rows come back from the latent space with an error of at most {error:.1g}")
    errors = {name: share for name, share in column_errors(trained, rows, x).items() if share > 1e-4}
    causes = " and ".join(reason.partition(";")[0] for reason in trained.preprocessor.inexact)
    for name, share in errors.items():
        effect = "pictures come back less sharp" if trained.image else f"details of `{name}` are lost"
        size = f"a value changes by up to {share:.1%} of the range from the lowest to the highest"
        output.note(f"{causes or 'the transforms round'}, so {effect}: {size}")
    return x


def _find_nearest_texts(session: Session, rows: GeneratedRows, k: int) -> dict[str, npt.NDArray[Any]]:
    """Return columns of the k nearest training texts of each row; none if the model reads no texts."""
    encoder = session.trained.preprocessor.feature_encoder
    if not encoder.encoded:
        return {}
    from flowgmm_cli.inference.samples import nearest_text_columns

    training = session.own_rows("showing texts near to a sample").train
    return nearest_text_columns(encoder, rows.features, training, session.context, k=k)


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
