"""Runs side by side: results with the certainty of their differences, data, settings, versions, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flowgmm_cli.errors import RecipeError, RunError
from flowgmm_cli.evaluation.difference import Difference, paired_means, paired_shares, unpaired_shares
from flowgmm_cli.evaluation.evaluate import Evaluation
from flowgmm_cli.evaluation.outcomes import Outcomes, pair
from flowgmm_cli.recipe.yaml import read_yaml
from flowgmm_cli.report.context import stored_evaluation
from flowgmm_cli.runs import Run

SCHEMA = "flowgmm/compare/1"
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece", "density_nll", "bits_per_dim")
TestRows = Literal["same", "some", "other", "unknown"]


@dataclass(frozen=True)
class Side:
    """One run of a comparison.

    Attributes:
        run: where it is.
        info: `run.json`.
        status: as `Run.status` has it.
        evaluation: results on its test rows; None where there are none.
        outcomes: what it said of single test rows; None where that was not kept.
        settings: the resolved recipe as `section.key` -> value.
    """

    run: Run
    info: Mapping[str, Any]
    status: str
    evaluation: Evaluation | None
    outcomes: Outcomes | None
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Against:
    """A run held against the first.

    Attributes:
        test_rows: `same`; `some` are the same; `other` rows altogether; `unknown`, since no run keeps them.
        rows: number of rows that both were tested on; 0 where they are not known.
        only_first, only_second: of these, rows that only the one or the other got right.
        accuracy, nll: second minus first; None where it cannot be told. Paired if `test_rows` is `same` or
            `some`, and then of the common rows alone.
    """

    test_rows: TestRows
    rows: int = 0
    only_first: int = 0
    only_second: int = 0
    accuracy: Difference | None = None
    nll: Difference | None = None

    @property
    def words(self) -> str:
        """What the difference in accuracy rests on, and whether it may be chance."""
        if self.accuracy is None:
            return "One of the two has no results on test rows, so there is nothing to compare."
        basis = {
            "same": f"Both were tested on the same {self.rows:,} rows",
            "some": f"They have {self.rows:,} test rows in common, on which alone they are compared",
            "other": "They were tested on different rows, so the difference is one of models and of rows",
            "unknown": "Whether they were tested on the same rows is not known (`flowgmm eval RUN` notes "
            "down what a run says of each row), so the rows are taken for different ones",
        }[self.test_rows]
        details = ""
        if self.test_rows in ("same", "some"):
            details = f"; {self.only_first:,} only the first got right, {self.only_second:,} only the second"
        verdict = (
            "The difference in accuracy is more than chance would make"
            if self.accuracy.clear
            else "The difference in accuracy may be chance"
        )
        if self.accuracy.p_value is not None:
            verdict += f" (McNemar's exact test: p = {self.accuracy.p_value:.2g})"
        return f"{basis}{details}. {verdict}."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "test_rows": self.test_rows,
            "rows": self.rows,
            "only_first": self.only_first,
            "only_second": self.only_second,
            "accuracy": self.accuracy.to_dict() if self.accuracy else None,
            "nll": self.nll.to_dict() if self.nll else None,
        }


@dataclass(frozen=True)
class Comparison:
    """Two or more runs; the first is what the others are held against."""

    sides: tuple[Side, ...]
    against: tuple[Against, ...]

    @property
    def settings(self) -> dict[str, list[Any]]:
        """Settings that differ, by key, with the value of each run; None where a run has no such key."""
        return _differing([side.settings for side in self.sides])

    @property
    def versions(self) -> dict[str, list[Any]]:
        """Versions that differ, likewise."""
        return _differing([side.info.get("versions") or {} for side in self.sides])

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `flowgmm runs compare --json`."""
        return {
            "schema": SCHEMA,
            "runs": [_side(side) for side in self.sides],
            "differences": [
                {"run": str(side.run.path), "against": str(self.sides[0].run.path), **one.to_dict()}
                for side, one in zip(self.sides[1:], self.against, strict=True)
            ],
            "settings": self.settings,
            "versions": self.versions,
        }


def compare(runs: Sequence[Run]) -> Comparison:
    """Hold runs against the first of them.

    Raises:
        RunError: a run cannot be read.
    """
    sides = tuple(_read(run) for run in runs)
    return Comparison(sides, tuple(_against(sides[0], other) for other in sides[1:]))


def _read(run: Run) -> Side:
    file = run.path / "resolved.yaml"
    try:
        settings = read_yaml(file.read_text(encoding="utf-8"), str(file)).plain()
    except (OSError, UnicodeDecodeError, RecipeError) as error:
        raise RunError(
            f"run {run.path} is damaged: {error}", hint="`flowgmm runs list` shows the runs"
        ) from error
    outcomes = Outcomes.load(run.path / "eval" / "test.npz")
    return Side(run, run.info(), run.status(), stored_evaluation(run), outcomes, flatten(settings))


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values as `section.key` -> value; positions of lists are keys too.

    >>> flatten({"flow": {"use": "realnvp"}, "views": [{"use": "noise"}], "seeds": []})
    {'flow.use': 'realnvp', 'views.0.use': 'noise', 'seeds': []}
    """
    items: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    if not items:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in items:
        found |= flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return found


def _against(first: Side, second: Side) -> Against:
    if first.evaluation is None or second.evaluation is None:
        return Against("unknown")
    if first.outcomes is None or second.outcomes is None:
        return Against("unknown", accuracy=_unpaired(first.evaluation, second.evaluation))
    left, right = pair(first.outcomes, second.outcomes)
    if len(left) < 2:
        return Against("other", accuracy=_unpaired(first.evaluation, second.evaluation))
    one, two = first.outcomes.right[left], second.outcomes.right[right]
    every = len(left) == len(first.outcomes) == len(second.outcomes)
    return Against(
        "same" if every else "some",
        len(left),
        int((one & ~two).sum()),
        int((~one & two).sum()),
        paired_shares(one, two),
        paired_means(-first.outcomes.log_probability[left], -second.outcomes.log_probability[right]),
    )


def _unpaired(first: Evaluation, second: Evaluation) -> Difference:
    one, two = first.classification, second.classification
    return unpaired_shares(round(one.accuracy * one.n), one.n, round(two.accuracy * two.n), two.n)


def _differing(of: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    keys = dict.fromkeys(key for one in of for key in one)
    values = {key: [one.get(key) for one in of] for key in keys}
    return {
        key: row
        for key, row in values.items()
        if any(value != row[0] or type(value) is not type(row[0]) for value in row)
    }


def _side(side: Side) -> dict[str, Any]:
    keys = (
        "recipe", "created", "seconds", "seed", "rows", "fingerprint", "overlays", "overrides", "calibration",
        "best",
    )  # fmt: skip
    found = side.evaluation
    return {
        "run": str(side.run.path),
        "status": side.status,
        **{key: side.info.get(key) for key in keys},
        "n": found.classification.n if found else None,
        "metrics": found.metrics() if found else None,
        "intervals": {k: v.to_dict() for k, v in found.classification.intervals.items()} if found else None,
    }
