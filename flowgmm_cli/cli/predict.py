"""`flowgmm predict`: classes, probabilities and out-of-distribution flags of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from flowgmm_cli.formatting import pluralise

if TYPE_CHECKING:
    from flowgmm_cli.inference.scores import Totals

SCHEMA = "flowgmm/predict/1"


def _describe_accuracy(totals: Totals) -> str:
    """Describe the accuracy on the labelled rows that the model was not trained on."""
    tested = totals.labelled - totals.seen
    if totals.accuracy is None:
        return f"no accuracy: the model was trained on all {tested + totals.seen:,} labelled rows"
    text = f"accuracy {totals.accuracy:.2%} on {pluralise(tested, 'labelled row')}"
    return f"{text}; {totals.seen:,} more are rows that the model was trained on" if totals.seen else text


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

    Examples: flowgmm predict --data new.csv --save out.csv · flowgmm predict --data new.csv --with all ·
    flowgmm predict runs/digits/latest --save p.parquet --only id,prediction
    """
    run, data = split_arguments(run, rows_file, data)
    table = open_table(data, save, format_, as_json=as_json)
    with open_session(run, run_flag) as session:
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
        names = select_columns(only, [*PREDICTION_COLUMNS, *probabilities])
        reader = session.open_rows(
            data, purpose="predict without --data", data_format=data_format, on_error=on_error, keep=with_
        )
        drift = Drift(session.trained, reader.name)
        work: dict[str, Any] = {"on_error": on_error, "device": device, "processes": processes}
        stream = session.score(reader, "predict", rule=rule, drift=drift, **work)
        totals = write_table(table, ((scores, scores.table()) for scores in stream), names)
    warnings = print_warnings(drift.warnings(totals, rule))
    if save not in (None, "-"):
        output.note(f"written {save}: {totals.n:,} rows")
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
        }
        output.print_json(totals_to_dict(SCHEMA, session, totals, save, **own))
    elif save not in (None, "-"):  # stdout is free, since the rows are in a file
        scored = max(1, totals.scored)
        counts = [(name, totals.predicted[name]) for name in classes]
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
