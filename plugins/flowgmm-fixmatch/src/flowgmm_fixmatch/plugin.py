"""Parameters and spec; imports no torch."""

from __future__ import annotations

from typing import Literal

from flowgmm_cli.api import Field, RegulariserConfig, RegulariserSpec


class FixMatchConfig(RegulariserConfig):
    """Parameters of `fixmatch`."""

    threshold: float = Field(
        0.95,
        ge=0,
        le=1,
        description="probability from which a predicted class counts; with `free` thresholds of no account",
    )
    thresholds: Literal["fixed", "flex", "free"] = Field(
        "free",
        description="fixed: `threshold` for all; flex: lower for classes that are rarely predicted with "
        "confidence (FlexMatch); free: from the mean confidence, lower for classes that are rarely predicted "
        "(FreeMatch)",
    )
    predictor: Literal["teacher", "student"] = Field(
        "teacher",
        description="who predicts the class of the weak view: the averaged model or the model itself",
    )
    targets: Literal["hard", "soft"] = Field(
        "hard", description="hard: the most likely class; soft: the probabilities of all"
    )
    ramp_epochs: float = Field(3.0, ge=0, description="epochs over which the term grows to full weight")


FIXMATCH = RegulariserSpec(
    config=FixMatchConfig,
    build="flowgmm_fixmatch.regulariser:FixMatch",
    summary="FixMatch: confident classes of the weak view are targets for the strong one",
    docs="Sohn et al. (2020); thresholds of FlexMatch (Zhang et al., 2021) and FreeMatch (Wang et al., "
    "2023), whose statistics are taken from the batch at hand, seen by the averaged model. Needs views that "
    "differ: `data.views`. Takes the place of the regulariser `consistency`.",
)
