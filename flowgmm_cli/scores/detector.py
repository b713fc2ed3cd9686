"""All scores of a run, fitted, with what held-out rows score: percentiles and thresholds come from these."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Component, Score, ScoreInputs, ScoreSpec
from flowgmm_cli.errors import RecipeError, UsageError, did_you_mean
from flowgmm_cli.plugins.registry import build, registry
from flowgmm_cli.recipe.schema import score_names
from flowgmm_cli.scores.values import Floats, finite

_KEPT = 4000  # held-out scores kept of each score


@dataclass(frozen=True)
class FittedScore:
    """One score of a detector.

    Attributes:
        name: what it is called; a component that is there twice gets a number.
        component: its place in the recipe's list.
        score: the fitted score.
        held_out: its values on held-out rows, rising, at most 4,000.
    """

    name: str
    component: int
    score: Score
    held_out: Floats


@dataclass(frozen=True)
class Detector:
    """Scores rows; higher = further out, whatever the score.

    Attributes:
        scores: the fitted scores, in the order of the recipe.
        default: name of the one that flags.
    """

    scores: tuple[FittedScore, ...]
    default: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores, the default first."""
        others = [one.name for one in self.scores if one.name != self.default]
        return (self.default, *others)

    def __call__(self, rows: ScoreInputs, names: Sequence[str] | None = None) -> dict[str, Floats]:
        """Scores of rows by name, each `(N,)`; the default is first.

        Args:
            rows: rows as the model sees them.
            names: which scores; None for all.

        Raises:
            UsageError: there is no score of that name.
        """
        asked = self.names if names is None else [name for name in self.names if name in names]
        for name in names or ():
            self._find(name)
        return {name: finite(self._find(name).score(rows)) for name in asked}

    def percentile(self, name: str, values: npt.NDArray[Any]) -> Floats:
        """Share of held-out rows that score lower than each of `values` `(N,)`, in [0, 1]."""
        held_out = self._find(name).held_out
        found: Floats = np.searchsorted(held_out, values, side="left") / len(held_out)
        return found

    def threshold(self, name: str, fpr: float = 0.05) -> float:
        """The lowest held-out score above which at most a share `fpr` of the held-out rows lies.

        A row is out of distribution if it scores higher than this, not if it scores the same.
        """
        held_out = self._find(name).held_out
        if fpr >= 1:
            return float(np.nextafter(held_out[0], -np.inf))
        # Rounded, as 0.95 * 20 is not exactly 19 in floating point.
        place = math.ceil(round((1 - fpr) * len(held_out), 9)) - 1
        return float(held_out[max(place, 0)])

    def held_out(self, name: str) -> Floats:
        """What held-out rows scored, rising, at most 4,000 values."""
        return self._find(name).held_out

    def with_default(self, name: str) -> Detector:
        """The same detector, which flags by another score.

        Raises:
            UsageError: there is no score of that name.
        """
        return replace(self, default=self._find(name).name)

    def _find(self, name: str) -> FittedScore:
        for one in self.scores:
            if one.name == name:
                return one
        names = [one.name for one in self.scores]
        raise UsageError(
            f"this model has no score `{name}`{did_you_mean(name, names)}",
            hint=f"its scores are {', '.join(names)}",
        )

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return (JSON values, arrays) to restore it from, together with the recipe's `ood.scores`.

        Equal arrays, such as the rows that two scores keep, are saved once.
        """
        listed, arrays = [], {}
        for index, one in enumerate(self.scores):
            values, own = one.score.state()
            listed.append({"name": one.name, "component": one.component, "values": values})
            arrays[f"{index}.held_out"] = one.held_out
            arrays |= {f"{index}.fitted.{name}": value for name, value in own.items()}
        same = _same(arrays)
        values = {"default": self.default, "scores": listed, "same": same}
        return values, {name: value for name, value in arrays.items() if name not in same}

    @classmethod
    def from_state(
        cls,
        values: Mapping[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]],
        *,
        components: Sequence[Component],
    ) -> Detector:
        """Restore what `state` returned; `components` is the recipe's `ood.scores`."""
        everything = {**arrays, **{name: arrays[other] for name, other in values["same"].items()}}
        scores = []
        for index, one in enumerate(values["scores"]):
            score: Score = build(components[one["component"]])
            prefix = f"{index}.fitted."
            own = {
                name.removeprefix(prefix): value
                for name, value in everything.items()
                if name.startswith(prefix)
            }
            score.load_state(one["values"], own)
            held_out = everything[f"{index}.held_out"]
            scores.append(FittedScore(one["name"], one["component"], score, held_out))
        return cls(tuple(scores), values["default"])


def fit_detector(
    components: Sequence[Component],
    train: ScoreInputs,
    held_out: ScoreInputs,
    model: Any,
    seed: int,
    *,
    default: str | None = None,
) -> Detector:
    """Fit the scores that suit the rows.

    Args:
        components: the recipe's `ood.scores`; those that read images are passed over where rows are none.
        train: rows the model was trained on.
        held_out: rows of the same kind that it was not trained on.
        model: the trained model.
        seed: of the random numbers; every score gets the same, so that scores which keep some of the rows
            keep the same ones.
        default: name of the score that flags; None for the first.

    Raises:
        RecipeError: none of the scores suits the rows.
        UsageError: there is no score of the name `default`.
    """
    names, scores = score_names(components), list[FittedScore]()
    for index, component in enumerate(components):
        if train.images is None and reads_images(component):
            continue
        score: Score = build(component)
        score.fit(train, held_out, model, np.random.default_rng(seed))
        values = np.sort(finite(score(held_out)))
        if len(values) > _KEPT:
            values = values[np.linspace(0, len(values) - 1, _KEPT).round().astype(np.intp)]
        scores.append(FittedScore(names[index], index, score, values))
    if not scores:
        raise RecipeError(
            "no score in ood.scores can score these rows",
            details=[f"{name} reads images" for name in names],
            hint="leave ood.scores out for all built-in scores",
        )
    detector = Detector(tuple(scores), scores[0].name)
    return detector if default is None else detector.with_default(default)


def reads_images(component: Component) -> bool:
    """Whether a score's rows must be images."""
    return cast(ScoreSpec, registry().find("score", component.use).spec()).reads == "images"


def _same(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, str]:
    """Names of arrays that equal one before them, with its name."""
    first: dict[tuple[Any, ...], str] = {}
    found = {}
    for name, value in arrays.items():
        key = (value.shape, value.dtype.str, value.tobytes())
        earlier = first.setdefault(key, name)
        if earlier != name:
            found[name] = earlier
    return found
