"""Weights of a model, from a file or the network."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from flowgmm_cli.api import DataError, RecipeError

_WRAPPERS = ("state_dict", "model", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.")


def digest(file: Path) -> str:
    """A digest of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def local_file(given: str) -> Path:
    """The file of weights that a recipe names.

    Raises:
        DataError: it is not there.
    """
    file = Path(given).expanduser()
    if not file.is_file():
        raise DataError(
            f"no such file of weights: {given}",
            hint="check data.weights: a file, `download` or `random`",
        )
    return file


def read_state(file: Path) -> dict[str, Tensor]:
    """Read a state dict; nothing in the file is carried out.

    Raises:
        DataError: the file holds anything else.
    """
    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(
            f"{file} holds no weights that can be read: {_first_line(error)}",
            hint="save the state dict alone, best as safetensors",
        ) from error
    except Exception as error:  # safetensors has an error of its own
        raise DataError(f"{file} cannot be read: {_first_line(error)}", hint="the file is damaged") from error
    for name in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{file} holds no state dict", hint="save model.state_dict(), best as safetensors")
    state = {str(name): value for name, value in state.items()}
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def load_state(model: nn.Module, state: Mapping[str, Tensor], head: Sequence[str], where: str) -> None:
    """Load weights into a model whose last layer is gone.

    Args:
        model: the model.
        state: its weights, those of the last layer or another one in its place included or not.
        head: names of the last layer.
        where: what to call the weights in messages.

    Raises:
        DataError: they are those of another model.
    """
    kept = {name: value for name, value in state.items() if not _below(name, head)}
    own = model.state_dict()
    missing = sorted(set(own) - set(kept))
    foreign = sorted(set(kept) - set(own))
    other = sorted(name for name in set(own) & set(kept) if own[name].shape != kept[name].shape)
    # counters of batch norm are of no account, and old files lack them
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    problems = [f"missing: {name}" for name in missing] + [f"unknown: {name}" for name in foreign]
    problems += [f"{name}: {tuple(kept[name].shape)}, not {tuple(own[name].shape)}" for name in other]
    if problems:
        raise DataError(
            f"{where} holds the weights of another model",
            details=[*problems[:8], *([f"and {len(problems) - 8} more"] if len(problems) > 8 else [])],
            hint="check data.library and data.model",
        )
    model.load_state_dict(kept, strict=False)


def _below(name: str, modules: Sequence[str]) -> bool:
    return any(name == value or name.startswith(f"{value}.") for value in modules)


def download_torchvision(url: str, *, offline: bool) -> Path:
    """Weights of torchvision, from torch's folder of downloads if they are there.

    Raises:
        DataError: they are not, and the run is offline or the network fails.
    """
    name = url.rpartition("/")[2]
    file = Path(torch.hub.get_dir(), "checkpoints", name)
    if file.is_file():
        return file
    _refuse_offline(offline, f"{name} is not in {file.parent}")
    stem = name.partition(".")[0].rpartition("-")[2]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=stem, progress=False)
    except (OSError, RuntimeError) as error:
        raise _download_error(name, error) from error
    return file


def download_timm(repository: str | None, *, offline: bool) -> Path:
    """Weights of timm, from the cache of the Hugging Face hub if they are there.

    Raises:
        DataError: they are not, and the run is offline or the network fails.
        RecipeError: there are no pretrained weights.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if not repository:
        raise RecipeError("data.weights  timm has no pretrained weights for this model", hint="name a file")
    cached = try_to_load_from_cache(repository, "model.safetensors")
    if isinstance(cached, str) and os.path.isfile(cached):  # noqa: PTH113 - it is a string as it comes
        return Path(cached)
    _refuse_offline(offline, f"{repository} is not in the cache of the Hugging Face hub")
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except Exception as error:  # of the hub, of the libraries below it
        raise _download_error(repository, error) from error


def _refuse_offline(offline: bool, what: str) -> None:
    if offline:
        raise DataError(
            f"{what}, and this run is offline",
            hint="run it once with the network, or name a file: data.weights=FILE",
        )


def _download_error(what: str, error: Exception) -> DataError:
    return DataError(
        f"{what} cannot be downloaded: {_first_line(error)}",
        hint="check the network, or name a file: data.weights=FILE",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
