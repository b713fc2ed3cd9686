"""Files that the user named for output, and results beside a run that is read-only."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flowgmm_cli.errors import UsageError, describe_full_disk
from flowgmm_cli.files import atomic_write


def require_writable(path: Path) -> None:
    """Raise `UsageError` if the user's file `path` cannot be written; nothing stays behind."""
    with explain_write_errors(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        with suppress(_UnwrittenError), atomic_write(path):
            raise _UnwrittenError


class _UnwrittenError(Exception):
    """Ends a trial of writing a file."""


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Raise `UsageError` if a file that the user named cannot be written."""
    try:
        yield
    except OSError as error:
        if describe_full_disk(error):  # another file name would not help
            raise
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}", hint="name a file in another folder"
        ) from error


@contextmanager
def allow_read_only(folder: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Call `warn` if a result cannot be written because the run in `folder` is read-only."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        warn(f"the result is not kept in {folder}, which is read-only ({error.strerror})")
