"""A trained model on disk and in memory: preprocessing and FlowGMM together, all that inference needs."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import Column, Component, DataContext, FlowSpec, Latents, ScoreInputs, iterate_batches
from flowgmm_cli.data.preprocessor import Preprocessor, Tensors
from flowgmm_cli.errors import RecipeError, RunError
from flowgmm_cli.files import read_json, read_tensors, write_json, write_tensors
from flowgmm_cli.flows.flat import FlatFlow, latent_sizes
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.mixture.starts.start import Start
from flowgmm_cli.model import Ensemble, FlowMixture, Model
from flowgmm_cli.plugins.provenance import qualify, require
from flowgmm_cli.plugins.registry import build, provenance, registry
from flowgmm_cli.recipe.load import parse_resolved
from flowgmm_cli.recipe.parse import vary
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.scores.detector import Detector

FORMAT = "flowgmm/model/1"
_CHUNK = 4096  # rows seen at once, fewer of wide ones
_CHUNK_NUMBERS = 2**20


@dataclass(frozen=True)
class Member:
    """How one of a model's parts was trained.

    Attributes:
        candidate: the candidate of the search it comes from; None without a search.
        changes: what is different from the recipe; `flowgmm_cli.recipe.load.vary` applies it.
    """

    candidate: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"candidate": self.candidate, "changes": dict(self.changes)}


@dataclass(frozen=True)
class TrainedModel:
    """Preprocessing and FlowMixture, with the names of the classes.

    Attributes:
        recipe: what it was trained with.
        preprocessor: rows to the flow's input.
        model: the flow's input to densities, posteriors and latents; one FlowMixture or an ensemble.
        class_names: index -> name.
        facts: what is known of its training, such as the calibration; plain JSON values.
        members: how each part of the model was trained.
        detector: scores of how far out rows are; None where the run has none.
        source: what samples are drawn from, the flows with their components moved to where rows lie (see
            `flowgmm_cli.inference.sampling`); None where the run has none.
    """

    recipe: Recipe
    preprocessor: Preprocessor
    model: Model
    class_names: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    members: tuple[Member, ...] = (Member(),)
    detector: Detector | None = None
    source: Model | None = None

    @property
    def image(self) -> Column | None:
        """The input column, where it is the only one and holds images: entries of two or three axes."""
        columns = self.preprocessor.columns
        return columns[0] if len(columns) == 1 and len(columns[0].shape) in (2, 3) else None

    @torch.no_grad()
    def encode_rows(self, split: Tensors) -> ScoreInputs:
        """Preprocessed rows as scores see them, on the CPU.

        Their pixels are there where the rows are images and `split` was made with its inputs.
        """
        latents = encode(self.model, split.x)
        images = None if split.inputs is None else self.preprocessor.to_images(split.inputs)
        return ScoreInputs(
            x=split.x,
            latents=latents,
            log_posterior=self.model.log_posterior(latents),
            log_density=latents.log_prob().double() + split.log_det,
            images=images,
        )

    def encode_images(self, images: Tensor) -> ScoreInputs:
        """Images `(N, height, width)` or with channels last as scores see them, without their pixels."""
        x, log_det = self.preprocessor.transform_features(self.preprocessor.from_images(images))
        nameless = torch.full((len(x),), -1)
        return self.encode_rows(Tensors(x, log_det, nameless, np.arange(len(x)).astype(str)))

    def predict(self, split: Tensors) -> Predictions:
        """Classes, probabilities and densities of preprocessed rows."""
        latents = encode(self.model, split.x)
        log_density = latents.log_prob().double() + split.log_det
        return Predictions(self.model.log_posterior(latents).numpy(), log_density.numpy())

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`, then `model.json`, which makes it complete."""
        values, arrays = self.preprocessor.state()
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"preprocessor.{name}": torch.from_numpy(np.array(a)) for name, a in arrays.items()}
        detector = None
        if self.detector is not None:
            detector, fitted = self.detector.state()
            tensors |= {f"scores.{name}": torch.from_numpy(np.array(one)) for name, one in fitted.items()}
        for index, part in enumerate(self.source.parts if self.source else ()):
            mixture = part.mixture.state_dict().items()
            tensors |= {f"source.{index}.{name}": value for name, value in mixture}
        write_tensors(folder / "model.safetensors", tensors, {"format": FORMAT})
        write_json(
            folder / "model.json",
            {
                "format": FORMAT,
                "class_names": list(self.class_names),
                "features": self.preprocessor.dim,
                "components": [provenance(component) for component in self.recipe.components()],
                "detector": detector,
                "facts": dict(self.facts),
                "members": [member.to_dict() for member in self.members],
                "preprocessor": values,
                "recipe": self.recipe.to_dict(),
            },
        )

    @classmethod
    def load(cls, folder: Path, *, context: DataContext | None = None) -> TrainedModel:
        """Read what `save` wrote.

        Raises:
            RunError: a file is missing, damaged or foreign.
            PluginError: a component is not installed.
        """
        values = read_json(folder / "model.json", "model")
        tensors, metadata = read_tensors(folder / "model.safetensors", "model")
        for found in (values.get("format"), metadata.get("format")):
            if found != FORMAT:
                raise RunError(
                    f"{folder} holds a model in the format {found!r}, this version reads {FORMAT!r}",
                    hint="train again, or use the version of flowgmm-cli named in run.json",
                )
        arrays = {name: one.numpy() for name, one in _select_prefix("preprocessor.", tensors).items()}
        fitted = {name: one.numpy() for name, one in _select_prefix("scores.", tensors).items()}
        detector = None
        try:
            components = values["components"]
            for warning in require(components, what=f"the model in {folder}"):
                (context or DataContext()).note(f"warning: {warning}")
            recipe = parse_resolved(qualify(values["recipe"], components), str(folder / "model.json"))
            class_names = tuple(values["class_names"])
            facts = dict(values["facts"])
            preprocessor = Preprocessor.from_state(
                values["preprocessor"], arrays, data=recipe.data, context=context or DataContext()
            )
            if (width := values["features"]) != preprocessor.dim:
                raise ValueError(f"{width} features, and the preprocessor makes {preprocessor.dim}")
            listed = qualify(values["members"], components)
            members = tuple(Member(one["candidate"], one["changes"]) for one in listed)
            model = build_model(recipe, members, shape=preprocessor.shape, classes=len(class_names))
            model.load_state_dict(_select_prefix("model.", tensors))
            if values.get("detector") is not None:  # runs of older versions have none
                detector = Detector.from_state(values["detector"], fitted, components=recipe.ood.scores)
            source = _source(model, _select_prefix("source.", tensors))
        except (RecipeError, AttributeError, LookupError, TypeError, RuntimeError, ValueError) as error:
            raise RunError(
                f"the model in {folder} is damaged: its files do not fit together",
                details=[f"{type(error).__name__}: {error}".strip().splitlines()[0]],
                hint="train again, or use another run",
            ) from error
        return cls(recipe, preprocessor, model.eval(), class_names, facts, members, detector, source)


