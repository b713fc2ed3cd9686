"""Files that are either whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from flowgmm_cli.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

_HINT = "the file is cut short, gone, or made by another program; train again or use another run"


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Replace `path` by what the block writes; on any failure the old file stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`; on any failure the old file stays as it was."""
    with writing(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`, UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value`; NaN and infinities are refused, as JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object. Raises `RunError`, naming it as `what`, if there is none."""
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
    """Save named tensors with text metadata as one safetensors file."""
    from safetensors.torch import save

    # Bytes first, so that a full disk is an ordinary OSError of ours and not the serialiser's.
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # Of a header that is quite empty, safetensors cannot read what it wrote.
    words = dict(metadata or {}) or ({} if contiguous else {"tensors": "none"})
    write_bytes(path, save(contiguous, words))


def read_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: (tensors, metadata).

    Raises:
        RunError: the file is missing, cut short, or something else altogether.
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
