"""Specs of the built-in regularisers."""

from __future__ import annotations

from flowgmm_cli.api import Field, RegulariserConfig, RegulariserSpec, Spec


class RampConfig(RegulariserConfig):
    """Parameters of regularisers that grow at the start of training."""

    ramp_epochs: float = Field(3.0, ge=0, description="epochs over which the term grows to full weight")


class ConsistencyConfig(RampConfig):
    """Parameters of `consistency`."""

    sharpening: float = Field(
        0.5, gt=0, le=1, description="temperature on the teacher's probabilities; 1 leaves them as they are"
    )


class GuideConfig(RegulariserConfig):
    """Parameters of `guide`."""

    fade_epochs: float | None = Field(
        None, gt=0, description="epochs over which the term fades to nothing; null = it stays"
    )


class FlowConsistencyConfig(RampConfig):
    """Parameters of `flow_consistency`."""

    per_dimension: bool = Field(True, description="divide the term by D")


class PiModelConfig(RampConfig):
    """Parameters of `pi_model`."""


class EntropyConfig(RampConfig):
    """Parameters of `entropy`."""

    weight: float = Field(0.1, ge=0, description="factor on its term")


class VatConfig(RampConfig):
    """Parameters of `vat`."""

    radius: float = Field(
        0.1, gt=0, description="length of the adversarial change, as a share of sqrt(D), in feature units"
    )
    probe: float = Field(
        1e-2, gt=0, description="length of the step of the power iteration, in the same unit"
    )
    iterations: int = Field(1, ge=1, le=10, description="power iterations for the direction of the change")


class MixupConfig(RampConfig):
    """Parameters of `mixup`."""

    alpha: float = Field(
        0.75, gt=0, le=1000, description="shares are drawn from Beta(alpha, alpha); large = nearly halves"
    )
    sharpening: float = Field(
        0.5, gt=0, le=1, description="temperature on the teacher's probabilities; 1 leaves them as they are"
    )


class MeanSeparationConfig(RegulariserConfig):
    """Parameters of `mean_separation`."""

    distance: float = Field(
        4.0, gt=0, description="distance below which two means repel each other, in mean standard deviations"
    )


class LogDetPenaltyConfig(RegulariserConfig):
    """Parameters of `log_det_penalty`."""

    weight: float = Field(1e-2, ge=0, description="factor on its term")


SPECS: dict[str, Spec] = {
    "consistency": RegulariserSpec(
        config=ConsistencyConfig,
        build="flowgmm_cli.regularisers.terms:Consistency",
        summary="Same class under both views: cross-entropy to the teacher's sharpened posterior",
        docs="The moving average of the model (Tarvainen and Valpola, 2017) classifies the weak view of an "
        "unlabelled row; its tempered and sharpened posterior is the student's target on the strong view.",
    ),
    "guide": RegulariserSpec(
        config=GuideConfig,
        build="flowgmm_cli.regularisers.terms:Guide",
        summary="Cross-entropy of the strong view to class probabilities of simple methods",
        docs="The cheaper methods of `eval --baselines` are fitted to the labels and averaged by "
        "cross-validated log loss; their probabilities are targets (distillation, Hinton et al., 2015). It "
        "has no effect on rows that are larger than memory.",
    ),
    "flow_consistency": RegulariserSpec(
        config=FlowConsistencyConfig,
        build="flowgmm_cli.regularisers.terms:FlowConsistency",
        summary="The paper's term: likelihood of the strong view in the class predicted for the weak one",
        docs="Izmailov et al. (2020), section 4.3: the model itself predicts the class of the weak view, a "
        "hard label without gradient; the strong view should be likely under that class. Divided by D.",
    ),
    "pi_model": RegulariserSpec(
        config=PiModelConfig,
        build="flowgmm_cli.regularisers.terms:PiModel",
        summary="Squared difference of the class probabilities of the two views",
        docs="Laine and Aila (2017). The weak view's probabilities are the target, without gradient.",
    ),
    "entropy": RegulariserSpec(
        config=EntropyConfig,
        build="flowgmm_cli.regularisers.terms:Entropy",
        summary="Entropy of the posterior of unlabelled rows, to keep boundaries out of dense regions",
        docs="Grandvalet and Bengio (2004), on tempered posteriors of the strong view.",
    ),
    "vat": RegulariserSpec(
        config=VatConfig,
        build="flowgmm_cli.regularisers.terms:Vat",
        summary="Virtual adversarial training: same posterior under the worst small change of a row",
        docs="Miyato et al. (2018). Costs three further passes of the unlabelled rows for one iteration.",
    ),
    "mixup": RegulariserSpec(
        config=MixupConfig,
        build="flowgmm_cli.regularisers.terms:Mixup",
        summary="Mixup: between the latents of two rows, the same mix of their classes",
        docs="Mixup in the latent space (Verma et al., 2019) of unlabelled rows under the strong view, with "
        "the teacher's sharpened posteriors of the weak view as targets (MixMatch, Berthelot et al., 2019).",
    ),
    "mean_separation": RegulariserSpec(
        config=MeanSeparationConfig,
        build="flowgmm_cli.regularisers.terms:MeanSeparation",
        summary="Squared hinge on the distance between class means",
        docs="Keeps learned means from drifting together before the classes have separated.",
    ),
    "log_det_penalty": RegulariserSpec(
        config=LogDetPenaltyConfig,
        build="flowgmm_cli.regularisers.terms:LogDetPenalty",
        summary="Squared log-determinant per dimension, against extreme changes of volume",
    ),
}
