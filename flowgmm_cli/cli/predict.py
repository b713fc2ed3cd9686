"""`flowgmm predict`: classes, probabilities and out-of-distribution flags for rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli.options import (
    Data,
    Device,
    Format,
    InputFormat,
    Json,
    Offline,
    OnError,
    Only,
    PluginModule,
    Processes,
    Quiet,
    Run,
    RunFlag,
    Save,
    Verbose,
)

if TYPE_CHECKING:
    from flowgmm_cli.inference.predictions import OODRule, Totals
    from flowgmm_cli.trained import TrainedModel

SCHEMA = "flowgmm/predict/1"


def predict(
    run: Run = None,
    run_flag: RunFlag = None,
    data: Data = None,
    data_format: InputFormat = None,
    save: Save = None,
    format_: Format = None,
    only: Only = None,
    score_name: Annotated[
        str | None,
        typer.Option(
            "--score",
            metavar="NAME",
            help="Out-of-distribution score to use; the run's own choice without it.",
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
    on_error: OnError = "keep",
    device: Device = "auto",
    processes: Processes = 1,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Predict classes: one row for each row of the input, in order, to a file or to stdout.

    Columns: id, prediction, confidence, ood_score (higher = further out), is_ood, and p_<class> for the
    calibrated probability of each class. A row that cannot be scored keeps its place with empty cells.
    Without --data the run's own test rows are predicted.

    Examples: flowgmm predict --data new.csv --save out.csv · flowgmm predict --data - < new.csv | head -3 ·
    flowgmm predict runs/digits/latest --save p.parquet --only id,prediction
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.cli.answers import check_words, rows_in, say_totals, stopped_by_terminate, watched
    from flowgmm_cli.cli.work import chosen_run, data_context
    from flowgmm_cli.data.writers.open import open_writer
    from flowgmm_cli.errors import UsageError

    policy = check_words(data, save, as_json=as_json, on_error=on_error)
    if fpr is not None and not 0 < fpr < 1:
        raise UsageError(f"--fpr is {fpr}, it must lie between 0 and 1", hint="--fpr 0.05")
    # with --json alone there is no table to write
    writer = None if as_json and save is None else open_writer(save or "-", format=format_)
    chosen = chosen_run(run, run_flag)
    console.note("loading torch…")

    from flowgmm_cli.inference.predictions import Totals, column_names, prediction_columns, select_columns
    from flowgmm_cli.inference.scoring import score
    from flowgmm_cli.trained import TrainedModel

    with console.progress() as progress, stopped_by_terminate():
        context = data_context(progress, offline=offline)
        trained = TrainedModel.load(chosen.path, context=context)
        flag = _flag(trained, score_name, fpr)
        names = select_columns(only, column_names(trained.class_names))
        reader = rows_in(
            trained,
            chosen.info(),
            context,
            data,
            data_format=data_format,
            on_error=policy,
            purpose="predict without --data",
        )
        totals = Totals(len(trained.class_names))
        stream = score(
            trained,
            reader,
            scores=(flag.score,),
            context=context,
            on_error=policy,
            device=device,
            processes=processes,
            folder=chosen.path,
        )
        rows = watched(stream, progress, reader.total, "predict")
        if writer is None:
            for scored in rows:
                totals.add(scored, flag)
        else:
            with writer:
                for scored in rows:
                    columns = prediction_columns(scored, trained.class_names, flag)
                    writer.write({name: columns[name] for name in names})
                    totals.add(scored, flag)
    if save not in (None, "-"):
        console.note(f"written {save}: {totals.n:,} rows")
    if as_json:
        console.print_json(_summary(str(chosen.path), trained, totals, flag, save))
    elif save not in (None, "-"):
        _show(trained, totals, flag)
    if totals.accuracy is not None:
        console.note(
            f"labels  {totals.accuracy:.2%} of the {totals.labelled:,} labelled rows are predicted right"
        )
    say_totals(totals, reader.name)


def _flag(trained: TrainedModel, name: str | None, fpr: float | None) -> OODRule:
    """The score to use and its threshold."""
    from flowgmm_cli.inference.predictions import OODRule

    detector = trained.require_detector()
    chosen = detector.default if name is None else name
    share = trained.recipe.ood.fpr if fpr is None else fpr
    return OODRule(chosen, detector.threshold(chosen, share), share)


def _summary(
    run: str, trained: TrainedModel, totals: Totals, flag: OODRule, save: str | None
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "run": run,
        "n": totals.n,
        "unscorable": totals.unscorable,
        "reasons": totals.reasons,
        "saved": save,
        "classes": dict(zip(trained.class_names, totals.counts.tolist(), strict=True)),
        "flagged": totals.flagged,
        "score": flag.score,
        "threshold": flag.threshold,
        "fpr": flag.fpr,
        "labelled": totals.labelled,
        "accuracy": totals.accuracy,
        "seconds": round(totals.seconds, 3),
        "rows_per_second": round(totals.rows_per_second, 1),
    }


def _show(trained: TrainedModel, totals: Totals, flag: OODRule) -> None:
    """How many rows went to each class; stdout is free, for the rows are in a file."""
    from flowgmm_cli.cli import console

    scored = max(1, totals.n - totals.unscorable)
    console.print_table(
        ["class", "rows", "share"],
        [
            [name, f"{count:,}", f"{count / scored:.1%}"]
            for name, count in zip(trained.class_names, totals.counts.tolist(), strict=True)
        ],
        right=["rows", "share"],
    )
    console.note(
        f"ood     {totals.flagged:,} rows ({totals.flagged / scored:.1%}) score above "
        f"{flag.threshold:.4g} by {flag.score}, as {100 * flag.fpr:.3g}% of in-distribution rows do"
    )
