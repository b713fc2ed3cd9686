"""A trained model on disk and in memory: the preprocessor with the FlowGMM, sufficient for inference."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import (
    Column,
    Component,
    DataContext,
    FlowSpec,
    Latents,
    Rows,
    ScoreInputs,
    iterate_batches,
)
from flowgmm_cli.conformal import HeldOutLabels
from flowgmm_cli.data.array_types import Bools, Hashes
from flowgmm_cli.data.fingerprint import row_hashes
from flowgmm_cli.data.images.format import image_column
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.errors import RecipeError, RunError
from flowgmm_cli.files import MALFORMED, load_strictly, select_prefix
from flowgmm_cli.flows.multiscale import FlatFlow, latent_sizes
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.mixture.init import InitialMeans
from flowgmm_cli.mixture.unknown_head import UnknownHead
from flowgmm_cli.model import Ensemble, FlowMixture, Model
from flowgmm_cli.model_file import limit_allocations, read_model, write_model
from flowgmm_cli.plugins.provenance import drop_unusable_regularisers, qualify, require
from flowgmm_cli.plugins.registry import build, provenance, registry
from flowgmm_cli.recipe.load import parse_resolved
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.recipe.variants import vary
from flowgmm_cli.scores.detector import Detector

_MODEL_KEYS = ("flow", "prior")  # sections of the recipe that the weights depend on
_CHUNK_ROWS = 4096
_CHUNK_ENTRIES = 2**20


@dataclass(frozen=True)
class Member:
    """Training settings of one part of a model."""

    candidate: str | None = None  # name of the search candidate that it comes from; None without a search
    changes: Mapping[str, Any] = field(default_factory=dict)  # differences from the recipe, see `vary`

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"candidate": self.candidate, "changes": dict(self.changes)}


@dataclass(frozen=True)
class TrainedModel:
    """Preprocessor and FlowMixture, with the names of the classes.

    `sampling_model` is the model to draw samples from, None for `model` itself: the same flows, with
    components moved to the rows' mean latents, see `flowgmm_cli.inference.sampling.recentre_components`.
    `labelled_rows` are `row_hashes` of the rows whose labels the training used, ascending; `held_out` are
    labels that folds or a validation split have held out.
    """

    recipe: Recipe  # recipe of the training
    preprocessor: Preprocessor  # maps rows to the flow's input
    model: Model  # maps the flow's input to latents, densities and posteriors; FlowMixture or ensemble
    class_names: tuple[str, ...]  # index -> name
    facts: Mapping[str, Any] = field(default_factory=dict)  # such as the calibration; plain JSON values
    members: tuple[Member, ...] = (Member(),)  # training settings of each part of the model
    detector: Detector | None = None  # fitted out-of-distribution scores; None before they are fitted
    sampling_model: Model | None = None
    labelled_rows: Hashes | None = None  # `(n,)`; None for a model of an earlier version
    held_out: HeldOutLabels = field(default_factory=lambda: HeldOutLabels.concatenate([]))

    @property
    def image(self) -> Column | None:
        """The input column if it is the only one and holds images whose pixels are the features."""
        return None if self.preprocessor.feature_encoder.encoded else image_column(self.preprocessor.columns)

    def require_detector(self) -> Detector:
        """Return the fitted scores. Raises `RunError` if the model has no scores."""
        if self.detector is None:
            raise RunError("this model has no out-of-distribution scores", hint="`flowgmm train` fits them")
        return self.detector

    def encode_rows(self, split: Tensors) -> ScoreInputs:
        """Compute latents, posteriors and densities of preprocessed rows, on the CPU.

        The result has pixels if the rows are images and `split` was made with its inputs.
        """
        images = None if split.inputs is None else self.preprocessor.to_images(split.inputs)
        return score_inputs(self.model, split.x, split.log_det, images=images)

    def find_labelled(self, rows: Rows) -> Bools:
        """Return a mask of the rows that are equal to a row whose label the training used."""
        if self.labelled_rows is None:
            return np.zeros(len(rows), dtype=bool)
        return np.isin(row_hashes(rows, self.preprocessor.columns), self.labelled_rows)

    def encode_images(self, images: Tensor) -> ScoreInputs:
        """Compute the same for images `(N, height, width)` or with channels last, without their pixels."""
        x, log_det = self.preprocessor.transform_features(self.preprocessor.from_images(images))
        return self.encode_rows(Tensors(x, log_det=log_det))

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`, then `model.json`, which completes the model."""
        values, arrays = self.preprocessor.state()
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"preprocessor.{name}": torch.from_numpy(np.array(a)) for name, a in arrays.items()}
        detector = None
        if self.detector is not None:
            detector, fitted = self.detector.state()
            tensors |= {f"scores.{name}": torch.from_numpy(np.array(a)) for name, a in fitted.items()}
        for index, part in enumerate(self.sampling_model.parts if self.sampling_model else ()):
            mixture = part.mixture.state_dict().items()
            tensors |= {f"source.{index}.{name}": value for name, value in mixture}
        if self.labelled_rows is not None:
            tensors["rows.labelled"] = torch.from_numpy(self.labelled_rows.view(np.int64))
        if len(self.held_out):
            tensors |= {f"held_out.{name}": torch.from_numpy(a) for name, a in vars(self.held_out).items()}
        write_model(
            folder,
            {
                "class_names": list(self.class_names),
                "features": self.preprocessor.dim,
                "components": [provenance(component) for component in self.recipe.components()],
                "detector": detector,
                "facts": dict(self.facts),
                "members": [member.to_dict() for member in self.members],
                "preprocessor": values,
                "recipe": self.recipe.to_stored(),
            },
            tensors,
        )

    @classmethod
    def load(cls, folder: Path, *, context: DataContext | None = None) -> TrainedModel:
        """Read the files of `save`.

        Raises:
            RunError: a file is missing, damaged or of another format.
            PluginError: a component is not installed.
        """
        # the run may come from a stranger, so it fetches nothing
        context = replace(context or DataContext(), offline=True)
        values, tensors = read_model(folder)
        try:
            return cls._from_state(values, tensors, folder, context)
        except (RecipeError, *MALFORMED) as error:
            raise RunError(
                f"the model in {folder} is damaged: its files do not fit together",
                details=[f"{type(error).__name__}: {error}".strip().splitlines()[0]],
                hint="train again, or use another run",
            ) from error

    @classmethod
    def _from_state(
        cls, values: dict[str, Any], tensors: dict[str, Tensor], folder: Path, context: DataContext
    ) -> TrainedModel:
        components, what = values["components"], f"the model in {folder}"
        needed = [component for component in components if component.get("kind") != "regulariser"]
        plain, warnings = drop_unusable_regularisers(qualify(values["recipe"], components), what=what)
        for warning in (*require(needed, what=what), *warnings):
            context.note(f"warning: {warning}")
        recipe = parse_resolved(plain, str(folder / "model.json"), stored=True)
        class_names = tuple(values["class_names"])
        arrays = {name: value.numpy() for name, value in select_prefix("preprocessor.", tensors).items()}
        preprocessor = Preprocessor.from_state(
            values["preprocessor"], arrays, data=recipe.data, context=context
        )
        if (width := values["features"]) != preprocessor.dim:
            raise ValueError(f"{width} features, and the preprocessor makes {preprocessor.dim}")
        members = tuple(Member(**member) for member in qualify(values["members"], components))
        with limit_allocations(folder, tensors):
            model = build_model(
                recipe,
                members,
                shape=preprocessor.shape,
                classes=len(class_names),
                unknown=(values["facts"].get("unknown") or {}).get("components", 0),
            )
        load_strictly(model, select_prefix("model.", tensors))
        detector = None
        if values["detector"] is not None:
            fitted = {name: value.numpy() for name, value in select_prefix("scores.", tensors).items()}
            detector = Detector.from_state(values["detector"], fitted, recipe.ood.scores)
        sampling_model = _replace_mixtures(model, select_prefix("source.", tensors))
        facts, labelled = dict(values["facts"]), tensors.get("rows.labelled")
        rows = None if labelled is None else labelled.numpy().view(np.uint64)
        arrays = {name: value.numpy() for name, value in select_prefix("held_out.", tensors).items()}
        held_out = (
            HeldOutLabels.restore(arrays, len(class_names)) if arrays else HeldOutLabels.concatenate([])
        )
        model.eval()
        return cls(
            recipe, preprocessor, model, class_names, facts, members, detector, sampling_model, rows, held_out
        )


