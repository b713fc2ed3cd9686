"""Source `image_features`: folders of images, as vectors of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from flowgmm_cli.api import Column, DataContext, DataError, RecipeError, Rows, RunFailedError, SourceData
from flowgmm_vision.cache import Cache, Vector, digest
from flowgmm_vision.images import ImageFile, decode, list_images, natural_key
from flowgmm_vision.models import Model, make_model

if TYPE_CHECKING:
    from flowgmm_vision.plugin import ImageFeaturesConfig

_KEEP_EVERY = 1024  # new vectors between two writes of the cache


class ImageFeaturesSource:
    """Images of the training rows, and of other splits, each a vector."""

    def __init__(self, config: ImageFeaturesConfig, context: DataContext) -> None:
        self._config = config
        self._context = context

    def load(self) -> SourceData:
        """List the images, and encode those that are not in the cache."""
        config = self._config
        given = {"train": config.path, "val": config.val_path, "test": config.test_path}
        listed = {
            split: list_images(path, config.unlabelled) for split, path in given.items() if path is not None
        }
        vectors, notes = self._encode([image for images in listed.values() for image in images])
        listed = {
            split: [image for image in images if image.file in vectors] for split, images in listed.items()
        }  # fmt: skip
        labels = {image.label for images in listed.values() for image in images if image.label is not None}
        names = sorted(labels, key=natural_key)
        code = {None: -1} | {name: index for index, name in enumerate(names)}
        splits = {}
        for split, images in listed.items():
            if not images:
                raise DataError(f"no image of `{split}` can be read", hint="write the images again")
            splits[split] = Rows(
                columns={"embedding": np.stack([vectors[image.file] for image in images])},
                labels=np.array([code[image.label] for image in images], dtype=np.int64),
                ids=np.array([f"{split}:{image.name}" for image in images], dtype=object),
            )
        dim = splits["train"].columns["embedding"].shape[1]
        return SourceData((Column("embedding", "vector", (dim,)),), tuple(names), splits, notes)

    def _encode(self, images: Sequence[ImageFile]) -> tuple[Mapping[object, Vector], tuple[str, ...]]:
        """Return the vector of each file that can be read, and notes about the others."""
        config, context = self._config, self._context
        model = make_model(config, context)
        cache = Cache(context, model.key)
        known = cache.read()
        fresh: dict[bytes, Vector] = {}
        encoded: dict[object, Vector] = {}
        bad: list[str] = []
        device = _device(config.device)
        network = model.network.to(device)
        with ThreadPoolExecutor(config.workers) as pool:
            for start in range(0, len(images), config.batch_size):
                context.progress(start, len(images), "encoding images")
                batch = images[start : start + config.batch_size]
                contents = list(pool.map(lambda image: image.file.read_bytes(), batch))
                keys = [digest(content) for content in contents]
                needed = {key: at for at, key in enumerate(keys) if key not in known}
                tensors = pool.map(partial(_load_tensor, model), [contents[at] for at in needed.values()])
                seen = dict(zip(needed, tensors, strict=True))
                good = {key: tensor for key, tensor in seen.items() if isinstance(tensor, Tensor)}
                if good:
                    new_vectors = dict(zip(good, _run(network, list(good.values()), device), strict=True))
                    known |= new_vectors
                    fresh |= new_vectors
                for key, image in zip(keys, batch, strict=True):
                    if key in known:
                        encoded[image.file] = known[key]
                    else:
                        bad.append(f"{image.file}: {seen[key]}")
                if len(fresh) >= _KEEP_EVERY:
                    cache.write(fresh)
                    fresh = {}
        cache.write(fresh)
        context.progress(len(images), len(images), "encoding images")
        if bad and config.unreadable == "error":
            raise DataError(
                f"{len(bad)} of {len(images):,} images cannot be read",
                details=bad[:8],
                hint="remove or replace them, or go without: data.unreadable=skip",
            )
        note = f"{len(bad)} images cannot be read and are left out, such as {bad[0]}" if bad else ""
        return encoded, (note,) if bad else ()


def _load_tensor(model: Model, content: bytes) -> Tensor | str:
    """Return the model's input of an image, or the error of a damaged image."""
    try:
        return model.transform(decode(content))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0]


def _run(network: torch.nn.Module, images: Sequence[Tensor], device: str) -> npt.NDArray[np.float32]:
    """Return vectors `(N, D)` of images `(3, H, W)`."""
    with torch.inference_mode():
        try:
            out = network(torch.stack(list(images)).to(device))
        except torch.OutOfMemoryError as error:
            raise RunFailedError(
                f"{len(images)} images at a time do not fit the memory of {device}",
                hint="lower data.batch_size",
            ) from error
        except (RuntimeError, AssertionError, ValueError) as error:
            raise RecipeError(
                f"data.image_size  the model does not take these images: {str(error).splitlines()[0]}",
                hint="leave data.image_size out, or choose a larger one",
            ) from error
    vectors: npt.NDArray[np.float32] = out.flatten(1).float().cpu().numpy()
    if not np.isfinite(vectors).all():
        raise DataError("the model gives vectors that are not finite", hint="check data.weights")
    return vectors


def _device(requested: str) -> str:
    """Return the device to run on.

    Raises:
        RecipeError: it does not exist.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if requested == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[requested]:
        raise RecipeError(
            f"data.device  there is no `{requested}` on this machine", hint="leave data.device out"
        )
    return requested


def build(config: ImageFeaturesConfig, context: DataContext) -> ImageFeaturesSource:
    """Build the source."""
    return ImageFeaturesSource(config, context)
