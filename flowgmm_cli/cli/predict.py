"""`flowgmm predict`: classes, probabilities and out-of-distribution flags of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.guarantee import Guarantee
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
    from flowgmm_cli.api import Rows
    from flowgmm_cli.cli.session import Session
    from flowgmm_cli.inference.scores import OODRule, Scores, Totals
    from flowgmm_cli.trained_model import TrainedModel

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
        from flowgmm_cli.inference.scores import OODRule, select_columns

        rule = OODRule.from_model(session.trained, score, fpr)
        guarantee = Guarantee.from_model(session.trained, coverage, coverage_by, min_confidence)
        reasons = _Reasons(session, nested=find_format(save or "-", format_) == "jsonl") if why else None
        more = [*guarantee.columns, *(reasons.columns if reasons else ())]
        names = select_columns(only, [*_own_columns(session.trained), *more])
        reader = session.open_rows(
            data, purpose="predict without --data", data_format=data_format, on_error=on_error, keep=with_
        )
        drift = Drift(session.trained, reader.name)
        work: dict[str, Any] = {"on_error": on_error, "device": device, "processes": processes}
        collected = CollectingReader(reader)
        stream = session.score(collected if reasons else reader, "predict", rule=rule, drift=drift, **work)

        def tables() -> Iterator[tuple[Scores, Mapping[str, Any]]]:
            for scores in stream:
                answer = guarantee.apply(scores)
                columns = dict(answer.table())
                yield answer, reasons.add(columns, collected.rows.pop(0), scores) if reasons else columns

        totals = write_table(table, tables(), names)
    warnings = print_warnings(drift.warnings(totals, rule))
    if save not in (None, "-"):
        output.note(f"written {save}: {totals.n:,} rows")
    guarantees = guarantee.note(totals)
    if as_json:
        own = {
            **_totals_to_dict(session.trained.class_names, totals, rule),
            "warnings": warnings,
            **guarantees,
            **({"why": reasons.rows} if reasons else {}),
        }
        output.print_json(totals_to_dict(SCHEMA, session, totals, save, **own))
    elif save not in (None, "-"):  # stdout is free, since the rows are in a file
        _print_totals(session.trained.class_names, totals, rule, abstains=min_confidence is not None)
    if totals.labelled:
        output.note(f"labels  {_describe_accuracy(totals)}")
    note_totals(reader.name, totals, labels=True)


class _Reasons:
    """Reasons of predictions, as columns and, of the first rows, as values for JSON."""

    def __init__(self, session: Session, *, nested: bool) -> None:
        from flowgmm_cli.inference.why import Explainer

        own = session.own_rows("predict --why")
        self._explainer = Explainer(session.trained, own.train, session.context)
        self._nested = nested
        self.columns = self._explainer.names
        self.rows: list[dict[str, Any]] = []

    def add(self, columns: Mapping[str, Any], rows: Rows, scores: Scores) -> dict[str, Any]:
        """Return the columns of predicted rows with those of their reasons."""
        explanation = self._explainer.explain(rows, scores.scorable)
        self.rows.extend(explanation.to_dicts()[: _LISTED - len(self.rows)])
        reasons = explanation.to_lists() if self._nested else explanation.table()
        return {**columns, **reasons, "id": columns["id"]}


def _own_columns(trained: TrainedModel) -> list[str]:
    """Return the columns of every prediction."""
    from flowgmm_cli.inference.scores import PREDICTION_COLUMNS, probability_columns

    return [*PREDICTION_COLUMNS, *probability_columns(trained.class_names, unknown=trained.model.unknown > 0)]


def _totals_to_dict(classes: Sequence[str], totals: Totals, rule: OODRule) -> dict[str, Any]:
    return {
        "classes": {name: totals.predicted[name] for name in classes},
        "flagged": totals.flagged,
        "score": rule.score,
        "threshold": rule.threshold,
        "fpr": rule.fpr,
        "labelled": totals.labelled,
        "trained_on": totals.seen,
        "accuracy": totals.accuracy,
        "unknown_labels": dict(totals.unknown),
    }


def _print_totals(classes: Sequence[str], totals: Totals, rule: OODRule, *, abstains: bool) -> None:
    """Print the number of rows of each class, and of flagged rows."""
    scored = max(1, totals.scored)
    counts = [(name, totals.predicted[name]) for name in classes]
    counts += [("(no prediction)", totals.abstained)] * abstains
    rows = [[name, f"{count:,}", f"{count / scored:.1%}"] for name, count in counts]
    output.print_table(["class", "rows", "share"], rows, right=["rows", "share"])
    output.note(
        f"ood     {totals.flagged:,} rows ({totals.flagged / scored:.1%}) have an ood_score "
        f"({rule.score}) above {rule.threshold:.4g}, which {100 * rule.fpr:.3g}% of in-distribution "
        "rows exceed"
    )


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
