"""The finished run that a training goes on from (`flowgmm train --from`).

Labels that this run was trained with are never held out again, neither by a fold nor for the test: its
weights know them. Only labels that are new to it measure and calibrate the new model, beside the predictions
for the others that the run itself held out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm_cli.api import DataContext
from flowgmm_cli.conformal import HeldOutLabels
from flowgmm_cli.data.array_types import Floats, Hashes, Ints
from flowgmm_cli.data.fingerprint import row_hashes
from flowgmm_cli.data.splits import SplitData
from flowgmm_cli.errors import DataError, RecipeError, RunError, did_you_mean
from flowgmm_cli.evaluation.calibration import margin_scale
from flowgmm_cli.evaluation.evaluation_file import (
    CrossFittedPredictions,
    cross_fitted_file,
    load_predictions,
)
from flowgmm_cli.evaluation.folds import LogJoint
from flowgmm_cli.evaluation.temperature import Calibration
from flowgmm_cli.files import file_digest
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.node import format_path, make_node
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.recipe.variants import vary
from flowgmm_cli.runs import Run
from flowgmm_cli.trained_model import TrainedModel

SHARE = 0.25
"""Length of a training that goes on from a run, as a share of `train.epochs`.

Its learning rate is `train.lr` divided by it, but not above `HIGH_LR`: weights can move as far as in a whole
training, and so give unlabelled rows other classes than before.
"""
HIGH_LR = 5e-3
# parts of a recipe that weights depend on
_PRIOR_KEYS = ("use", "components", "dims", "scales", "covariance", "shared_covariance", "learn_rest")
_DATA_KEYS = ("encoder", "transforms")
_FIRST_FOLD = 100  # number of the first fold of a run, after those of the next run
_NEVER = -30.0  # log-probability of a class that a model did not know


@dataclass(frozen=True)
class Start:
    """A finished run and its model, as the start of a training."""

    run: Run
    trained: TrainedModel

    @classmethod
    def load(cls, reference: Mapping[str, Any], recipe: Recipe, context: DataContext) -> Start:
        """Load the run of a `Run.reference` for a training with a recipe.

        Raises:
            RecipeError: the recipe has another flow, mixture, encoder or transforms.
            RunError: the run is damaged, gone, or not the one that the training began with.
        """
        run = Run(Path(reference["run"]))
        weights = run.path / "model.safetensors"
        if not weights.is_file() or file_digest(weights) != reference["weights"]:
            raise RunError(
                f"{run.path}, from which this training goes on, is gone or was trained again",
                hint="put it back, or start anew: flowgmm train RECIPE --from RUN",
            )
        start = cls(run, TrainedModel.load(run.path, context=context))
        start._require_same_settings(recipe)
        return start

    def _require_same_settings(self, recipe: Recipe) -> None:
        details: dict[str, None] = {}
        for member in self.trained.members:
            own, others = (
                _settings(vary(values, member.changes) if member.changes else values)
                for values in (recipe, self.trained.recipe)
            )
            for key in sorted(own.keys() | others.keys()):
                given, stored = own.get(key, "not set"), others.get(key, "not set")
                if given != stored:
                    details[f"{key} is {given}, in the run {stored}"] = None
        if details:
            raise RecipeError(
                f"the recipe cannot go on from {self.run.path}: the weights belong to other settings",
                details=list(details),
                hint="take the settings of the run, or train anew without --from",
            )

    @property
    def test_hashes(self) -> Hashes | None:
        """Hashes of the run's test rows, which stay test rows; None without any."""
        stored = load_predictions(self.run, "test")
        return stored.hashes if stored else None

    def require_same_rows(self, rows: SplitData) -> None:
        """Raise `DataError` if the run reads other columns, or knows the label of a test row."""
        given = {column.name: (column.kind, column.shape) for column in rows.columns}
        details = []
        for column in self.trained.preprocessor.columns:
            if column.name not in given:
                near = did_you_mean(column.name, given)
                details.append(f"the data has no column `{column.name}`{near}")
            elif given[column.name] != (column.kind, column.shape):
                kind, shape = given[column.name]
                details.append(
                    f"column `{column.name}` holds {kind} {shape or ''}, in the run {column.kind} "
                    f"{column.shape or ''}".replace(" ,", ",").rstrip()
                )
        if details:
            raise DataError(
                f"the training cannot go on from {self.run.path}, which reads other columns",
                details=details,
                hint="give the data these columns, or train anew without --from",
            )
        if rows.test is not None and (count := int(self.trained.find_labelled(rows.test).sum())):
            raise DataError(
                f"{count:,} of {len(rows.test):,} test rows are rows with whose labels {self.run.path} was "
                "trained, so the test would be too good",
                hint="leave them out of the test rows, or train anew without --from",
            )

    def hide_known(self, rows: SplitData) -> SplitData:
        """Hide the labels of validation rows with which the run was trained."""
        if rows.val is None or rows.val_labels:
            return rows
        known = self.trained.find_labelled(rows.val)
        labels = np.where(known, -1, rows.val.labels)
        return replace(rows, splits={**rows.splits, "val": replace(rows.val, labels=labels)})

    def match_classes(self, class_names: Sequence[str]) -> dict[int, int]:
        """Return the class of the run's model for each class that it knows by name."""
        known = {name: index for index, name in enumerate(self.trained.class_names)}
        return {index: known[name] for index, name in enumerate(class_names) if name in known}

    def part(self, member: int) -> FlowMixture:
        """Return the part of the run's model that a member starts from."""
        return self.trained.model.parts[member]

    def describe(self, class_names: Sequence[str], epochs: int) -> str:
        """Describe the start of a training in a line; `epochs` are those of its recipe."""
        known, members = self.trained.class_names, len(self.trained.members)
        parts = [f"{SHARE:.0%} of {epochs} epochs"] + [f"its {members} members"] * (members > 1)
        changes = {"new": (class_names, known), "without labels now": (known, class_names)}
        for word, (names, others) in changes.items():
            if names := [name for name in names if name not in others]:
                parts.append(f"{word}: {', '.join(names)}")
        return f"from    {self.run.path} ({'; '.join(parts)})"

    # --- calibration and held-out labels ---

    def calibrate(self, fitted: Calibration, before: LogJoint, after: LogJoint) -> Calibration:
        """Combine a calibration to new labels with that of the run, in proportion to their labels.

        `before` and `after` are class log-densities of the same unlabelled rows under the run's model and the
        new one: the run's temperature is scaled by their spread.
        """
        stored = self.trained.facts["calibration"]
        if fitted.method in ("val", "none") or stored["method"] not in ("val", "cross_fit"):
            return fitted
        scales = [margin_scale(values) if len(values) else 0.0 for values in (before, after)]
        earlier = stored["temperature"] * (scales[1] / scales[0] if min(scales) > 0 else 1.0)
        rows = fitted.rows + stored["rows"]
        share = fitted.rows / rows

        def combine(name: str) -> float:
            new, old = (0.0 if value is None else value for value in (getattr(fitted, name), stored[name]))
            return float(share * new + (1 - share) * old)

        return replace(
            fitted,
            temperature=fitted.temperature**share * earlier ** (1 - share),
            method="cross_fit",
            rows=rows,
            accuracy=combine("accuracy"),
            noise=combine("noise"),
            nll=combine("nll"),
            frequency_nll=combine("frequency_nll"),
        )

    def select_held_out(self, class_names: Sequence[str]) -> HeldOutLabels:
        """Return the labels that folds of the run held out, of classes that there still are."""
        classes = np.full(len(self.trained.class_names), -1)
        for own, others in self.match_classes(class_names).items():
            classes[others] = own
        rows = self.trained.held_out
        rows = replace(rows, labels=classes[rows.labels])
        kept = (rows.labels >= 0) & ~rows.exact
        return HeldOutLabels(**{name: values[kept] for name, values in vars(rows).items()})

    def cross_fitted(self, data: SplitData) -> tuple[Floats, Ints, Ints]:
        """Return the run's predictions for labelled training rows that its folds held out.

        Returns:
            Log-probabilities `(n, K)`, positions of the rows and numbers of their folds, `(n,)`.
        """
        stored = CrossFittedPredictions.load(cross_fitted_file(self.run))
        pairs = []
        if stored is not None:
            places = {value: place for place, value in enumerate(stored.hashes.tolist())}
            hashes = row_hashes(data.train, data.columns).tolist()
            for row in np.flatnonzero(data.train.labels >= 0).tolist():
                place = places.get(hashes[row])
                name = data.class_names[data.train.labels[row]]
                if place is not None and stored.class_names[stored.labels[place]] == name:
                    pairs.append((row, place))
        if stored is None or not pairs:
            none = np.empty(0, dtype=np.int64)
            return np.empty((0, len(data.class_names))), none, none
        rows, order = np.array(pairs, dtype=np.int64).T
        own, others = (list(part) for part in zip(*self.match_classes(data.class_names).items(), strict=True))
        log_prob = np.full((len(rows), len(data.class_names)), _NEVER)
        log_prob[:, own] = stored.log_probabilities[order][:, others]
        return log_prob, rows, stored.folds[order] + _FIRST_FOLD


def raise_lr(lr: float) -> float:
    """Return the learning rate of a training that goes on from a run.

    >>> raise_lr(1e-3), raise_lr(3e-3), raise_lr(0.01)
    (0.004, 0.005, 0.01)
    """
    return max(lr, min(lr / SHARE, HIGH_LR))


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that weights depend on, by key."""
    values = recipe.to_dict()
    chosen = {
        "data": {key: values["data"].get(key) for key in _DATA_KEYS},
        "flow": values["flow"],
        "prior": {key: values["prior"].get(key) for key in _PRIOR_KEYS},
    }
    nodes = ((format_path(path), node) for path, node in make_node(chosen).walk())
    return {key: node.plain() for key, node in nodes if not isinstance(node.value, dict | list)}
