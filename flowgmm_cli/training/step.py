"""One training step: where all losses come together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from flowgmm_cli.api import Batch, DataConfig, Latents, Objective, Regulariser, RegulariserConfig
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.training.viewing import Forms, Viewing, build_viewing


@dataclass(frozen=True)
class WeightedRegulariser:
    """A regulariser and the factor on its terms."""

    weight: float
    compute: Regulariser


@dataclass(frozen=True)
class StepInput:
    """The rows of one step, on the device, before any view; see `flowgmm_cli.api.Batch`."""

    labelled: Forms
    labels: Tensor
    unlabelled: Forms
    step: int
    epoch: float


class TrainingStep(nn.Module):
    """All losses of a step from one forward pass of the student.

    A module, so that it can be compiled or wrapped for several processes as a whole.

    Args:
        model: the student.
        objective: the main loss.
        regularisers: losses added to it.
        weak: what the teacher sees of the unlabelled rows, and the student of the labelled ones.
        strong: what the student sees of the unlabelled rows.
    """

    def __init__(
        self,
        model: FlowMixture,
        objective: Objective,
        regularisers: Sequence[WeightedRegulariser],
        *,
        weak: Viewing | None = None,
        strong: Viewing | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.regularisers = tuple(regularisers)
        self.views = {"weak": weak or Viewing("weak"), "strong": strong or Viewing("strong")}
        self.reads = frozenset().union(objective.reads, *(one.compute.reads for one in self.regularisers))

    def forward(self, teacher: FlowMixture, rows: StepInput, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the student's named scalar loss terms, weighted; their sum is the loss.

        Args:
            teacher: the averaged model; no gradient reaches it.
            rows: this step's rows.
            generator: random numbers of this step, on the device of the rows.
        """
        return self.losses(self.model, teacher, rows, generator)

    def losses(
        self, model: FlowMixture, teacher: FlowMixture, rows: StepInput, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The same for any model in the student's place."""
        drawn = ["weak", *(self.reads - {"weak"})]
        views = {name: self.views[name](rows.unlabelled, generator) for name in drawn}
        labelled = self.views["weak"](rows.labelled, generator)
        parts = {"labelled": labelled, **{name: views[name] for name in sorted(self.reads)}}
        batch = _Batch(
            lambda: self.views["strong"](rows.unlabelled, generator),
            labelled=labelled,
            labels=rows.labels,
            **views,
            student=_see(model, parts),
            temperature=self.objective.temperature,
            step=rows.step,
            epoch=rows.epoch,
            generator=generator,
        )
        terms = dict(self.objective(model, teacher, batch))
        for one in self.regularisers:
            for name, value in one.compute(model, teacher, batch).items():
                weighted = one.weight * value
                terms[name] = terms[name] + weighted if name in terms else weighted
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
    """Build objective, regularisers and views of a recipe around a model.

    Args:
        recipe: names the components.
        model: the student, on the device of training.
        features: D.
        labelled: number of labelled training rows.
        unlabelled: number of training rows without a label.
        preprocessor: of the rows; needed where a view changes inputs.

    Raises:
        RecipeError: a view changes images, and there are none.
    """
    views = cast(DataConfig, recipe.data.config).views
    device = model.mixture.means.device
    regularisers = [
        WeightedRegulariser(cast(RegulariserConfig, component.config).weight, build(component))
        for component in recipe.regularisers
    ]
    return TrainingStep(
        model,
        build(
            recipe.objective,
            features=features,
            labelled=labelled,
            unlabelled=unlabelled,
            dims=model.mixture.dims,
        ),
        regularisers,
        weak=build_viewing("weak", views.weak, preprocessor=preprocessor, device=device),
        strong=build_viewing("strong", views.strong, preprocessor=preprocessor, device=device),
    )


class _Batch(Batch):
    """A batch whose rows under the strong view are made when somebody looks at them: not all losses do."""

    def __init__(self, make_strong: Callable[[], Tensor] | None = None, **fields: Any) -> None:
        for name, value in {**fields, "_make_strong": make_strong}.items():
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name != "strong" or self._make_strong is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        object.__setattr__(self, name, self._make_strong())
        return self.strong


def _see(model: Any, parts: dict[str, Tensor]) -> dict[str, Latents]:
    """Pass all parts through the model at once and hand them back by name."""
    latents: Latents = model(torch.cat(list(parts.values())))
    seen, start = {}, 0
    for name, x in parts.items():
        seen[name] = latents.rows(slice(start, start + len(x)))
        start += len(x)
    return seen