@dataclass(frozen=True)
class Predictions:
    """What the model says of some rows.

    Attributes:
        log_probabilities: calibrated `log p(k | x)`, float64 `(N, K)`.
        log_density: `log p(x)` in nats, the transforms' log-determinant included, float64 `(N,)`.
    """

    log_probabilities: np.ndarray[Any, np.dtype[np.float64]]
    log_density: np.ndarray[Any, np.dtype[np.float64]]


@torch.no_grad()
def encode(model: Model, x: Tensor) -> Latents:
    """See preprocessed rows `(N, D)` through a model, in chunks; the latents are on the CPU."""
    device = model.temperature.device
    slices = list(iterate_batches(len(x), chunk_rows(x.shape[1]))) or [slice(0)]
    parts: list[Latents] = [model(x[part].to(device)) for part in slices]
    return Latents(
        torch.cat([part.z.cpu() for part in parts]),
        torch.cat([part.log_det.cpu() for part in parts]),
        torch.cat([part.class_log_prob.cpu() for part in parts]),
    )


def chunk_rows(features: int) -> int:
    """How many rows of a length a model sees at once; convolutions keep many numbers for each of a row's."""
    return min(_CHUNK, max(64, _CHUNK_NUMBERS // max(1, features)))


def _select_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}


def build_model(
    recipe: Recipe, members: Sequence[Member] = (Member(),), *, shape: tuple[int, ...], classes: int
) -> Model:
    """The model of a recipe before it has seen data, for loading weights into."""
    models = []
    for member in members:
        varied = vary(recipe, member.changes) if member.changes else recipe
        flow = build_flow(varied.flow, shape, torch.Generator().manual_seed(0))
        models.append(FlowMixture(flow, build_mixture(varied.prior, flow, shape, classes=classes)))
    return models[0] if len(models) == 1 else Ensemble(models)


def _source(model: Model, tensors: Mapping[str, Tensor]) -> Model | None:
    """The flows of a model with other mixtures; None where no mixtures were saved."""
    if not tensors:
        return None
    parts = []
    for index, part in enumerate(model.parts):
        mixture = copy.deepcopy(part.mixture)
        mixture.load_state_dict(_select_prefix(f"{index}.", tensors))
        parts.append(FlowMixture(part.flow, mixture))
    return parts[0] if len(parts) == 1 else Ensemble(parts)


def build_flow(component: Component, shape: tuple[int, ...], generator: torch.Generator) -> torch.nn.Module:
    """Build a flow for rows that come as vectors, whatever their own shape.

    Args:
        component: the recipe's `flow`.
        shape: of a row, `(D,)` or `(channels, height, width)`.
        generator: seeds the weights.

    Raises:
        RecipeError: the flow takes images, and the rows are none.
    """
    accepts = cast(FlowSpec, registry().find("flow", component.use).spec()).accepts
    if "image" in accepts and len(shape) == 3:
        return FlatFlow(build(component, shape=shape, generator=generator), shape)
    if "vector" not in accepts:
        raise RecipeError(
            f"flow `{component.use}` takes images, and the rows of this recipe are vectors of "
            f"{math.prod(shape)} numbers after the transforms",
            hint="give it the pixels: data.transforms=[{use: dequantise}]; or choose a flow of vectors, such "
            "as flow.use=realnvp",
        )
    flow: torch.nn.Module = build(component, shape=(math.prod(shape),), generator=generator)
    return flow


def build_mixture(
    component: Component,
    flow: torch.nn.Module,
    shape: tuple[int, ...],
    *,
    classes: int,
    start: Start | None = None,
    weights: Tensor | None = None,
) -> GaussianMixture:
    """Build the mixture of a flow's latents; see `flowgmm_cli.mixture.build`."""
    mixture: GaussianMixture = build(
        component,
        classes=classes,
        features=math.prod(shape),
        scales=latent_sizes(flow),
        start=start,
        weights=weights,
    )
    return mixture
