"""`flowgmm predict`: classes, probabilities and out-of-distribution flags of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import note_throughput, open_session, open_table, totals_to_dict, warn_unscorable
from flowgmm_cli.cli.validation import check_fpr

if TYPE_CHECKING:
    from flowgmm_cli.inference.predictions import OODRule, Totals

SCHEMA = "flowgmm/predict/1"


def predict(
    run: options.Run = None,
    run_flag: options.RunFlag = None,
    data: options.Data = None,
    data_format: options.DataFormat = None,
    save: options.Save = None,
    format_: options.Format = None,
    only: options.Only = None,
    score: options.Score = None,
    fpr: options.Fpr = None,
    on_error: options.OnError = "keep",
    device: options.Device = "auto",
    processes: options.Processes = 1,
    offline: options.Offline = False,
    as_json: options.Json = False,
) -> None:
    """Predict classes: one row for each row of the input, in order, to a file or to stdout.

    Columns: id, prediction, confidence, ood_score (higher = further out), is_ood, and p_<class> for the
    calibrated probability of each class. A row that cannot be scored keeps its place with empty cells.
    Without --data the run's own test rows are predicted.

    Examples: flowgmm predict --data new.csv --save out.csv · flowgmm predict --data - < new.csv | head -3 ·
    flowgmm predict runs/digits/latest --save p.parquet --only id,prediction
    """
    writer_context = open_table(data, save, format_, as_json=as_json)
    check_fpr(fpr)
    with open_session(run, run_flag, offline=offline) as session:
        from flowgmm_cli.inference.predictions import Totals, column_names, prediction_columns, select_columns

        class_names = session.trained.class_names
        rule = session.ood_rule(score, fpr)
        names = select_columns(only, column_names(class_names))
        reader = session.open_rows(
            data, purpose="predict without --data", data_format=data_format, on_error=on_error
        )
        totals = Totals(len(class_names))
        stream = session.score(
            reader, "predict", scores=[rule.score], on_error=on_error, device=device, processes=processes
        )
        with writer_context as writer:
            for scored in stream:
                totals.add(scored, rule)
                if writer:
                    columns = prediction_columns(scored, class_names, rule)
                    writer.write({name: columns[name] for name in names})
    if save not in (None, "-"):
        output.note(f"written {save}: {totals.n:,} rows")
    if as_json:
        own = {
            "classes": dict(zip(class_names, totals.counts.tolist(), strict=True)),
            "flagged": totals.flagged,
            "score": rule.score,
            "threshold": rule.threshold,
            "fpr": rule.fpr,
            "labelled": totals.labelled,
            "accuracy": totals.accuracy,
        }
        output.print_json(totals_to_dict(SCHEMA, session, totals, save, **own))
    elif save not in (None, "-"):
        _print_summary(class_names, totals, rule)
    if totals.accuracy is not None:
        output.note(f"labels  accuracy {totals.accuracy:.2%} on the {totals.labelled:,} labelled rows")
    warn_unscorable(reader.name, totals.n, totals.unscorable, totals.reasons)
    note_throughput(totals.n, totals.seconds)


def _print_summary(class_names: tuple[str, ...], totals: Totals, rule: OODRule) -> None:
    """Print the number of rows of each class; stdout is free, since the rows are in a file."""
    scored = max(1, totals.n - totals.unscorable)
    output.print_table(
        ["class", "rows", "share"],
        [
            [name, f"{count:,}", f"{count / scored:.1%}"]
            for name, count in zip(class_names, totals.counts.tolist(), strict=True)
        ],
        right=["rows", "share"],
    )
    output.note(
        f"ood     {totals.flagged:,} rows ({totals.flagged / scored:.1%}) have a {rule.score} score above "
        f"{rule.threshold:.4g}, which {100 * rule.fpr:.3g}% of in-distribution rows exceed"
    )
