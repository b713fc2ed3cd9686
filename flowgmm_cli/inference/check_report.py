"""What an examination of a model finds, for people and for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["ok", "warning", "failed", "skipped"]
_ORDER: dict[Verdict, int] = {"skipped": 0, "ok": 0, "warning": 1, "failed": 2}


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: its name.
        verdict: `ok`, `warning`, `failed`, or `skipped` where it could not be made.
        message: what was found, with numbers.
        meaning: what that means for the model's answers; '' if all is well.
        advice: what to do; '' if all is well.
        details: single findings, such as names of weights.
    """

    check: str
    verdict: Verdict
    message: str
    meaning: str = ""
    advice: str = ""
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerCheck:
    """One step of the way from the feature matrix to the latent; errors are None where not measured.

    Attributes:
        name: where it is and what it is.
        round_trip: largest error of inverse after forward in float64, as a share of the numbers' size. Of a
            step that loses something by its own account, forward after inverse instead.
        round_trip_32: the same in float32, as the model computes.
        log_det: largest difference from the Jacobian's determinant, in nats.
        low, high: smallest and largest log-determinant per dimension.
        inexact: why the step cannot be undone, by its own account; '' if it can.
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
    """How the rows of a class fill its Gaussians; each row counts for the most responsible component.

    With the standardised residual `e = (z - mean) / scale`, of which every entry is standard normal where the
    mixture fits:

    Attributes:
        name: the class.
        rows: number of rows.
        offset: root mean square of the mean of e; 0 where it fits, about `1 / sqrt(rows)` by chance.
        variance: mean of e squared; 1 where it fits.
        radius: mean length of e by `sqrt(D)`; 1 where it fits.
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
    """Everything that was found.

    Attributes:
        findings: one for each check.
        layers: the steps of the way to the latent.
        classes: the classes that have rows.
        rows: number of rows seen.
        jacobian_rows: number of rows at which Jacobians were taken.
        features: length of a latent vector, D.
    """

    findings: tuple[Finding, ...]
    layers: tuple[LayerCheck, ...]
    classes: tuple[ClassCheck, ...]
    rows: int
    jacobian_rows: int
    features: int
    notes: tuple[str, ...] = field(default=())

    @property
    def verdict(self) -> Verdict:
        """The worst verdict; `ok` if nothing was found."""
        return worst([finding.verdict for finding in self.findings])

    def to_dict(self, run: str) -> dict[str, Any]:
        """The JSON of `flowgmm check --json`; numbers that are not finite become None."""
        value = {
            "schema": "flowgmm/check/1",
            "run": run,
            "verdict": self.verdict,
            "rows": self.rows,
            "jacobian_rows": self.jacobian_rows,
            "features": self.features,
            "checks": [asdict(one) for one in self.findings],
            "layers": [asdict(one) for one in self.layers],
            "classes": [asdict(one) for one in self.classes],
            "notes": list(self.notes),
        }
        cleaned: dict[str, Any] = _finite(value)
        return cleaned


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The worst of some verdicts; `ok` for none, and `skipped` only where all are.

    >>> worst(["ok", "failed", "warning"]), worst(["skipped", "ok"]), worst([])
    ('failed', 'ok', 'ok')
    """
    if verdicts and all(one == "skipped" for one in verdicts):
        return "skipped"
    rank = max((_ORDER[one] for one in verdicts), default=0)
    by_rank: dict[int, Verdict] = {0: "ok", 1: "warning", 2: "failed"}
    return by_rank[rank]


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
