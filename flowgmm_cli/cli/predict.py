"""`flowgmm predict`: classes, probabilities and out-of-distribution flags of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import (
    note_totals,
    open_session,
    open_table,
    print_warnings,
    totals_to_dict,
    write_table,
)
from flowgmm_cli.cli.validation import split_arguments
from flowgmm_cli.errors import UsageError
from flowgmm_cli.formatting import pluralise

if TYPE_CHECKING:
    from flowgmm_cli.conformal import HeldOutLabels, Thresholds
    from flowgmm_cli.inference.scores import Scores, Totals

SCHEMA = "flowgmm/predict/1"


Coverage = Annotated[
    float | None,
    options.option(
        "--coverage C",
        "Add the classes of each row that hold the right one with this probability, such as 0.9: columns "
        "classes (joined by |) and n_classes.",
    ),
]
CoverageBy = Annotated[
    Literal["all", "class"],
    options.option("--coverage-by all|class", "Reach the coverage over all rows, or within each class."),
]
MinConfidence = Annotated[
    float | None,
    options.option(
        "--min-confidence P",
        "Leave the prediction empty below this confidence; adds the column abstained.",
        min=0,
        max=1,
    ),
]
Why = Annotated[
    bool,
    options.option(
        "--why",
        "Add the columns or words behind each class and each low density, the nearest ordinary training row, "
        "and for numbers a change to another class: why, why_ood, nearest, change.",
    ),
]
_LISTED = 100  # rows with reasons in the JSON output


def _describe_accuracy(totals: Totals) -> str:
    """Describe the accuracy on the labelled rows that the model was not trained on."""
    unseen = totals.labelled - totals.seen
    if not unseen:
        return f"no accuracy: the model was trained on all {totals.seen:,} labelled rows"
    if totals.accuracy is None:
        return f"no accuracy: all {pluralise(unseen, 'labelled row')} have a lower confidence"
    text = f"accuracy {totals.accuracy:.2%} on {pluralise(totals.tested, 'labelled row')}"
    text += f"; {unseen - totals.tested:,} more have no prediction" if unseen > totals.tested else ""
    return f"{text}; {totals.seen:,} more are rows that the model was trained on" if totals.seen else text


def _note_sets(thresholds: Thresholds, totals: Totals) -> dict[str, Any]:
    """Print the coverage that held-out labels give the sets, and their sizes; return both for JSON."""
    if few := thresholds.describe_few():
        output.warn(few)
    sizes, scored = totals.set_sizes, max(1, totals.scored)
    mean_size, (low, high) = sum(size * n for size, n in sizes.items()) / scored, thresholds.interval
    rows = "rows of each class" if thresholds.by_class else "such rows"
    output.note(
        f"sets    hold the right class for about {100 * thresholds.coverage:.4g}% of {rows}; with the "
        f"{thresholds.labels:,} labels held out in training, for {low:.1%} to {high:.1%}"
    )
    empty = f", and none in {sizes[0] / scored:.1%}, where no class is likely enough" if sizes[0] else ""
    output.note(
        f"sets    {mean_size:.2f} classes in the mean; a single one in {sizes[1] / scored:.1%} of rows{empty}"
    )
    values = {
        "level": thresholds.coverage,
        "by": "class" if thresholds.by_class else "all",
        "labels": thresholds.labels,
        "interval": [low, high],
        "few": list(thresholds.few),
        "mean_size": mean_size,
        "sizes": dict(sorted(sizes.items())),
        "measured": None,
    }
    if unseen := totals.labelled - totals.seen:
        values["measured"] = totals.covered / unseen
        rows = pluralise(unseen, "labelled row")
        output.note(f"sets    {totals.covered / unseen:.2%} of {rows} have their class in the set")
    return values


def _note_answers(min_confidence: float, held_out: HeldOutLabels, totals: Totals) -> dict[str, Any]:
    """Print how many held-out labels have this confidence and how many of them are right; also for JSON."""
    n, (answered, correct) = len(held_out), held_out.count_answers(min_confidence)
    output.note(
        f"answers {totals.abstained:,} rows ({totals.abstained / max(1, totals.scored):.1%}) have no "
        f"prediction: their confidence is below {min_confidence:g}"
    )
    if not n:
        output.warn(
            "no label was held out in training, so the accuracy of the other predictions is not known"
        )
        return {"min_confidence": min_confidence, "abstained": totals.abstained, "held_out": None}
    right = "so there is no accuracy"
    values: dict[str, Any] = {"rows": n, "answered": answered / n, "accuracy": None, "interval": None}
    if answered:
        from flowgmm_cli.evaluation.intervals import wilson_interval

        interval = wilson_interval(correct, answered)
        values |= {"accuracy": correct / answered, "interval": [interval.low, interval.high]}
        right = f"and {correct / answered:.1%} of these are right ({interval.low:.1%} to {interval.high:.1%})"
    output.note(
        f"answers {answered / n:.1%} of {n:,} rows held out in training have that confidence, {right}"
    )
    return {"min_confidence": min_confidence, "abstained": totals.abstained, "held_out": values}


def predict(
    run: options.Run = None,
    rows_file: options.RowsArgument = None,
    run_flag: options.RunFlag = None,
    data: options.Data = None,
    data_format: options.DataFormat = None,
    save: options.Save = None,
    format_: options.Format = None,
    only: options.Only = None,
    with_: options.With = None,
    score: options.Score = None,
    fpr: options.Fpr = None,
    coverage: Coverage = None,
    coverage_by: CoverageBy = "all",
    min_confidence: MinConfidence = None,
    why: Why = False,
    on_error: options.OnError = "keep",
    device: options.Device = "auto",
    processes: options.Processes = 1,
    as_json: options.Json = False,
) -> None:
    """Predict classes: one row for each row of the input, in order, to a file or to stdout.

    Columns: id, prediction, confidence, ood_score (higher = further out), is_ood, and p_<class> for the
    calibrated probability of each class; with prior.unknown also p_unknown, that of none of the classes. A
    row that cannot be scored keeps its place with empty cells. Without --data the run's own test rows are
    predicted. --with keeps columns of the input; one with the name of an output column is written as
    input_<name>.

    --coverage and --min-confidence rest on labels that folds or a validation split have held out in training.

    --why replaces each cell by others of its column, leaves each word out, and predicts again. Effects
    are in nats. It reads the run's own rows.

    Examples: flowgmm predict --data new.csv --save out.csv · flowgmm predict --data new.csv --with all ·
    flowgmm predict runs/digits/latest --save p.parquet --only id,prediction ·
    flowgmm predict --data new.csv --coverage 0.9 --min-confidence 0.8 --save out.csv
    """
    if coverage is None and coverage_by != "all":
        raise UsageError("--coverage-by goes with a coverage", hint="--coverage 0.9 --coverage-by class")
    run, data = split_arguments(run, rows_file, data)
    table = open_table(data, save, format_, as_json=as_json)
    with open_session(run, run_flag) as session:
        from flowgmm_cli.data.writers.base import find_format
        from flowgmm_cli.inference.discovery import CollectingReader
        from flowgmm_cli.inference.drift import Drift
        from flowgmm_cli.inference.scores import (
            PREDICTION_COLUMNS,
            OODRule,
            probability_columns,
            select_columns,
        )

        classes = session.trained.class_names
        rule = OODRule.from_model(session.trained, score, fpr)
        probabilities = probability_columns(classes, unknown=session.trained.model.unknown > 0)
        sets: dict[str, Any] = {"thresholds": None, "min_confidence": min_confidence}
        if coverage is not None:
            held_out, by_class = session.trained.held_out, coverage_by == "class"
            sets["thresholds"] = held_out.class_thresholds(coverage, classes, by_class=by_class)
        more = ["classes", "n_classes"] if coverage is not None else []
        more += ["abstained"] if min_confidence is not None else []
        explainer = None
        if why:
            from flowgmm_cli.inference.why import Explainer

            explainer = Explainer(session.trained, session.own_rows("predict --why").train, session.context)
            more += explainer.names
        names = select_columns(only, [*PREDICTION_COLUMNS, *probabilities, *more])
        reader = session.open_rows(
            data, purpose="predict without --data", data_format=data_format, on_error=on_error, keep=with_
        )
        drift = Drift(session.trained, reader.name)
        work: dict[str, Any] = {"on_error": on_error, "device": device, "processes": processes}
        collected = CollectingReader(reader)
        stream = session.score(collected if explainer else reader, "predict", rule=rule, drift=drift, **work)
        reasons: list[dict[str, Any]] = []
        nested = find_format(save or "-", format_) == "jsonl"

        def tables() -> Iterator[tuple[Scores, Mapping[str, Any]]]:
            for scores in stream:
                answer = replace(scores, **sets)
                columns = dict(answer.table())
                if explainer:
                    explanation = explainer.explain(collected.rows.pop(0), scores.scorable)
                    found = explanation.to_lists() if nested else explanation.table()
                    columns |= {**found, "id": columns["id"]}
                    reasons.extend(explanation.to_dicts()[: _LISTED - len(reasons)])
                yield answer, columns

        totals = write_table(table, tables(), names)
    warnings = print_warnings(drift.warnings(totals, rule))
    if save not in (None, "-"):
        output.note(f"written {save}: {totals.n:,} rows")
    guarantees: dict[str, Any] = {}
    if sets["thresholds"] is not None:
        guarantees["coverage"] = _note_sets(sets["thresholds"], totals)
    if min_confidence is not None:
        guarantees["abstention"] = _note_answers(min_confidence, session.trained.held_out, totals)
    if as_json:
        own = {
            "classes": {name: totals.predicted[name] for name in classes},
            "flagged": totals.flagged,
            "score": rule.score,
            "threshold": rule.threshold,
            "fpr": rule.fpr,
            "labelled": totals.labelled,
            "trained_on": totals.seen,
            "accuracy": totals.accuracy,
            "unknown_labels": dict(totals.unknown),
            "warnings": warnings,
            **guarantees,
            **({"why": reasons} if why else {}),
        }
        output.print_json(totals_to_dict(SCHEMA, session, totals, save, **own))
    elif save not in (None, "-"):  # stdout is free, since the rows are in a file
        scored = max(1, totals.scored)
        counts = [(name, totals.predicted[name]) for name in classes]
        counts += [("(no prediction)", totals.abstained)] * (min_confidence is not None)
        rows = [[name, f"{count:,}", f"{count / scored:.1%}"] for name, count in counts]
        output.print_table(["class", "rows", "share"], rows, right=["rows", "share"])
        output.note(
            f"ood     {totals.flagged:,} rows ({totals.flagged / scored:.1%}) have an ood_score "
            f"({rule.score}) above {rule.threshold:.4g}, which {100 * rule.fpr:.3g}% of in-distribution "
            "rows exceed"
        )
    if totals.labelled:
        output.note(f"labels  {_describe_accuracy(totals)}")
    note_totals(reader.name, totals, labels=True)