@torch.no_grad()
def encode(model: Model, x: Tensor) -> Latents:
    """Map preprocessed rows `(N, D)` to latents, in chunks; the latents are on the CPU."""
    device = model.temperature.device
    slices = list(iterate_batches(len(x), chunk_rows(x.shape[1], model))) or [slice(0)]
    chunks: list[Latents] = [model(x[part].to(device)) for part in slices]
    odds = [chunk.unknown_log_odds.cpu() for chunk in chunks if chunk.unknown_log_odds is not None]
    return Latents(
        torch.cat([chunk.z.cpu() for chunk in chunks]),
        torch.cat([chunk.log_det.cpu() for chunk in chunks]),
        torch.cat([chunk.class_log_prob.cpu() for chunk in chunks]),
        torch.cat(odds) if odds else None,
    )


@torch.no_grad()
def score_inputs(
    model: Model, x: Tensor, log_det: Tensor, *, latents: Latents | None = None, images: Tensor | None = None
) -> ScoreInputs:
    """Compute the inputs of scores for preprocessed rows `(N, D)` with their `latents`.

    `log_det` are the log-determinants of the transforms, `(N,)`.
    """
    latents = encode(model, x) if latents is None else latents
    log_density = latents.log_prob().double() + log_det
    return ScoreInputs(x, latents, model.log_posterior(latents), log_density, images)


