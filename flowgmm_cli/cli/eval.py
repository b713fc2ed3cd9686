"""`flowgmm eval`: a run's model on its own held-out rows, beside simple baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import data_context, select_run
from flowgmm_cli.cli.validation import enforce_gates, parse_gates

if TYPE_CHECKING:
    from flowgmm_cli.evaluation.metrics import Evaluation

GATES = ("accuracy", "balanced_accuracy", "macro_f1")


SplitName = Annotated[Literal["test", "val"], typer.Option("--split", help="test, or val if it has labels.")]
Baselines = Annotated[
    bool,
    typer.Option(
        "--baselines",
        help="Compare with logistic regression, kNN, label spreading, self-training and an MLP, all on "
        "the same vectors and labels.",
    ),
]
Plots = Annotated[
    bool,
    typer.Option(
        "--plots",
        help="Write PNG files into the run's eval/: reliability, confusion, latent space and, for two "
        "features, decision regions.",
    ),
]


def evaluate(
    run: options.Run = None,
    run_flag: options.RunFlag = None,
    split: SplitName = "test",
    baselines: Baselines = False,
    plots: Plots = False,
    fail_under: options.FailUnder = None,
    offline: options.Offline = False,
    as_json: options.Json = False,
) -> None:
    """Evaluate a run: accuracy, calibration and density, by class, with confidence intervals.

    Metrics of --fail-under: accuracy, balanced_accuracy, macro_f1.

    Examples: flowgmm eval · flowgmm eval runs/digits/latest --baselines --plots ·
    flowgmm eval --fail-under accuracy=0.9
    """
    gates = parse_gates(fail_under, GATES)
    selected = select_run(run, run_flag)
    output.note("loading torch…")

    from flowgmm_cli.files import write_json
    from flowgmm_cli.inference.evaluate_run import evaluate_run

    with output.progress() as progress:
        context = data_context(progress, offline=offline)
        work: dict[str, Any] = {"context": context, "progress": progress, "warn": output.warn}
        result = evaluate_run(selected, split=split, with_baselines=baselines, **work)
    values = result.to_dict(str(selected.path))
    write_json(selected.path / "eval" / f"{split}.json", values)
    if as_json:
        output.print_json(values)
    else:
        _print_methods(str(selected.path), result)
        _print_classes(result)
        _print_calibration(result)
        _print_scores(selected.info().get("ood"))
    if plots:
        from flowgmm_cli.report.report import write_plots

        for file in write_plots(selected, result, context=context):
            output.note(f"written {file}")
    enforce_gates(gates, result.metrics())


def _print_methods(run: str, result: Evaluation) -> None:
    metrics = result.classification
    interval = metrics.intervals["accuracy"]
    baselines = sorted(result.baselines.items(), key=lambda item: -item[1].accuracy)
    methods: list[tuple[str, Any]] = [("flowgmm", metrics), *baselines]
    rows = []
    for name, row in methods:
        cells = [f"{value:.4f}" for value in (row.balanced_accuracy, row.macro_f1, row.nll, row.ece)]
        span = f"{interval.low:.4f} to {interval.high:.4f}" if row is metrics else ""
        rows.append([name.replace("_", " "), f"{row.accuracy:.4f}", span, *cells])
    output.print_table(
        ["method", "accuracy", "95 % interval", "balanced", "macro F1", "NLL", "ECE"],
        rows,
        right=["accuracy", "balanced", "macro F1", "NLL", "ECE"],
        title=f"{run}: {metrics.n:,} {result.split} rows",
    )


def _print_classes(result: Evaluation) -> None:
    output.print_text("")
    output.print_table(
        ["class", "precision", "recall", "F1", "rows", "predicted"],
        [
            [row.name, *(f"{v:.4f}" for v in (row.precision, row.recall, row.f1)), row.support, row.predicted]
            for row in result.classification.per_class
        ],
        right=["precision", "recall", "F1", "rows", "predicted"],
    )


def _print_calibration(result: Evaluation) -> None:
    metrics = result.classification
    output.print_text("")
    output.print_table(
        ["confidence", "rows", "mean confidence", "accuracy"],
        [
            [f"{b.low:.2f} to {b.high:.2f}", b.count, f"{b.confidence:.3f}", f"{b.accuracy:.3f}"]
            for b in metrics.reliability
            if b.confidence is not None and b.accuracy is not None
        ],
        right=["rows", "mean confidence", "accuracy"],
        title=f"calibration: Brier {metrics.brier:.4f}, ECE {metrics.ece:.4f} with bins of equal width, "
        f"{metrics.adaptive_ece:.4f} with bins of equal mass",
    )
    bits = f", {result.bits_per_dim:.3f} bits/dim" if result.bits_per_dim is not None else ""
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
    output.print_text("")
    output.print_table(
        ["score", "", *kinds],
        rows,
        right=kinds,
        title="out-of-distribution scores: AUROC against pseudo-OOD rows made from the run's own rows; "
        f"{ood['default']} flags above {ood['threshold']:.4g} (flowgmm ood compares them on your own rows)",
    )
