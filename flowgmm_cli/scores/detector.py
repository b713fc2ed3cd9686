"""The fitted scores of a run; percentiles and thresholds come from the scores of held-out rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flowgmm_cli.api import Component, Score, ScoreInputs, ScoreSpec
from flowgmm_cli.data.array_types import Array, Floats
from flowgmm_cli.errors import RecipeError, UsageError, did_you_mean
from flowgmm_cli.files import select_prefix
from flowgmm_cli.plugins.registry import build, registry
from flowgmm_cli.recipe.schema import score_names
from flowgmm_cli.scores.base import State, thin, to_finite
from flowgmm_cli.scores.blend import BLEND, Blend


@dataclass(frozen=True)
class FittedScore:
    """One score of a detector."""

    name: str  # that of the component, with a number where the recipe has it twice
    component: int  # its position in the recipe's list
    score: Score  # the fitted score
    reference: Floats  # its values on held-out rows, rising, at most 4,000


@dataclass(frozen=True)
class Detector:
    """Scores rows; for every score, higher = further out."""

    scores: tuple[FittedScore, ...]  # the fitted scores, in the order of the recipe
    default: str  # name of the score that flags rows
    blend: Blend | None = None  # the score `blend` of the fitted scores, if it was selected

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores, the default first."""
        names = [fitted.name for fitted in self.scores] + ([BLEND] if self.blend else [])
        return (self.default, *(name for name in names if name != self.default))

    def __call__(self, rows: ScoreInputs, names: Sequence[str] | None = None) -> dict[str, Floats]:
        """Score rows by the scores `names`, or by all; a result is `(N,)`, and the default is first.

        Raises:
            UsageError: there is no score of that name.
        """
        for name in names or ():
            self.reference_scores(name)
        chosen = [name for name in self.names if names is None or name in names]
        needed = {*chosen, *(self.blend.names if self.blend and BLEND in chosen else ())} - {BLEND}
        values = {name: to_finite(self._find(name).score(rows)) for name in needed}
        if self.blend and BLEND in chosen:
            values[BLEND] = self.blend(values)
        return {name: values[name] for name in chosen}

    def percentile(self, name: str, values: Array) -> Floats:
        """Return the share of held-out rows that score lower than each of `values` `(N,)`, in [0, 1]."""
        reference = self.reference_scores(name)
        return np.asarray(np.searchsorted(reference, values, side="left") / len(reference))

    def threshold(self, name: str, fpr: float = 0.05) -> float:
        """Return the lowest held-out score that at most a share `fpr` of the held-out rows exceeds.

        A row is out of distribution if its score is higher than this, not if it is equal.
        """
        reference = self.reference_scores(name)
        if fpr >= 1:
            return float(np.nextafter(reference[0], -np.inf))
        # rounded, as 0.95 * 20 is not exactly 19 in floating point
        index = math.ceil(round((1 - fpr) * len(reference), 9)) - 1
        return float(reference[max(index, 0)])

    def reference_scores(self, name: str) -> Floats:
        """Return the scores of held-out rows, rising, at most 4,000 values."""
        return self.blend.reference if self.blend and name == BLEND else self._find(name).reference

    def with_default(self, name: str) -> Detector:
        """Return the same detector with another default. Raises `UsageError` for an unknown name."""
        self.reference_scores(name)
        return replace(self, default=name)

    def _find(self, name: str) -> FittedScore:
        for fitted in self.scores:
            if fitted.name == name:
                return fitted
        names = list(self.names)
        raise UsageError(
            f"this model has no score `{name}`{did_you_mean(name, names)}",
            hint=f"its scores are {', '.join(names)}",
        )

    def state(self) -> State:
        """Return (JSON values, arrays) for `from_state`, together with the recipe's `ood.scores`.

        Equal arrays, such as the rows that two scores store, are saved once.
        """
        scores, arrays = [], {}
        for index, fitted in enumerate(self.scores):
            values, own = fitted.score.state()
            scores.append({"name": fitted.name, "component": fitted.component, "values": values})
            arrays[f"{index}.held_out"] = fitted.reference
            arrays |= {f"{index}.fitted.{name}": array for name, array in own.items()}
        if self.blend:
            arrays["blend.held_out"] = self.blend.reference
        duplicates = _find_duplicates(arrays)
        unique = {name: array for name, array in arrays.items() if name not in duplicates}
        blend = self.blend.state() if self.blend else None
        return {"default": self.default, "scores": scores, "same": duplicates, "blend": blend}, unique

    @classmethod
    def from_state(
        cls, values: Mapping[str, Any], arrays: Mapping[str, Array], components: Sequence[Component]
    ) -> Detector:
        """Restore the result of `state`; `components` is the recipe's `ood.scores`."""
        arrays = {**arrays, **{name: arrays[other] for name, other in values["same"].items()}}
        scores = []
        for index, entry in enumerate(values["scores"]):
            score: Score = build(components[entry["component"]])
            score.load_state(entry["values"], select_prefix(f"{index}.fitted.", arrays))
            reference = arrays[f"{index}.held_out"]
            scores.append(FittedScore(entry["name"], entry["component"], score, reference))
        blend = None
        if values["blend"]:
            references = {fitted.name: fitted.reference for fitted in scores}
            blend = Blend.from_state(values["blend"], references, arrays["blend.held_out"])
        detector = cls(tuple(scores), values["default"], blend)
        if values["default"] not in [*(fitted.name for fitted in scores), *([BLEND] if blend else [])]:
            raise ValueError(f"the default score {values['default']!r} is missing")
        return detector


