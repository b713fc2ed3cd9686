"""Models that turn images into vectors: a network without its last layer, and its transform of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from flowgmm_cli.api import DataContext, RecipeError
from flowgmm_vision.libraries import import_library
from flowgmm_vision.weights import (
    digest,
    download_timm,
    download_torchvision,
    load_state,
    local_file,
    read_state,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from flowgmm_vision.plugin import ImageFeaturesConfig


@dataclass(frozen=True)
class Model:
    """A network and its transform of images.

    Attributes:
        network: images `(N, 3, H, W)` to vectors `(N, D)`.
        transform: an RGB image to a tensor `(3, H, W)`.
        key: everything but the image that determines its vector.
    """

    network: nn.Module
    transform: Callable[[Image], Tensor]
    key: str


def make_model(config: ImageFeaturesConfig, context: DataContext) -> Model:
    """Build the model of a recipe, with its weights.

    Raises:
        RecipeError: there is no such model.
        DataError: its weights are missing, or those of another model.
        PluginError: the library cannot be used.
    """
    library = import_library(config.library, context.note)
    make = _torchvision if config.library == "torchvision" else _timm
    network, head, transform, fetch = make(library, config, offline=context.offline)
    weights = f"random {config.seed}"
    if config.weights != "random":
        file = fetch() if config.weights == "download" else local_file(config.weights)
        load_state(network, read_state(file), head, str(file))
        weights = digest(file)
    network.eval().requires_grad_(False)
    version = f"{config.library} {library.__version__}, torch {torch.__version__}"
    return Model(network, transform, f"{version}, {config.model}, {weights}, {transform!r}")


_ModelParts = tuple[nn.Module, Sequence[str], Callable[["Image"], Tensor], Callable[[], Path]]


def _torchvision(library: Any, config: ImageFeaturesConfig, *, offline: bool) -> _ModelParts:
    models, name = library.models, config.model
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown("torchvision", name, known)
    best = models.get_model_weights(name).DEFAULT
    transform = best.transforms()
    if config.image_size is not None:
        share = transform.resize_size[0] / transform.crop_size[0]
        size = config.image_size
        transform = best.transforms(crop_size=size, resize_size=max(size, round(size * share)))
    with _seeded(config.seed):
        # without `init_weights` these two warn, and take minutes for numbers of a rare distribution
        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        network = models.get_model(name, weights=None, **options)
    if options and config.weights == "download":
        network.transform_input = True
    head = _last_layer(network, outputs=1000)
    parent, _, attribute = head.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    return network, [head], transform, lambda: download_torchvision(best.url, offline=offline)


def _last_layer(network: nn.Module, *, outputs: int) -> str:
    """Return the name of the classification layer."""
    layers = [
        name
        for name, layer in network.named_modules()
        if (isinstance(layer, nn.Linear) and layer.out_features == outputs)
        or (isinstance(layer, nn.Conv2d) and layer.out_channels == outputs)
    ]
    return str(layers[-1])


def _timm(library: Any, config: ImageFeaturesConfig, *, offline: bool) -> _ModelParts:
    name = config.model
    if not library.is_model(name):
        raise _unknown("timm", name, library.list_models())
    with _seeded(config.seed):
        network = library.create_model(name, pretrained=False, num_classes=0)
    about = network.pretrained_cfg
    settings = library.data.resolve_model_data_config(network)
    if config.image_size is not None:
        settings["input_size"] = (3, config.image_size, config.image_size)
    if settings["input_size"][0] != 3:
        raise RecipeError(f"data.model  {name} sees images of {settings['input_size'][0]} channels, not 3")
    transform = library.data.create_transform(**settings, is_training=False)
    head = about.get("classifier") or ()
    names = [head] if isinstance(head, str) else list(head)
    return network, names, transform, lambda: download_timm(about.get("hf_hub_id"), offline=offline)


def _unknown(library: str, name: str, known: Sequence[str]) -> RecipeError:
    near = get_close_matches(name, known, n=3, cutoff=0.6)
    meant = f"; did you mean {' or '.join(f'`{match}`' for match in near)}?" if near else ""
    return RecipeError(
        f"data.model  {library} has no model `{name}` for whole images{meant}",
        hint=f"python -c 'import {library}' and its list_models() say which there are",
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed new weights; the process's random numbers are restored."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
