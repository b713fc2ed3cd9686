"""Atomic files: written under a temporary name, then renamed, so that a file is whole or absent."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from flowgmm_cli.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")

_HINT = "the file is truncated, missing or written by another program; train again or use another run"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block succeeds.

    If the block raises an error, the temporary file is removed and the old file stays unchanged. The new file
    has the permissions of any new file, as the umask sets them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name[:100]}.{secrets.token_hex(6)}.tmp"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`; after an error the old file stays unchanged."""
    with atomic_write(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot represent.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: the file is missing or holds no JSON object; the message calls it `what`.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{what}: {path} does not exist", hint=_HINT) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{what}: {path} is not readable JSON ({error})", hint=_HINT) from None
    if not isinstance(value, dict):
        raise RunError(f"{what}: {path} holds no JSON object", hint=_HINT)
    return value


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Replace `path` by a safetensors file of named tensors and text metadata."""
    from safetensors.torch import save

    # Serialise to bytes first: a full disk then raises OSError, not an error of safetensors.
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # safetensors cannot read a file that it wrote without tensors and metadata
    texts = dict(metadata or {}) or ({} if contiguous else {"tensors": "none"})
    write_bytes(path, save(contiguous, texts))


def read_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        RunError: the file is missing, truncated or of another format; the message calls it `what`.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise RunError(f"{what}: {path} does not exist", hint=_HINT)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(f"{what}: {path} is not a readable safetensors file ({error})", hint=_HINT) from None
    return tensors, metadata


def select_prefix(prefix: str, items: Mapping[str, Item]) -> dict[str, Item]:
    """Return the items whose names begin with a prefix, under the rest of their names."""
    return {name.removeprefix(prefix): item for name, item in items.items() if name.startswith(prefix)}
