"""Atomic files: written under a temporary name, then renamed, so that a file is whole or absent.

A process that is killed leaves its temporary file behind. The name holds its number, so that the next process
that writes to the folder can remove it.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from flowgmm_cli.errors import RunError
from flowgmm_cli.processes import host_digest, is_alive, start_time

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")

_TEMPORARY = re.compile(r"\..*\.([0-9a-f]{6})-([0-9]+)-([0-9]+)-[0-9a-f]{8}\.tmp")
_ABANDONED = 24 * 3600  # seconds since the last change of a temporary file of another machine
_MAX_JSON = 2**30  # bytes; flowgmm writes no larger file
_HINT = "the file is truncated, missing or written by another program; train again or use another run"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block succeeds.

    If the block raises an error, the temporary file is removed and the old file stays unchanged. The new file
    has the permissions of any new file, as the umask sets them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def temporary_path(path: Path) -> Path:
    """Return a new name beside `path`, for a file or folder that will replace it.

    What processes that are gone have left in the folder is removed, once a process.
    """
    folder = path.parent
    remove_leftovers(folder.absolute())
    owner = f"{host_digest()}-{os.getpid()}-{start_time(os.getpid())}"
    return folder / f".{path.name[:100]}.{owner}-{secrets.token_hex(4)}.tmp"


@cache
def remove_leftovers(folder: Path) -> None:
    """Remove the files and folders of `temporary_path` whose process is gone."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        with suppress(OSError):  # the folder is read-only, or another process removes it as well
            if not _is_abandoned(entry):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                Path(entry.path).unlink()


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    if (match := _TEMPORARY.fullmatch(entry.name)) is None:
        return False
    host, pid, start = match.groups()
    if host == host_digest():
        return not is_alive(int(pid), int(start))
    return entry.stat(follow_symlinks=False).st_mtime < time.time() - _ABANDONED


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`; after an error the old file stays unchanged."""
    with atomic_write(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in UTF-8.

    Bytes of file names and arguments that are no UTF-8 become escapes, in JSON those of the same text.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot represent.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, what: str, *, max_bytes: int = _MAX_JSON) -> dict[str, Any]:
    """Read a JSON object, of numbers that JSON can represent.

    Raises:
        RunError: the file is missing, too large or holds no JSON object; the message calls it `what`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a named pipe would never end
            raise ValueError("it is no file")
        if status.st_size > max_bytes:
            raise ValueError(f"it has {status.st_size:,} bytes")
        value = load_json(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{what}: {path} does not exist", hint=_HINT) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{what}: {path} is not readable JSON ({error})", hint=_HINT) from None
    if not isinstance(value, dict):
        raise RunError(f"{what}: {path} holds no JSON object", hint=_HINT)
    return value


def load_json(data: bytes) -> Any:
    """Read JSON in UTF-8 as the standard has it: without NaN, infinities and numbers that become them.

    Raises:
        ValueError: it is malformed, or nested too deeply.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_parse_float, parse_float=_parse_float)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
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
