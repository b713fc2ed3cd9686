"""`flowgmm ood`: how far rows are from what a run was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowgmm_cli.cli.options import (
    Device,
    Format,
    InputFormat,
    Json,
    Offline,
    OnError,
    PluginModule,
    Processes,
    Quiet,
    Run,
    RunFlag,
    Save,
    Verbose,
)

if TYPE_CHECKING:
    from flowgmm_cli.data.readers.base import RowReader
    from flowgmm_cli.inference.ood import ScoreSet
    from flowgmm_cli.inference.scoring import ScoredRows

GATES = ("auroc", "aupr_in", "aupr_out")
_KINDS = (
    "csv, tsv, parquet, jsonl, npz, npy, idx, txt, a folder of images, - for stdin, or a data spec such as "
    "'{use: csv, path: new.csv}'"
)
_MANY = 200_000  # rows from which on one is told that all scores take their time


def ood(
    run: Run = None,
    run_flag: RunFlag = None,
    inside: Annotated[
        str | None,
        typer.Option(
            "--in",
            metavar="FILE|-|SPEC",
            help=f"In-distribution rows to read: {_KINDS}. Without it the run's own held-out rows.",
            show_default=False,
        ),
    ] = None,
    outside: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE|-|SPEC",
            help="Rows to read that are held against them, in the same forms. The file to write is --save.",
            show_default=False,
        ),
    ] = None,
    data_format: InputFormat = None,
    score_name: Annotated[
        str | None,
        typer.Option(
            "--score",
            metavar="NAME",
            help="Score that flags; the run's own choice without it.",
            show_default=False,
        ),
    ] = None,
    fpr: Annotated[
        float | None,
        typer.Option(
            "--fpr",
            help="Share of in-distribution rows that may be flagged; the recipe's ood.fpr without it.",
            show_default=False,
        ),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Compute no other score than the one that flags, which is faster.")
    ] = False,
    save: Save = None,
    format_: Format = None,
    all_scores: Annotated[
        bool, typer.Option("--all-scores", help="Let --save write a column for each score.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE.png", help="Write a histogram of both sides.", show_default=False
        ),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            "--gallery",
            metavar="FILE.png",
            help="Of images: write those of --out by score, and the in-distribution ones that score highest.",
            show_default=False,
        ),
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-under",
            metavar="METRIC=VALUE",
            help="Exit with 7 if a metric of the score that flags is below a value; "
            f"one of {', '.join(GATES)}.",
            show_default=False,
        ),
    ] = None,
    on_error: OnError = "keep",
    device: Device = "auto",
    processes: Processes = 1,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Tell rows apart: the rows of --out against in-distribution rows, by every score of the run.

    Higher = further out, whatever the score; the rows of --out are the positives. --save writes id,
    ood_score, percentile (share of the run's held-out rows that score lower) and is_ood for each row of
    --out, in order; a row that cannot be scored keeps its place with empty cells.

    Examples: flowgmm ood --out unknown.csv · flowgmm ood --in mine.csv --out other.csv --plot scores.png ·
    flowgmm ood digits/latest --out new.npz --save scores.csv --fpr 0.01 ·
    flowgmm ood --out other.csv --fail-under auroc=0.9 · flowgmm ood --out letters.npz --gallery letters.png
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.cli.answers import check_words, rows_in, stopped_by_terminate, watched
    from flowgmm_cli.cli.detecting import (
        draw_gallery,
        load_run_rows,
        picture,
        require_images,
        require_rows,
        say,
        show,
        slug,
        warn_of_density,
    )
    from flowgmm_cli.cli.gates import hold, parse_gates
    from flowgmm_cli.cli.work import chosen_run, data_context
    from flowgmm_cli.data.writers.open import open_writer

    gates = parse_gates(fail_under or (), GATES)
    out = _required(outside, inside, fpr, {"--plot": plot, "--gallery": gallery})
    for data in (inside, out):
        policy = check_words(data, save, as_json=as_json, on_error=on_error)
    writer = open_writer(save, format=format_) if save is not None else None
    chosen = chosen_run(run, run_flag)
    console.note("loading torch…")

    import numpy as np

    from flowgmm_cli.files import write_bytes, write_json
    from flowgmm_cli.inference.gallery import ScoreRecord
    from flowgmm_cli.inference.ood import collect_scores, compare_scores, ood_columns
    from flowgmm_cli.inference.predictions import OODRule
    from flowgmm_cli.inference.scoring import score
    from flowgmm_cli.trained import TrainedModel

    with console.progress() as progress, stopped_by_terminate():
        context = data_context(progress, offline=offline)
        trained = TrainedModel.load(chosen.path, context=context)
        detector = trained.require_detector()
        if gallery is not None:
            require_images(trained)
        name = detector.default if score_name is None else score_name
        share = trained.recipe.ood.fpr if fpr is None else fpr
        rule = OODRule(name, detector.threshold(name, share), share)
        names = [name] if alone else list(detector.names)
        warn_of_density(trained, name)
        rng = np.random.default_rng(0)

        def side(
            reader: RowReader, what: str, each: Callable[[ScoredRows], None] = lambda scored: None
        ) -> ScoreSet:
            if not alone and (reader.total or 0) > _MANY:
                console.note(f"{reader.name}: {reader.total:,} rows; --alone computes one score only")
            stream = score(
                trained,
                reader,
                scores=names,
                context=context,
                on_error=policy,
                device=device,
                processes=processes,
                folder=chosen.path,
            )
            return collect_scores(
                reader.name, watched(stream, progress, reader.total, what), rule, rng, callback=each
            )

        def rows(data: str | None) -> RowReader:
            if data is None:
                return load_run_rows(trained, chosen, context)
            return rows_in(
                trained, chosen.info(), context, data, data_format=data_format, on_error=policy, purpose="ood"
            )

        others = [one for one in names if one != name] if all_scores else []
        with writer or nullcontext():
            # before the rows of --in, which take their time: a mistake in --out is then told at once
            outside_rows = rows(out)
            inside_rows = rows(inside)
            in_book, out_book = ScoreRecord(name), ScoreRecord(name)

            def answer(scored: ScoredRows) -> None:
                if writer:
                    writer.write(ood_columns(scored, detector, rule, others))
                if gallery is not None:
                    out_book.add(scored)

            kept = in_book.add if gallery is not None else lambda scored: None
            in_side = side(inside_rows, "score --in", kept)
            out_side = side(outside_rows, "score --out", answer)
            for one in (in_side, out_side):
                require_rows(one)
    result = compare_scores(
        str(chosen.path), in_side, out_side, default=detector.default, rule=rule, rng=np.random.default_rng(1)
    )
    file = chosen.path / "ood" / f"{slug(out)}{f'-against-{slug(inside)}' if inside else ''}.json"
    write_json(file, result.to_file())
    if gallery is not None:
        shown = draw_gallery(trained, (inside_rows, in_book), (outside_rows, out_book), rule)
        write_bytes(gallery, shown)
        console.note(f"written {gallery}")
    if plot is not None:
        write_bytes(plot, picture(result))
        console.note(f"written {plot}")
    if save not in (None, "-"):
        console.note(f"written {save}: {out_side.n + out_side.unscorable:,} rows")
    if as_json:
        console.print_json(result.to_dict())
    elif save != "-":
        show(result)
    say(result)
    found = result.metrics[name]
    hold(gates, {metric: getattr(found, metric) for metric in GATES}, of=f" of {name}")


def _required(
    outside: str | None, inside: str | None, fpr: float | None, figures: Mapping[str, Path | None]
) -> str:
    """Refuse words that make no sense; return `--out`.

    Raises:
        DataError: there is no such file.
        UsageError: `--out` is missing, or a flag has an impossible value.
    """
    from flowgmm_cli.errors import DataError, UsageError

    meaning = [
        "--out  rows to read: they are held against in-distribution rows",
        "--save file to write: id, ood_score, percentile and is_ood of each of these rows",
    ]
    example = "flowgmm ood --out unknown.csv --save scores.csv"
    if outside is None:
        raise UsageError("--out is missing: it names the rows to examine", details=meaning, hint=example)
    for flag, data in (("--in", inside), ("--out", outside)):
        if data is None or data == "-" or data.lstrip().startswith("{"):
            continue
        if not Path(data).expanduser().exists():
            raise DataError(
                f"{flag} {data}: there is no such file or folder to read",
                details=meaning if flag == "--out" else ["--in   in-distribution rows to read"],
                hint=example,
            )
    if inside == outside == "-":
        raise UsageError("--in and --out cannot both be read from stdin", hint="write one of them to a file")
    if fpr is not None and not 0 < fpr < 1:
        raise UsageError(f"--fpr is {fpr}, it must lie between 0 and 1", hint="--fpr 0.05")
    for flag, figure in figures.items():
        if figure is not None and figure.suffix.lower() != ".png":
            png = figure.with_suffix(".png")
            raise UsageError(f"{flag} {figure}: figures are PNG files", hint=f"{flag} {png}")
    if figures["--gallery"] is not None and "-" in (inside, outside):
        raise UsageError(
            "--gallery reads the rows twice, which stdin cannot be", hint="write the rows to a file first"
        )
    return outside
