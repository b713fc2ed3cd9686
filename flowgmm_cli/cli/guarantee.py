"""Guarantees of `flowgmm predict`: sets that hold the right class, and doubtful predictions left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flowgmm_cli.cli import output
from flowgmm_cli.formatting import pluralise

if TYPE_CHECKING:
    from flowgmm_cli.conformal import HeldOutLabels, Thresholds
    from flowgmm_cli.inference.scores import Scores, Totals
    from flowgmm_cli.trained_model import TrainedModel


@dataclass(frozen=True)
class Guarantee:
    """The thresholds of `--coverage` and `--min-confidence`, with the held-out labels that they rest on."""

    held_out: HeldOutLabels
    thresholds: Thresholds | None
    min_confidence: float | None

    @classmethod
    def from_model(
        cls, trained: TrainedModel, coverage: float | None, coverage_by: str, min_confidence: float | None
    ) -> Guarantee:
        """Return the guarantee of the options. Raises `UsageError` if the labels are too few for it."""
        thresholds = None
        if coverage is not None:
            by_class = coverage_by == "class"
            thresholds = trained.held_out.class_thresholds(coverage, trained.class_names, by_class=by_class)
        return cls(trained.held_out, thresholds, min_confidence)

    @property
    def columns(self) -> list[str]:
        """Names of the columns that it adds."""
        columns = [] if self.thresholds is None else ["classes", "n_classes"]
        return columns if self.min_confidence is None else [*columns, "abstained"]

    def apply(self, scores: Scores) -> Scores:
        """Return scores with the sets and without the doubtful predictions."""
        return replace(scores, thresholds=self.thresholds, min_confidence=self.min_confidence)

    def note(self, totals: Totals) -> dict[str, Any]:
        """Print the coverage and accuracy on held-out labels; return them for JSON."""
        values = {}
        if self.thresholds is not None:
            values["coverage"] = _note_sets(self.thresholds, totals)
        if self.min_confidence is not None:
            values["abstention"] = _note_answers(self.min_confidence, self.held_out, totals)
        return values


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
