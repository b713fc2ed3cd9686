"""The files of a model, `model.json` and `model.safetensors`, checked before anything is built from them.

A run may come from a stranger, from a copy that was cut short, or from a disk that lies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flowgmm_cli.errors import RunError
from flowgmm_cli.files import file_digest, read_json, read_tensors, write_json, write_tensors
from flowgmm_cli.model_schema import ModelInfo

FORMAT = "flowgmm/model/1"
_WEIGHTS, _VALUES = "model.safetensors", "model.json"
_HINT = "train again, or use another run"
# memory for the initial weights of a model and the steps to them, beyond a multiple of the file
_SPARE_BYTES, _SPARE_TENSORS, _SPARE_NUMBERS = 2**28, 10_000, 2**20
_FACTOR = 32


def write_model(folder: Path, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write `model.safetensors`, then `model.json` with its digest, which completes the model."""
    digest = write_tensors(folder / _WEIGHTS, tensors, {"format": FORMAT})
    write_json(folder / _VALUES, {"format": FORMAT, **values, "weights": {"sha256": digest}})


def read_model(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the values and tensors of `write_model`.

    Raises:
        RunError: a file is missing, damaged, of another format or of another model.
    """
    values = read_json(folder / _VALUES, "model")
    tensors, metadata = read_tensors(folder / _WEIGHTS, "model")
    for file_format in (values.get("format"), metadata.get("format")):
        if file_format != FORMAT:
            raise RunError(
                f"{folder} holds a model in the format {file_format!r}, this version reads {FORMAT!r}",
                hint="train again, or use the version of flowgmm-cli named in run.json",
            )
    values = read_json(folder / _VALUES, "model", schema=ModelInfo)
    stored = (values.get("weights") or {}).get("sha256")
    if stored not in (None, file_digest(folder / _WEIGHTS)):
        raise RunError(
            f"the model in {folder} is damaged: {_WEIGHTS} is not the file that {_VALUES} was written with",
            hint=f"copy both files again from where the run was trained; or {_HINT}",
        )
    _require_numbers(folder, tensors)
    if size := _describe_excess(values, tensors):
        raise _too_large(folder, size)
    return values, tensors


def _describe_excess(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str | None:
    """Return a size in `model.json` that is too large for the tensors; None if all are possible."""
    preprocessor = values["preprocessor"]
    encoders = preprocessor["featuriser"]["blocks"]
    shapes = [math.prod(encoder["column"]["shape"]) for encoder in encoders]
    sizes = [size for encoder in encoders if isinstance(size := encoder["values"].get("size"), int)]
    # a flow has weights for each of its inputs
    width = max(sum(shapes), sum(sizes), values["features"], *preprocessor["widths"])
    if width > _SPARE_NUMBERS + sum(tensor.numel() for tensor in tensors.values()):
        return f"rows of {width:,} numbers"
    members = len(values["members"])
    return f"{members:,} members" if members > len(tensors) else None


def _too_large(folder: Path, size: str) -> RunError:
    return RunError(
        f"the model in {folder} is damaged: {_VALUES} describes {size}, more than {_WEIGHTS} has weights for",
        hint=_HINT,
    )


def _require_numbers(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise `RunError` for a dtype that flowgmm does not write, or a weight that is NaN or infinite.

    Some layers would turn NaN into a number.
    """
    for name, tensor in tensors.items():
        is_weight = name.startswith(("model.", "source.")) and tensor.is_floating_point()
        if tensor.is_complex() or tensor.dtype == torch.bfloat16:
            problem = f"{name} is {tensor.dtype}"
        elif is_weight and (count := int((~tensor.isfinite()).sum())):
            problem = f"{count:,} of {tensor.numel():,} numbers of {name} are NaN or infinite"
        else:
            continue
        raise RunError(f"the model in {folder} is damaged: {problem}", hint=_HINT)


@contextmanager
def limit_allocations(folder: Path, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Raise `RunError` if a model that is built in the block takes many times the memory of its weights."""
    size = _FACTOR * sum(tensor.nbytes for tensor in tensors.values()) + _SPARE_BYTES
    with _AllocationLimit(size, _FACTOR * len(tensors) + _SPARE_TENSORS, _too_large(folder, "layers")):
        yield


class _AllocationLimit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the tensors that operations return, and stops before one that is beyond the limits.

    Args:
        size: bytes of all together.
        count: number of all together.
        error: error to raise beyond them.
    """

    def __init__(self, size: int, count: int, error: RunError) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._size, self._count, self._error = size, count, error

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count the result of an operation."""
        kwargs = kwargs or {}
        if any(argument.name == "device" for argument in func._schema.arguments):  # it creates a tensor
            numbers = next((value for value in args if isinstance(value, list | tuple)), ())
            if func._schema.name in ("aten::arange", "aten::eye", "aten::randperm"):
                numbers = args
            if all(isinstance(number, int) for number in numbers):
                self._take(math.prod(max(number, 1) for number in numbers))
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            self._take(result.nbytes)
        return result

    def _take(self, size: int) -> None:
        self._size, self._count = self._size - size, self._count - 1
        if self._size < 0 or self._count < 0:
            raise self._error
