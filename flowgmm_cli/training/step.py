"""One training step: where all losses come together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor, nn

from flowgmm_cli.api import Batch, Objective, Regulariser, RegulariserConfig
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.views.pipeline import AugmentationPipeline, build_pipeline, view_settings


class TrainingStep(nn.Module):
    """All losses of a step from one forward pass of the student.

    A module, so that it can be compiled or wrapped by `DistributedDataParallel` as a whole.

    Args:
        model: the student.
        objective: the main loss.
        regularisers: losses added to it, with the factors on their terms.
        weak: view of the unlabelled rows for the teacher, and of the labelled rows for the student.
        strong: view of the unlabelled rows for the student.
    """

    def __init__(
        self,
        model: FlowMixture,
        objective: Objective,
        regularisers: Sequence[tuple[float, Regulariser]],
        *,
        weak: AugmentationPipeline | None = None,
        strong: AugmentationPipeline | None = None,
    ) -> None:
        super().__init__()
        self.model, self.objective, self.regularisers = model, objective, tuple(regularisers)
        self.views = {
            "weak": weak or AugmentationPipeline("weak"),
            "strong": strong or AugmentationPipeline("strong"),
        }
        # views of the unlabelled rows of which the losses read the student's latents
        reads = (objective.reads, *(regulariser.reads for _, regulariser in self.regularisers))
        self.reads = frozenset().union(*reads)

    def forward(
        self,
        teacher: FlowMixture,
        labelled: Tensors,
        unlabelled: Tensors,
        generator: torch.Generator,
        *,
        step: int = 0,
        epoch: float = 0.0,
        model: FlowMixture | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss terms by name, weighted scalars; their sum is the loss.

        Args:
            teacher: the averaged model.
            labelled, unlabelled: rows of the step, on the device, before any view.
            generator: random numbers of the step, on the device.
            step, epoch: position in the training; see `flowgmm_cli.api.Batch`.
            model: takes the place of the student.
        """
        views = {name: view(unlabelled, generator) for name, view in self.views.items()}
        parts = {"labelled": self.views["weak"](labelled, generator)}
        parts |= {name: views[name] for name in sorted(self.reads)}
        model = model or self.model
        latents, ends = model(torch.cat(list(parts.values()))), accumulate(map(len, parts.values()))
        rows = [slice(end - len(x), end) for x, end in zip(parts.values(), ends, strict=True)]
        batch = Batch(
            labelled=parts["labelled"],
            labels=labelled.labels,
            weak=views["weak"],
            strong=views["strong"],
            student={name: latents.rows(part) for name, part in zip(parts, rows, strict=True)},
            temperature=self.objective.temperature,
            step=step,
            epoch=epoch,
            generator=generator,
            guide=unlabelled.guide,
            weights=labelled.weights,
            targets=labelled.targets,
        )
        terms = dict(self.objective(model, teacher, batch))
        for weight, regulariser in self.regularisers:
            for name, value in regulariser(model, teacher, batch).items():
                terms[name] = terms[name] + weight * value if name in terms else weight * value
        return terms


def build_step(
    recipe: Recipe,
    model: FlowMixture,
    *,
    features: int,
    labelled: int,
    unlabelled: int,
    preprocessor: Preprocessor | None = None,
) -> TrainingStep:
    """Build the objective, regularisers and views of a recipe around a model.

    Args:
        recipe: names the components.
        model: the student, on the device of training.
        features, labelled, unlabelled: D, numbers of training rows with and without a label.
        preprocessor: of the rows; needed where a view changes inputs.

    Raises:
        RecipeError: a view changes images, and no column holds images.
    """
    sizes = {"features": features, "labelled": labelled, "unlabelled": unlabelled}
    objective = build(recipe.objective, **sizes, dims=model.mixture.dims)
    regularisers = [
        (cast(RegulariserConfig, component.config).weight, build(component))
        for component in recipe.regularisers
    ]
    views, device = view_settings(recipe), model.mixture.means.device
    common: dict[str, Any] = {
        "preprocessor": preprocessor,
        "device": device,
        "space": getattr(model.flow, "view_space", None),
    }
    return TrainingStep(
        model,
        objective,
        regularisers,
        weak=build_pipeline("weak", views.weak, **common),
        strong=build_pipeline("strong", views.strong, **common),
    )
