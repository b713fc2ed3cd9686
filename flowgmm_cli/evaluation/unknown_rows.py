"""Rows that look like none of the classes, see `prior.unknown` of a recipe: their share, and `p_unknown`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowgmm_cli.data.array_types import FloatArray


@dataclass(frozen=True)
class UnknownRows:
    """Rows of unknown kinds: among the unlabelled training rows, and by mistake among labelled rows."""

    share: float  # estimate for the unlabelled training rows, with its 90 % interval
    low: float
    high: float
    mean_p_unknown: float | None = None  # of the labelled rows of an evaluation; None for cross-fitted rows
    share_above_half: float | None = None  # of the same rows, those with p_unknown above 0.5

    @classmethod
    def measure(
        cls, facts: Mapping[str, Any] | None, p_unknown: FloatArray | None = None
    ) -> UnknownRows | None:
        """Summarise the facts of a training, and `p_unknown` of labelled rows; None without unknown kinds."""
        if not facts:
            return None
        share, low, high = (min(max(float(facts[name]), 0.0), 1.0) for name in ("share", "low", "high"))
        if p_unknown is None or not len(p_unknown):
            return cls(share, low, high)
        return cls(share, low, high, float(p_unknown.mean()), float((p_unknown > 0.5).mean()))

    def describe(self) -> str:
        """Describe the share of the unlabelled rows.

        >>> UnknownRows(0.2, 0.17, 0.24).describe()
        'about 20 % of the unlabelled rows look like none of your classes (17 to 24 %)'
        """
        return (
            f"about {100 * self.share:.0f} % of the unlabelled rows look like none of your classes "
            f"({100 * self.low:.0f} to {100 * self.high:.0f} %)"
        )

    def describe_labelled(self) -> str:
        """Describe `p_unknown` of the labelled rows, which belong to classes; empty without it."""
        if self.mean_p_unknown is None or self.share_above_half is None:
            return ""
        return (
            f"p_unknown of the labelled rows has the mean {self.mean_p_unknown:.3f} and is above 0.5 in "
            f"{100 * self.share_above_half:.1f} % of them"
        )