def chunk_rows(features: int, model: Model | None = None) -> int:
    """Return the number of rows of a chunk; fewer of wide rows, of which convolutions keep many numbers.

    With the densities of a `model` there are also fewer with thousands of components.
    """
    components = max((len(part.mixture.means) for part in model.parts), default=0) if model else 0
    return min(_CHUNK_ROWS, max(64, _CHUNK_ENTRIES // max(1, features, components // 4)))


def build_model(
    recipe: Recipe,
    members: Sequence[Member] = (Member(),),
    *,
    shape: tuple[int, ...],
    classes: int,
    unknown: int = 0,
) -> Model:
    """Build the model of a recipe with initial weights, to load trained ones into.

    `unknown` is the number of unknown kinds.
    """
    models = []
    for member in members:
        # a change of a regulariser that is not installed any more does not matter
        changes = {key: value for key, value in member.changes.items() if key.split(".")[0] in _MODEL_KEYS}
        varied = vary(recipe, changes) if changes else recipe
        flow = build_flow(varied.flow, shape, torch.Generator().manual_seed(0))
        mixture = build_mixture(varied.prior, flow, shape, classes=classes)
        head = UnknownHead(math.prod(shape), classes=classes, count=unknown) if unknown else None
        models.append(FlowMixture(flow, mixture, head))
    return models[0] if len(models) == 1 else Ensemble(models)


def build_flow(component: Component, shape: tuple[int, ...], generator: torch.Generator) -> torch.nn.Module:
    """Build a flow of rows `(D,)` or `(channels, height, width)`; one of images is wrapped as one of vectors.

    Raises:
        RecipeError: the flow takes images, and the rows are vectors.
    """
    accepts = registry().spec(FlowSpec, component.use).accepts
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
    initial: InitialMeans | None = None,
    weights: Tensor | None = None,
) -> GaussianMixture:
    """Build the mixture of a flow's latents; see `flowgmm_cli.mixture.build`."""
    mixture: GaussianMixture = build(
        component,
        classes=classes,
        features=math.prod(shape),
        scales=latent_sizes(flow),
        initial=initial,
        weights=weights,
    )
    return mixture


def _replace_mixtures(model: Model, tensors: Mapping[str, Tensor]) -> Model | None:
    """Return the flows of a model with the mixtures of a state dict; None for an empty one."""
    if not tensors:
        return None
    parts = []
    for index, part in enumerate(model.parts):
        mixture = copy.deepcopy(part.mixture)
        load_strictly(mixture, select_prefix(f"{index}.", tensors))
        parts.append(FlowMixture(part.flow, mixture, part.head))
    return parts[0] if len(parts) == 1 else Ensemble(parts)
