"""`flowgmm eval`: a run's model on its own held-out rows, beside simple baselines, or on labelled rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import (
    data_context,
    file_stem,
    note_totals,
    open_session,
    print_warnings,
    select_run,
    write_model_card,
)
from flowgmm_cli.cli.validation import enforce_gates, parse_gates, split_arguments
from flowgmm_cli.errors import UsageError
from flowgmm_cli.files import write_json
from flowgmm_cli.formatting import format_optional

if TYPE_CHECKING:
    from flowgmm_cli.cli.session import Session
    from flowgmm_cli.evaluation.metrics import Evaluation
    from flowgmm_cli.runs import Run

_ROWS = {"test": "test", "val": "val", "cross_fitted": "cross-fitted"}
_MAX_CLASSES = 40  # that are listed, the largest
GATES = ("accuracy", "balanced_accuracy", "macro_f1")


SplitName = Annotated[Literal["test", "val"], options.option("--split", "test, or val if it has labels.")]
LabelledData = Annotated[
    str | None,
    options.option("--data FILE|-|SPEC", "Labelled rows instead of the run's own, as predict takes them."),
]
Baselines = Annotated[
    bool,
    options.option(
        "--baselines",
        "Compare with logistic regression, kNN, label spreading, self-training, an MLP, extra trees, "
        "LDA, an SVM and the baselines of plugins, all on the same vectors and labels.",
    ),
]
Plots = Annotated[
    bool,
    options.option("--plots", "Write figures into eval/: reliability, confusion, latents, decision regions."),
]


def evaluate(
    run: options.Run = None,
    rows_file: options.RowsArgument = None,
    run_flag: options.RunFlag = None,
    split: SplitName = "test",
    data: LabelledData = None,
    data_format: options.DataFormat = None,
    baselines: Baselines = False,
    plots: Plots = False,
    fail_under: options.FailUnder = None,
    as_json: options.Json = False,
) -> None:
    """Evaluate a run: accuracy, calibration and density, by class, with confidence intervals.

    With --data the rows of a file are evaluated. Labels that are no class of the model count as wrong, and
    the NLL is that of the other rows. Rows without a label, and rows whose label the training used, are left
    out.

    Metrics of --fail-under: accuracy, balanced_accuracy, macro_f1.

    Examples: flowgmm eval · flowgmm eval runs/digits/latest --baselines --plots ·
    flowgmm eval --data new.csv --fail-under accuracy=0.9
    """
    run, data = split_arguments(run, rows_file, data)
    gates = parse_gates(fail_under, GATES)
    flags = {"--split": split != "test", "--baselines": baselines, "--plots": plots}
    if data is not None and (used := [flag for flag, value in flags.items() if value]):
        raise UsageError(
            f"{used[0]} is for the run's own rows, not for those of --data", hint=f"leave out {used[0]}"
        )
    if data is None:
        from flowgmm_cli.evaluation.result_warnings import model_warnings

        selected = select_run(run, run_flag)
        result = _evaluate_split(selected, split, baselines=baselines)
        warnings = model_warnings(selected.info().get("calibration") or {}, result)
        values = {**result.to_dict(str(selected.path)), "warnings": print_warnings(warnings)}
    else:
        with open_session(run, run_flag) as session:
            selected = session.run
            result, more = _evaluate_file(session, data, data_format)
            values = {**result.to_dict(str(selected.path)), **more}
        write_json(selected.path / "eval" / f"data-{file_stem(data)}.json", values)
    if as_json:
        output.print_json(values)
    else:
        _print_methods(str(selected.path), result)
        _print_classes(result)
        _print_calibration(result)
        if data is None:
            _print_scores(selected.info().get("ood"))
    if plots:
        from flowgmm_cli.report.report import write_plots

        with output.progress() as progress:
            for file in write_plots(selected, result, context=data_context(progress)):
                output.note(f"written {file}")
    enforce_gates(gates, result.metrics())


def _evaluate_split(run: Run, split: str, *, baselines: bool) -> Evaluation:
    output.note("loading torch…")
    from flowgmm_cli.inference.evaluate_run import evaluate_run

    with output.progress() as progress:
        context = data_context(progress)
        work: dict[str, Any] = {"context": context, "progress": progress, "warn": output.warn}
        result = evaluate_run(run, split=split, with_baselines=baselines, **work)
        if baselines and split == "test":
            write_model_card(run, context)
        return result


def _evaluate_file(session: Session, data: str, data_format: str | None) -> tuple[Evaluation, dict[str, Any]]:
    """Evaluate the labelled rows of a file; also return counts of its rows, for JSON."""
    from flowgmm_cli.evaluation.result_warnings import evaluation_warnings
    from flowgmm_cli.inference.drift import Drift
    from flowgmm_cli.inference.evaluate_run import evaluate_scores
    from flowgmm_cli.inference.scores import Scores, Totals

    reader = session.open_rows(data, purpose="eval", data_format=data_format, on_error="keep")
    totals, parts = Totals(), []
    drift = Drift(session.trained, reader.name)
    for scores in session.score(reader, "eval", drift=drift):
        totals.add(scores)
        parts.append(scores)
    note_totals(reader.name, totals, labels=True)
    if totals.seen:
        output.note(
            f"rows    the model was trained on {totals.seen:,} of the {totals.labelled:,} labelled rows; "
            "they are left out"
        )
    if unlabelled := totals.scored - totals.labelled:
        output.note(f"rows    {unlabelled:,} of the {totals.scored:,} rows have no label and are left out")
    result = evaluate_scores(Scores.concatenate(parts), reader.name, session.trained)
    warnings = [*drift.warnings(), *evaluation_warnings(result, session.trained.class_names)]
    return result, {
        "data": reader.name,
        "unlabelled": unlabelled,
        "trained_on": totals.seen,
        "unscorable": totals.unscorable,
        "unknown_labels": dict(totals.unknown),
        "warnings": print_warnings(warnings),
    }


def _print_methods(run: str, result: Evaluation) -> None:
    """Print the model's metrics, beside those of baselines if there are any, with the verdict on them."""
    from flowgmm_cli.report.baselines import METRICS, comparison_tables
    from flowgmm_cli.report.text import describe_cross_fitted

    metrics = result.classification
    title = f"{run}: {metrics.n:,} {_ROWS.get(result.split, 'labelled')} rows"
    if result.baselines:
        for table in comparison_tables(result):
            optional = ["ECE", "macro F1", "balanced", "NLL"]
            output.print_table(table.columns, table.rows, right=table.right, title=title, optional=optional)
            output.print_text("")
            title = f"{result.cross_fitted.n:,} labelled rows, cross-fitted" if result.cross_fitted else ""
    else:
        interval = metrics.intervals["accuracy"]
        span = f"{interval.low:.4f} to {interval.high:.4f}"
        numbers = [f"{vars(metrics)[name]:.4f}" for name in METRICS.values()]
        columns = ["method", "accuracy", "95 % interval", *METRICS]
        row = ["flowgmm", f"{metrics.accuracy:.4f}", span, *numbers]
        output.print_table(columns, [row], right=["accuracy", *METRICS], title=title)
    if result.cross_fitted:
        output.print_text(describe_cross_fitted(result.cross_fitted))
    if result.verdict:
        output.print_text(result.verdict.text)
    if result.unknown:
        output.print_text(f"{result.unknown.describe()}; see `flowgmm discover`")
        if text := result.unknown.describe_labelled():
            output.print_text(text)


