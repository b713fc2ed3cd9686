"""`flowgmm eval`: a run's model on its own held-out rows, beside simple baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli.options import Json, Offline, PluginModule, Quiet, Run, RunFlag, Verbose

if TYPE_CHECKING:
    from flowgmm_cli.evaluation.evaluate import Evaluation

GATES = ("accuracy", "balanced_accuracy", "macro_f1")


def evaluate(
    run: Run = None,
    run_flag: RunFlag = None,
    split: Annotated[str, typer.Option("--split", help="test, or val if it has labels.")] = "test",
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines",
            help="Compare with logistic regression, kNN, label spreading, self-training and an MLP, all on "
            "the same vectors and labels.",
        ),
    ] = False,
    plots: Annotated[
        bool,
        typer.Option(
            "--plots",
            help="Write PNG files into the run's eval/: reliability, confusion, latent space and, of two "
            "features, decision regions.",
        ),
    ] = False,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-under",
            metavar="METRIC=VALUE",
            help=f"Exit with 7 if a metric is below a value; one of {', '.join(GATES)}. Can be repeated.",
            show_default=False,
        ),
    ] = None,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Evaluate a run: accuracy, calibration and density, by class, with confidence intervals.

    Examples: flowgmm eval · flowgmm eval runs/digits/latest --baselines --plots ·
    flowgmm eval --fail-under accuracy=0.9
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.cli.gates import hold, parse_gates
    from flowgmm_cli.cli.work import chosen_run, data_context
    from flowgmm_cli.errors import UsageError

    gates = parse_gates(fail_under or (), GATES)
    if split not in ("test", "val"):
        raise UsageError(f"--split is test or val, not `{split}`", hint="flowgmm eval --split test")
    found = chosen_run(run, run_flag)
    console.note("loading torch…")

    from flowgmm_cli.files import write_json
    from flowgmm_cli.training.score import score_run

    with console.progress() as progress:
        context = data_context(progress, offline=offline)
        result = score_run(
            found,
            split=split,
            context=context,
            with_baselines=baselines,
            progress=progress,
            warn=console.warn,
        )
    value = result.to_dict(str(found.path))
    write_json(found.path / "eval" / f"{split}.json", value)
    if as_json:
        console.print_json(value)
    else:
        _show(str(found.path), result)
        _show_scores(found.info().get("ood"))
    if plots:
        from flowgmm_cli.report.eval_plots import write_plots

        for file in write_plots(found, result, context=context):
            console.note(f"written {file}")
    hold(gates, result.metrics())


def _show(run: str, result: Evaluation) -> None:
    from flowgmm_cli.cli import console

    found = result.classification
    columns = ["method", "accuracy", "95 % interval", "balanced", "macro F1", "NLL", "ECE"]
    interval = found.intervals["accuracy"]
    rows = [
        ["flowgmm", f"{found.accuracy:.4f}", f"{interval.low:.4f} to {interval.high:.4f}"]
        + [f"{value:.4f}" for value in (found.balanced_accuracy, found.macro_f1, found.nll, found.ece)]
    ]
    for name, one in sorted(result.baselines.items(), key=lambda item: -item[1].accuracy):
        values = (one.balanced_accuracy, one.macro_f1, one.nll, one.ece)
        rows.append([name.replace("_", " "), f"{one.accuracy:.4f}", "", *(f"{v:.4f}" for v in values)])
    right = ["accuracy", "balanced", "macro F1", "NLL", "ECE"]
    console.print_table(columns, rows, right=right, title=f"{run}: {found.n:,} {result.split} rows")
    console.print_text("")
    console.print_table(
        ["class", "precision", "recall", "F1", "rows", "predicted"],
        [
            [one.name, *(f"{v:.4f}" for v in (one.precision, one.recall, one.f1)), one.support, one.predicted]
            for one in found.per_class
        ],
        right=["precision", "recall", "F1", "rows", "predicted"],
    )
    console.print_text("")
    console.print_table(
        ["confidence", "rows", "mean confidence", "accuracy"],
        [
            [f"{one.low:.2f} to {one.high:.2f}", one.count, f"{one.confidence:.3f}", f"{one.accuracy:.3f}"]
            for one in found.reliability
            if one.confidence is not None and one.accuracy is not None
        ],
        right=["rows", "mean confidence", "accuracy"],
        title=f"calibration: Brier {found.brier:.4f}, ECE {found.ece:.4f} with bins of equal width, "
        f"{found.adaptive_ece:.4f} with bins of equal mass",
    )
    bits = f", {result.bits_per_dim:.3f} bits/dim" if result.bits_per_dim is not None else ""
    console.note(f"density: mean -log p(x) = {result.density_nll:.3f} nats per row{bits}")


def _show_scores(ood: dict[str, Any] | None) -> None:
    """The out-of-distribution scores of a run, by what they were chosen on."""
    from flowgmm_cli.cli import console

    if not ood or not ood.get("choice"):
        return
    kinds = list(next(iter(ood["choice"].values())))
    rows = [
        [name, "flags" if name == ood["default"] else "", *(f"{values[kind]:.4f}" for kind in kinds)]
        for name, values in ood["choice"].items()
    ]
    console.print_text("")
    console.print_table(
        ["score", "", *kinds],
        rows,
        right=kinds,
        title="out-of-distribution scores: AUROC against stand-ins made of the run's own rows; "
        f"{ood['default']} flags above {ood['threshold']:.4g} (flowgmm ood compares them on rows of yours)",
    )
