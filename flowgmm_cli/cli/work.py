"""What commands that work on data share: the surroundings they give to sources and encoders."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowgmm_cli.api import DataContext
    from flowgmm_cli.cli.console import Report
    from flowgmm_cli.runs import Run


def data_context(progress: Report, *, offline: bool) -> DataContext:
    """Surroundings of sources and encoders: caches, the network, and what they may say."""
    from flowgmm_cli.api import DataContext
    from flowgmm_cli.cli import console
    from flowgmm_cli.data.cache import user_cache_dir

    return DataContext(offline=offline, cache_dir=str(user_cache_dir()), progress=progress, note=console.note)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Where a file that the user asked for cannot be written, it is the user who can name another place."""
    from flowgmm_cli.errors import UsageError

    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # no fault of the place; told by `__main__`
            raise
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}", hint="name a file in another folder"
        ) from error


def chosen_run(argument: str | None, flag: str | None) -> Run:
    """The run a command means; which one was taken is said on stderr."""
    from flowgmm_cli.cli import console
    from flowgmm_cli.errors import UsageError
    from flowgmm_cli.runs import find_run

    if argument and flag and argument != flag:
        raise UsageError(f"two runs were named: {argument} and {flag}", hint="name one of them")
    run, how = find_run(argument or flag)
    console.note(f"run     {run.path} ({how})")
    return run