def _print_classes(result: Evaluation) -> None:
    output.print_text("")
    listed = classes = result.classification.per_class
    if len(classes) > _MAX_CLASSES:
        listed = tuple(sorted(classes, key=lambda row: -row.support)[:_MAX_CLASSES])
    numbers = ["precision", "recall", "F1", "rows", "predicted"]
    rows = [
        [row.name, *map(format_optional, (row.precision, row.recall, row.f1)), row.support, row.predicted]
        for row in listed
    ]
    output.print_table(["class", *numbers], rows, right=numbers)
    if len(listed) < len(classes):
        some = f"{len(listed)} of {len(classes):,}"
        output.note(f"classes the {some} with the most rows are listed; --json has all")
    if averages := result.classification.describe_averages():
        output.note(f"classes {averages}")


def _print_calibration(result: Evaluation) -> None:
    metrics = result.classification
    numbers = ["rows", "mean confidence", "accuracy"]
    rows = [
        [f"{b.low:.2f} to {b.high:.2f}", b.count, f"{b.confidence:.3f}", f"{b.accuracy:.3f}"]
        for b in metrics.reliability
        if b.confidence is not None and b.accuracy is not None
    ]
    title = (
        f"calibration: Brier {metrics.brier:.4f}, ECE {metrics.ece:.4f} with bins of equal width, "
        f"{metrics.adaptive_ece:.4f} with bins of equal mass"
    )
    output.print_text("")
    output.print_table(["confidence", *numbers], rows, right=numbers, title=title)
    bits = f", {result.bits_per_dim:.3f} bits/dim" if result.bits_per_dim is not None else ""
    if result.density_nll is not None:
        output.note(f"density: mean -log p(x) = {result.density_nll:.3f} nats per row{bits}")


def _print_scores(ood: dict[str, Any] | None) -> None:
    """Print the out-of-distribution scores of a run with the values that they were selected by."""
    if not ood or not ood.get("choice"):
        return
    kinds = list(next(iter(ood["choice"].values())))
    rows = [
        [name, "flags" if name == ood["default"] else "", *(f"{values[kind]:.4f}" for kind in kinds)]
        for name, values in ood["choice"].items()
    ]
    title = (
        "out-of-distribution scores: AUROC against pseudo-OOD rows made from the run's own rows; "
        f"{ood['default']} flags above {ood['threshold']:.4g} (flowgmm ood compares them on your own rows)"
    )
    output.print_text("")
    output.print_table(["score", "", *kinds], rows, right=kinds, title=title)