def fit_detector(
    components: Sequence[Component], train: ScoreInputs, held_out: ScoreInputs, model: Any, seed: int
) -> Detector:
    """Fit the scores of the recipe's `ood.scores`, the first of them as default.

    Scores that read images are skipped for rows without images, and those of unknown kinds for a model
    without any.

    `train` are rows the model was trained on, `held_out` rows of the same kind that it was not trained on.
    Every score gets random numbers of the same seed, so that scores which store a sample of the rows store
    the same sample.

    Raises:
        RecipeError: no score suits the rows.
    """
    names, scores = score_names(components), list[FittedScore]()
    for index, component in enumerate(components):
        if not is_usable(component, train):
            continue
        score: Score = build(component)
        score.fit(train, held_out, model, np.random.default_rng(seed))
        scores.append(FittedScore(names[index], index, score, thin(to_finite(score(held_out)))))
    if not scores:
        raise RecipeError(
            "no score in ood.scores can score these rows",
            details=[
                f"{name} reads images"
                if reads_images(component)
                else f"{name} needs unknown kinds, see prior.unknown"
                for name, component in zip(names, components, strict=True)
            ],
            hint="leave ood.scores out for all built-in scores",
        )
    return Detector(tuple(scores), scores[0].name)


def is_usable(component: Component, rows: ScoreInputs) -> bool:
    """Return True if a score can be computed from the inputs `rows`."""
    reads = registry().spec(ScoreSpec, component.use).reads
    has_unknown = rows.latents.unknown_log_odds is not None
    return {"images": rows.images is not None, "unknown": has_unknown}.get(reads, True)


def reads_images(component: Component) -> bool:
    """Return True if a score needs rows that are images."""
    return registry().spec(ScoreSpec, component.use).reads == "images"


def _find_duplicates(arrays: Mapping[str, Array]) -> dict[str, str]:
    """Map the names of arrays that equal an earlier array to its name."""
    first: dict[tuple[Any, ...], str] = {}
    keys = {name: (array.shape, array.dtype.str, array.tobytes()) for name, array in arrays.items()}
    earlier = {name: first.setdefault(key, name) for name, key in keys.items()}
    return {name: other for name, other in earlier.items() if name != other}
