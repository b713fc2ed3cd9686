"""The model beside the baselines: tables for the report, the model card and `flowgmm eval`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flowgmm_cli.evaluation.intervals import Difference
from flowgmm_cli.evaluation.metrics import Evaluation
from flowgmm_cli.formatting import method_name, pluralise
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.page import Paragraph, Part, Table
from flowgmm_cli.report.text import describe_verdict

MODEL = "flowgmm"
METRICS = {"balanced": "balanced_accuracy", "macro F1": "macro_f1", "NLL": "nll", "ECE": "ece"}
_CROSS_FITTED = "labelled rows, cross-fitted: each was predicted after a fit without its label"


def comparison_tables(evaluation: Evaluation) -> list[Table]:
    """Return a table of the evaluated rows and one of the cross-fitted rows, the most accurate method first.

    The difference of a baseline is its accuracy minus that of the model, with its paired interval and the
    p-value of McNemar's test.
    """
    metrics, summary, baselines = evaluation.classification, evaluation.cross_fitted, evaluation.baselines
    is_test = evaluation.split != "cross_fitted"
    title = pluralise(metrics.n, f"{evaluation.split} row") if is_test else f"{metrics.n:,} {_CROSS_FITTED}"
    tables = [_table(title, vars(metrics), {name: vars(row) for name, row in baselines.items()})]
    folds = {name: vars(row.cross_fitted) for name, row in baselines.items() if row.cross_fitted}
    if summary and folds and is_test:
        tables.append(_table(f"{summary.n:,} {_CROSS_FITTED}", summary.metrics, folds))
    return tables


def _table(title: str, model: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = []
    for name, values in sorted({MODEL: model, **baselines}.items(), key=lambda item: -item[1]["accuracy"]):
        gap: Difference | None = values.get("difference")
        cells = ["", "", ""]
        if gap is not None:
            p = gap.p_value or 0.0
            span = f"{gap.low:+.4f} to {gap.high:+.4f}"
            cells = [f"{gap.difference:+.4f}", span, f"{p:.3f}" if p >= 0.001 else "<0.001"]
        numbers = [f"{values[key]:.4f}" for key in METRICS.values()]
        rows.append([method_name(name), f"{values['accuracy']:.4f}", *cells, *numbers])
    columns = ["method", "accuracy", "difference", "95 % interval", "p", *METRICS]
    return Table(columns, rows, title, right=columns[1:], highlight=[MODEL])


def baselines_section(context: ReportContext) -> Iterator[Part]:
    """The verdict, and the model in tables with simple methods."""
    evaluation = context.require_evaluation()
    if not evaluation.baselines:
        raise UnavailableError(
            "No baselines were fitted. `flowgmm eval --baselines` fits simpler methods to the same rows "
            "and labels; a report written afterwards shows them here."
        )
    if sentence := describe_verdict(evaluation):
        yield Paragraph(sentence)
    yield from comparison_tables(evaluation)
    yield Paragraph(
        "All methods had the same vectors and labels. Each baseline chose its settings by cross-validation "
        "on the labelled rows. Difference: accuracy minus that of this model on the same rows, with its "
        "paired 95 % interval and the p-value of McNemar's exact test. The p-value of the verdict counts the "
        "rows of all tables and accounts for the choice of the best of several methods. On cross-fitted rows "
        "this model is at a disadvantage: its trainings in folds are shorter than the final one.",
        "note",
    )
