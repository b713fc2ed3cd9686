"""Score `blend`: families of fitted scores, added as rarities; the default that a run selects.

Scores of a family react to the same rows: `boundary` to rows between classes, `direction` to rows of other
contents, `distance` to far rows. They are averaged first, so that many scores of a family count as a single
score does. A family that detects classes left out is trusted; any other counts only where it finds a row
rarer than one in twenty, so that it detects far rows and hardly disturbs the order of near ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.data.array_types import Array, Floats
from flowgmm_cli.scores.base import FAR, thin
from flowgmm_cli.scores.combination import Tail

BLEND = "blend"
"""Name of the score."""
FAMILIES = {
    "entropy": "boundary",
    "label_posterior": "boundary",
    "angle_knn": "direction",
    "label_angle": "direction",
    "latent_knn": "distance",
    "input_knn": "distance",
    "class_mahalanobis": "distance",
    "mahalanobis": "distance",
    "label_distance": "distance",
}
"""Family of the scores that are candidates; `max_posterior` has nearly the order of `entropy`."""
LABELS_ALONE = {"label_posterior", "label_distance", "label_angle"}
"""Scores that use neither the model nor unlabelled rows."""
_SIMILAR = 0.1  # AUROC behind the best score of the family that is averaged with it
_TRUSTED = 0.8  # AUROC from which on a family counts in full
RARE, RARE_WEIGHT = math.log(20), 2.0
"""Rarity from which on rows count for a family that is not trusted, and its factor."""


@dataclass(frozen=True)
class Family:
    """Scores that are averaged."""

    scores: tuple[str, ...]  # their names
    weight: float  # 0 = only rows rarer than one in twenty count


@dataclass(frozen=True)
class Blend:
    r"""The sum of the families' rarities, :math:`-\log P(S \ge s)` averaged over the scores of a family."""

    families: tuple[Family, ...]
    tails: Mapping[str, Tail]  # of the families' scores, by name
    reference: Floats  # values on held-out rows, rising

    @property
    def names(self) -> list[str]:
        """Names of the scores that it needs."""
        return [name for family in self.families for name in family.scores]

    def __call__(self, values: Mapping[str, Floats]) -> Floats:
        """Return `(N,)` from the values of the scores."""
        total: Floats = self.compute({name: torch.from_numpy(values[name]) for name in self.names}).numpy()
        return total

    def compute(self, values: Mapping[str, Tensor]) -> Tensor:
        """Compute the same from tensors, by tensor operations."""
        terms = []
        for family in self.families:
            rarity = torch.stack([self.tails[name].compute(values[name]) for name in family.scores]).mean(0)
            rare = RARE_WEIGHT * (rarity - RARE).clamp(min=0)
            terms.append(family.weight * rarity if family.weight else rare)
        return torch.stack(terms).sum(0).clamp(-FAR, FAR)

    def describe(self) -> str:
        """Describe it in a line for people."""
        full, rare = (
            [", ".join(family.scores) for family in self.families if bool(family.weight) is whole]
            for whole in (True, False)
        )
        text = f"it adds the rarity of a row by {' + '.join(full)}"
        return text + (f", and for far rows by {' + '.join(rare)}" if rare else "")

    @classmethod
    def fit(
        cls,
        families: Sequence[Family],
        values: Mapping[str, Floats],
        references: Mapping[str, Floats] | None = None,
    ) -> Blend:
        """Fit the tails to the values of held-out rows by score, or to `references` of other rows."""
        references = {**values, **(references or {})}
        tails = {name: Tail.fit(thin(references[name])) for family in families for name in family.scores}
        blend = cls(tuple(families), tails, np.zeros(0))
        return replace(blend, reference=thin(blend(values)))

    def state(self) -> list[Any]:
        """Return the families as JSON values."""
        return [[list(family.scores), family.weight] for family in self.families]

    @classmethod
    def from_state(cls, values: Sequence[Any], references: Mapping[str, Array], reference: Floats) -> Blend:
        """Restore a blend from `state`, held-out values of its scores by name, and its own."""
        families = tuple(Family(tuple(names), float(weight)) for names, weight in values)
        tails = {name: Tail.fit(references[name]) for family in families for name in family.scores}
        return cls(families, tails, reference)


def select_families(aurocs: Mapping[str, float], family_of: Mapping[str, str]) -> tuple[Family, ...]:
    """Select the scores of each family, and the families to trust.

    Args:
        aurocs: AUROC of each candidate against rows of classes left out, or others like them.
        family_of: family of each candidate.
    """
    best: dict[str, float] = {}
    for name, value in aurocs.items():
        best[family_of[name]] = max(value, best.get(family_of[name], 0.0))
    trusted = min(_TRUSTED, max(best.values()))
    return tuple(
        Family(
            tuple(n for n, v in aurocs.items() if family_of[n] == family and v >= value - _SIMILAR),
            float(value >= trusted),
        )
        for family, value in best.items()
    )
