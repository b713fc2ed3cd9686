"""Where an answer goes: a file that appears whole or not at all, a device or pipe, or stdout."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import BinaryIO

from flowgmm_cli.errors import UsageError


class Target(ABC):
    """A place for bytes.

    Attributes:
        name: what messages call it.
        stream: open between `open` and `commit` or `discard`.
        scratch: folder for files that are needed while the answer is made; None for the system's own.
    """

    name: str
    stream: BinaryIO
    scratch: Path | None = None

    @abstractmethod
    def open(self) -> None:
        """Make `stream`; what cannot be written is found out here, before any work."""

    @abstractmethod
    def commit(self) -> None:
        """The answer is complete."""

    @abstractmethod
    def discard(self) -> None:
        """The answer will not be completed; leave nothing behind."""


class FileTarget(Target):
    """A file: written under a temporary name in its folder and renamed at the end.

    A link is followed, so that the file it names is replaced and not the link.
    """

    def __init__(self, where: str) -> None:
        self.name = where
        self._path = Path(os.path.realpath(where))
        self._temporary: Path | None = None

    def open(self) -> None:
        """Make the temporary file.

        Raises:
            UsageError: there is no such folder, or nothing can be written in it.
        """
        folder = self._path.parent
        if not folder.is_dir():
            raise UsageError(
                f"{self.name} cannot be written: there is no folder {folder}", hint=f"mkdir -p '{folder}'"
            )
        try:
            handle, name = tempfile.mkstemp(dir=folder, prefix=f".{self._path.name[:100]}.", suffix=".tmp")
        except PermissionError:
            raise UsageError(
                f"{self.name} cannot be written: the folder {folder} is read-only for you",
                hint="name a file in another folder",
            ) from None
        self._temporary, self.scratch = Path(name), folder
        self.stream = os.fdopen(handle, "wb", buffering=1 << 20)

    def commit(self) -> None:
        """Give the file its name, replacing what had it."""
        self.stream.close()
        if self._temporary is not None:
            mask = os.umask(0)
            os.umask(mask)
            self._temporary.chmod(0o666 & ~mask)
            self._temporary.replace(self._path)
            self._temporary = None

    def discard(self) -> None:
        """Remove the temporary file; an older file of the name stays as it was."""
        with contextlib.suppress(OSError):  # what could not be flushed is not wanted any more
            self.stream.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None


class DeviceTarget(Target):
    """A named pipe or a device such as `/dev/null`: there already, and never replaced."""

    def __init__(self, where: str) -> None:
        self.name = where

    def open(self) -> None:
        """Open it for writing."""
        self.stream = Path(self.name).open("wb")  # noqa: SIM115

    def commit(self) -> None:
        """Write what is left."""
        self.stream.close()

    def discard(self) -> None:
        """Stop; what has been written cannot be taken back."""
        with contextlib.suppress(OSError):
            self.stream.close()


class StdoutTarget(Target):
    """Standard output; what has been written cannot be taken back."""

    name = "stdout"

    def open(self) -> None:
        """Take its bytes."""
        sys.stdout.flush()
        self.stream = sys.stdout.buffer

    def commit(self) -> None:
        """Write what is left; stdout stays open."""
        self.stream.flush()

    def discard(self) -> None:
        """Nothing can be done."""


def find_target(where: str) -> Target:
    """The target that a word of the command line means.

    Raises:
        UsageError: it is a folder.
    """
    if where == "-":
        return StdoutTarget()
    path = Path(where)
    if path.is_dir():
        raise UsageError(f"{where} is a folder", hint=f"name a file in it, such as {path / 'out.csv'}")
    if path.exists() and not path.is_file():
        return DeviceTarget(where)
    return FileTarget(where)
