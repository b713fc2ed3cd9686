"""Specs of the built-in regularisers."""

from __future__ import annotations

from flowgmm_cli.api import Field, RegulariserConfig, RegulariserSpec, Spec


class ConsistencyConfig(RegulariserConfig):
    """Parameters of `consistency`."""

    ramp_epochs: float = Field(3.0, ge=0, description="epochs over which the term grows to full weight")
    sharpening: float = Field(
        0.5, gt=0, le=1, description="temperature on the teacher's probabilities; 1 leaves them as they are"
    )


SPECS: dict[str, Spec] = {
    "consistency": RegulariserSpec(
        config=ConsistencyConfig,
        build="flowgmm_cli.regularisers.consistency:Consistency",
        summary="Same class under both views: cross-entropy to the teacher's sharpened posterior",
        docs="The averaged model (Tarvainen and Valpola, 2017) classifies the weak view of an unlabelled "
        "row; its tempered posterior, sharpened, is the target of the student on the strong view.",
    ),
}
