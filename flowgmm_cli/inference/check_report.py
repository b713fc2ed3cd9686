"""Results of a check of a model, for people and for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["skipped", "ok", "warning", "failed"]
_ORDER: tuple[Verdict, ...] = ("skipped", "ok", "warning", "failed")

_PLUGIN_HINT = "see `flowgmm plugins test` for a plugin's flow"
_EXPLANATIONS = {
    "round trip": (
        "samples, interpolations and transfers of rows are wrong",
        "the inverse of this layer does not belong to its forward, or it cannot be inverted with these "
        f"weights; {_PLUGIN_HINT}",
    ),
    "round trip in float32": (
        "samples, interpolations and transfers lose digits",
        "the layer stretches some directions far more than others: a smaller flow.scale_limit helps",
    ),
    "log-det": (
        "log-densities, and all scores and posteriors that compare them between rows, are wrong",
        "the layer's log-determinant is not that of its map, or the map is singular at a row; "
        f"{_PLUGIN_HINT}",
    ),
    "determinants": (
        "the density of single rows depends on a layer that stretches or squeezes by a factor beyond 20,000",
        "train again with a smaller flow.scale_limit or train.lr, or clip far rows",
    ),
    "composition": (
        "the flow is not the composition of its layers, or their errors add up",
        "the flow's own forward or inverse leaves something out, such as a layer's log-determinant",
    ),
    "independence": (
        "the density of a row depends on the other rows of its batch",
        "a layer uses statistics of the batch; it must use fixed ones once it is trained",
    ),
    "dead dimensions": (
        "it cannot be inverted there, and the log-density is dominated by them",
        "a layer's scale has collapsed: see the layers with the smallest log-determinant, and train "
        "again with a smaller flow.scale_limit or train.lr",
    ),
    "dimensions": (
        "a constant dimension holds no information about a row, and any other value in it looks far out",
        "leave constant columns out (data.drop), or check more diverse rows",
    ),
    "latents": (
        "the Gaussians of these classes do not describe these rows: densities, out-of-distribution scores "
        "and samples are off, even if the classes are right",
        "if these rows are like the training rows, give the density more weight (objective.density, "
        "objective.rows=weak) or train longer; if not, this is their distance from them",
    ),
}
"""Check -> consequence for the model's outputs, and remedy."""


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    check: str  # its name
    verdict: Verdict  # `skipped` if the check was not possible
    message: str  # the result, with numbers
    meaning: str = ""  # consequence for the model's outputs; '' without a problem
    advice: str = ""  # remedy; '' without a problem
    details: tuple[str, ...] = ()  # single results, such as names of weights


@dataclass(frozen=True)
class LayerCheck:
    """Errors of one step from the feature matrix to the latent; None if not measured.

    The round trip is inverse after forward, for a step without an exact inverse forward after inverse.
    """

    name: str  # its path and class
    round_trip: float | None = None  # largest error in float64, relative to the numbers' size
    round_trip_32: float | None = None  # the same in float32, in which the model computes
    log_det: float | None = None  # largest difference from the Jacobian's determinant, in nats
    low: float | None = None  # smallest log-determinant per dimension
    high: float | None = None  # largest log-determinant per dimension
    inexact: str = ""  # the step's own reason for having no exact inverse; '' if it has one


@dataclass(frozen=True)
class ClassCheck:
    """Fit of a class's Gaussians to its rows; each row counts for the most responsible component.

    The entries of the standardised residual `e = (z - mean) / scale` are standard normal if the mixture fits.
    """

    name: str
    rows: int
    offset: float  # root mean square of the mean of e; 0 for a good fit, about `1 / sqrt(rows)` by chance
    variance: float  # mean of e squared; 1 for a good fit
    radius: float  # mean length of e divided by `sqrt(D)`; 1 for a good fit
    ks: float  # Kolmogorov-Smirnov distance of the squared length from chi-square with D degrees of freedom
    ks_by_chance: float  # distance that 95 % of samples of so many rows of the Gaussian stay below

    @property
    def tolerable_offset(self) -> float:
        """The offset from which on the class is warned of: half a standard deviation beyond chance."""
        return 0.5 + 2 / math.sqrt(self.rows)


@dataclass(frozen=True)
class CheckReport:
    """All results; `features` is the length of a latent vector, `notes` are restrictions of the checks."""

    rows: int
    jacobian_rows: int
    features: int
    findings: tuple[Finding, ...]
    layers: tuple[LayerCheck, ...]
    classes: tuple[ClassCheck, ...]
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst verdict."""
        return max((finding.verdict for finding in self.findings), key=_ORDER.index)

    def to_dict(self, run: str) -> dict[str, Any]:
        """Return the values of `flowgmm check --json`."""
        values = {"checks" if key == "findings" else key: value for key, value in asdict(self).items()}
        return {"schema": "flowgmm/check/1", "run": run, "verdict": self.verdict, **values}


def judge(
    check: str, verdict: Verdict, message: str, details: Sequence[str] = (), *, cause: str = ""
) -> Finding:
    """Return a finding; a warning or failure has the explanation of its cause, by default of its check."""
    explained = verdict in ("warning", "failed")
    meaning, advice = _EXPLANATIONS[cause or check] if explained else ("", "")
    return Finding(check, verdict, message, meaning, advice, tuple(details))
