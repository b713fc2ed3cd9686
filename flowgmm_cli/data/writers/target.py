"""Destination of an output table: a file, a device, a named pipe or standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flowgmm_cli.errors import UsageError
from flowgmm_cli.files import atomic_write


@dataclass(frozen=True)
class Target:
    """Destination of bytes: a file, device or named pipe, or standard output if `path` is None."""

    name: str
    path: Path | None = None

    @property
    def is_stream(self) -> bool:
        """True for a destination that cannot be replaced: standard output, a device, a named pipe."""
        return self.path is None or (self.path.exists() and not self.path.is_file())

    @property
    def temporary_folder(self) -> Path | None:
        """Folder for temporary files while the output is written; None for the system's own."""
        return None if self.path is None or self.is_stream else self.path.parent

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the destination for writing, as a context manager.

        A file is replaced when the block succeeds and stays unchanged after an error. Bytes sent to a stream
        cannot be taken back.
        """
        if self.path is None:
            sys.stdout.flush()
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        elif self.is_stream:
            with self.path.open("wb") as stream:
                yield stream
        else:
            with self._open_file(self.path) as stream:
                yield stream

    @contextmanager
    def _open_file(self, path: Path) -> Iterator[BinaryIO]:
        folder = path.parent
        if not folder.is_dir():
            raise UsageError(
                f"{self.name} cannot be written: there is no folder {folder}", hint=f"mkdir -p '{folder}'"
            )
        with ExitStack() as stack:
            try:
                stream = stack.enter_context(atomic_write(path))
            except PermissionError:
                raise UsageError(
                    f"{self.name} cannot be written: the folder {folder} is read-only for you",
                    hint="name a file in another folder",
                ) from None
            yield stream


def parse_target(where: str) -> Target:
    """Return the target of a command-line argument: a path, or `-` for standard output.

    A symbolic link is followed, so the file that it points to is replaced and not the link.
    """
    if where == "-":
        return Target("stdout")
    path = Path(where)
    if path.is_dir():
        raise UsageError(f"{where} is a folder", hint=f"name a file in it, such as {path / 'out.csv'}")
    is_device = path.exists() and not path.is_file()
    return Target(where, path if is_device else Path(os.path.realpath(where)))
