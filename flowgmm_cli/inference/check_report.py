"""Results of a check of a model, for people and for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["ok", "warning", "failed", "skipped"]
_ORDER: dict[Verdict, int] = {"skipped": 0, "ok": 1, "warning": 2, "failed": 3}


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        check: name of the check.
        verdict: `ok`, `warning`, `failed`, or `skipped` if it was not possible.
        message: the result, with numbers.
        meaning: consequence for the model's outputs; '' without a problem.
        advice: remedy; '' without a problem.
        details: single results, such as names of weights.
    """

    check: str
    verdict: Verdict
    message: str
    meaning: str = ""
    advice: str = ""
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerCheck:
    """Errors of one step from the feature matrix to the latent; None if not measured.

    Attributes:
        name: its path and class.
        round_trip: largest error of inverse after forward in float64, relative to the numbers' size. For a
            step without an exact inverse, of forward after inverse instead.
        round_trip_32: the same in float32, in which the model computes.
        log_det: largest difference from the Jacobian's determinant, in nats.
        low, high: smallest and largest log-determinant per dimension.
        inexact: the step's own reason for having no exact inverse; '' if it has one.
    """

    name: str
    round_trip: float | None = None
    round_trip_32: float | None = None
    log_det: float | None = None
    low: float | None = None
    high: float | None = None
    inexact: str = ""


@dataclass(frozen=True)
class ClassCheck:
    """Fit of a class's Gaussians to its rows; each row counts for the most responsible component.

    The standardised residual is `e = (z - mean) / scale`; its entries are standard normal if the mixture
    fits.

    Attributes:
        name: the class.
        rows: number of rows.
        offset: root mean square of the mean of e; 0 for a good fit, about `1 / sqrt(rows)` by chance.
        variance: mean of e squared; 1 for a good fit.
        radius: mean length of e divided by `sqrt(D)`; 1 for a good fit.
        ks: Kolmogorov-Smirnov distance of the squared length from chi-square with D degrees of freedom, in
            [0, 1].
    """

    name: str
    rows: int
    offset: float
    variance: float
    radius: float
    ks: float


@dataclass(frozen=True)
class CheckReport:
    """All results.

    Attributes:
        findings: one for each check.
        layers: the steps to the latent.
        classes: the classes that have rows.
        rows: number of rows.
        jacobian_rows: number of rows at which Jacobians were computed.
        features: length of a latent vector, D.
        notes: restrictions of the checks.
    """

    findings: tuple[Finding, ...]
    layers: tuple[LayerCheck, ...]
    classes: tuple[ClassCheck, ...]
    rows: int
    jacobian_rows: int
    features: int
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst verdict; `ok` without findings."""
        return worst([finding.verdict for finding in self.findings])

    def to_dict(self, run: str) -> dict[str, Any]:
        """Return the JSON of `flowgmm check --json`; numbers that are not finite become None."""
        values = {
            "schema": "flowgmm/check/1",
            "run": run,
            "verdict": self.verdict,
            "rows": self.rows,
            "jacobian_rows": self.jacobian_rows,
            "features": self.features,
            "checks": [asdict(finding) for finding in self.findings],
            "layers": [asdict(layer) for layer in self.layers],
            "classes": [asdict(check) for check in self.classes],
            "notes": list(self.notes),
        }
        finite: dict[str, Any] = _replace_non_finite(values)
        return finite


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the worst of some verdicts; `ok` for none, and `skipped` only if all are.

    >>> worst(["ok", "failed", "warning"]), worst(["skipped", "ok"]), worst([])
    ('failed', 'ok', 'ok')
    """
    return max(verdicts, key=lambda verdict: _ORDER[verdict], default="ok")


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(item) for item in value]
    return value
