"""Atomic files: written under a temporary name, then renamed, so that a file is whole or absent.

A process that is killed leaves its temporary file behind. The name holds its number, so that the next process
that writes to the folder can remove it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from flowgmm_cli.errors import RunError
from flowgmm_cli.processes import host_digest, is_alive, start_time

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydantic import BaseModel
    from torch import Tensor
    from torch.nn import Module

Item = TypeVar("Item")

MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, RuntimeError, ValueError)
"""Errors of code that restores an object from values of a damaged file."""

_METADATA, _CHECKSUM = "__metadata__", "crc32"
_TEMPORARY = re.compile(r"\..*\.([0-9a-f]{6})-([0-9]+)-([0-9]+)-[0-9a-f]{8}\.tmp")
_ABANDONED = 24 * 3600  # seconds since the last change of a temporary file of another machine
_MAX_LISTED = 8
_MAX_JSON = 2**30  # bytes; flowgmm writes no larger file
_HINT = "the file is truncated, missing or written by another program; train again or use another run"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block succeeds.

    If the block raises an error, the temporary file and new folders are removed and the old file stays
    unchanged. The new file has the permissions of any new file, as the umask sets them.
    """
    with _make_parents(path):
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


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Make a temporary folder that becomes `path`, a new folder, when the block succeeds.

    If the block raises an error, the temporary folder and new parents are removed.
    """
    with _make_parents(path):
        temporary = temporary_path(path)
        temporary.mkdir()
        try:
            yield temporary
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


@contextmanager
def _make_parents(path: Path) -> Iterator[None]:
    """Make the folders above `path`, and remove the new ones after an error."""
    new_folders = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, f"{path.parent} is not a folder") from None
    try:
        yield
    except BaseException:
        with suppress(OSError):  # another process has written to the folder
            for folder in new_folders:
                folder.rmdir()
        raise


def temporary_path(path: Path) -> Path:
    """Return a new name beside `path`, for a file or folder that will replace it.

    What processes that are gone have left in the folder is removed, once a process.
    """
    folder = path.parent
    remove_leftovers(folder.absolute())
    owner = f"{host_digest()}-{os.getpid()}-{start_time(os.getpid())}"
    name = os.fsencode(path.name)[:100].decode(errors="ignore")  # file systems limit names to 255 bytes
    return folder / f".{name}.{owner}-{secrets.token_hex(4)}.tmp"


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


def read_json(
    path: Path, what: str, *, schema: type[BaseModel] | None = None, max_bytes: int = _MAX_JSON
) -> dict[str, Any]:
    """Read a JSON object, of numbers that JSON can represent.

    Raises:
        RunError: the file is missing, too large, holds no JSON object, or its values do not fit the `schema`;
            the message calls it `what`, and `details` name the values.
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
    if schema is not None:
        _validate(value, schema, path, what)
    return value


def _validate(value: dict[str, Any], schema: type[BaseModel], path: Path, what: str) -> None:
    from pydantic import ValidationError

    try:
        schema.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        details = [_describe(problem) for problem in problems[:_MAX_LISTED]]
        details += [f"and {len(problems) - _MAX_LISTED} more"] if len(problems) > _MAX_LISTED else []
        raise RunError(
            f"{what} is damaged: {path} has values of other types", details=details, hint=_HINT
        ) from None


def _describe(problem: Any) -> str:
    key, message, given = ".".join(map(str, problem["loc"])), problem["msg"], repr(problem["input"])
    given = given if len(given) <= 40 else f"{given[:40]}…"
    return f"{key}: {message[0].lower()}{message[1:]}, it is {given}"


def load_json(data: bytes) -> Any:
    """Read JSON in UTF-8, without NaN, infinities and numbers of more than 64 bits.

    Raises:
        ValueError: it is malformed, or nested too deeply.
    """
    try:
        return json.loads(
            data.decode("utf-8"), parse_constant=_parse_float, parse_float=_parse_float, parse_int=_parse_int
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _parse_int(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= (value := int(text)) < 2**64:
        raise ValueError(f"{text[:20]}… has more than 64 bits")
    return value


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def read_npz(path: Path) -> dict[str, NDArray[Any]] | None:
    """Return the arrays of a NumPy (npz) file of our own; None if it is missing or damaged."""
    import numpy as np

    try:
        if not path.is_file():  # a named pipe would never end
            return None
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception:  # of NumPy, zipfile, zlib, struct and tokenize, of a dozen types
        return None


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> str:
    """Replace `path` by a safetensors file of named tensors and text metadata; return its `file_digest`.

    The file has a checksum of its contents. Equal tensors and metadata give equal bytes.
    """
    from safetensors.torch import save

    # Serialise to bytes first: a full disk then raises OSError, not an error of safetensors.
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = save(contiguous)
    start = 8 + int.from_bytes(data[:8], "little")
    header, body = {**json.loads(data[8:start]), _METADATA: dict(metadata or {})}, memoryview(data)[start:]
    header[_METADATA][_CHECKSUM] = _checksum(header, [body])
    text = json.dumps(header, sort_keys=True).encode()  # safetensors itself has no fixed order of metadata
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with atomic_write(path) as file:
        for part in (len(text).to_bytes(8, "little"), text, body):
            file.write(part)
            digest.update(part)
    return digest.hexdigest()


def read_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        RunError: the file is missing, truncated, damaged or of another format; the message calls it `what`.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise RunError(f"{what}: {path} does not exist", hint=_HINT)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _verify_checksum(path)
    except (SafetensorError, OSError, *MALFORMED) as error:
        raise RunError(f"{what}: {path} is not a readable safetensors file ({error})", hint=_HINT) from None
    return tensors, {name: text for name, text in metadata.items() if name != _CHECKSUM}


def _verify_checksum(path: Path) -> None:
    """Raise `ValueError` if a safetensors file does not have its checksum; others than ours have none."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        expected = header.get(_METADATA, {}).pop(_CHECKSUM, None)
        blocks = iter(partial(file.read, 2**20), b"")
        if expected is not None and expected != _checksum(header, blocks):
            raise ValueError("its checksum is wrong")


def _checksum(header: Mapping[str, Any], blocks: Iterable[bytes | memoryview]) -> str:
    total = zlib.crc32(json.dumps(header, sort_keys=True).encode())
    for block in blocks:
        total = zlib.crc32(block, total)
    return f"{total:08x}"


def file_digest(path: Path) -> str:
    """Return the SHA-256 digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def select_prefix(prefix: str, items: Mapping[str, Item]) -> dict[str, Item]:
    """Return the items whose names begin with a prefix, under the rest of their names."""
    return {name.removeprefix(prefix): item for name, item in items.items() if name.startswith(prefix)}


def load_strictly(module: Module, tensors: Mapping[str, Tensor]) -> None:
    """Load a state dict. Raises `RuntimeError` or `ValueError` if names, shapes or dtypes differ."""
    own = module.state_dict()
    for name, tensor in tensors.items():
        if name in own and own[name].dtype != tensor.dtype:  # torch would convert it
            raise ValueError(f"{name} is {tensor.dtype}, not {own[name].dtype}")
    module.load_state_dict(tensors)
