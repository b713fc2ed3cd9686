"""One exception class for each documented exit code.

A message says what happened and where; `details` lists single problems, one a line; `hint` is the next
step. Only `flowgmm_cli.__main__` turns these into text and exit codes.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_FULL = dict.fromkeys((errno.ENOSPC, getattr(errno, "EDQUOT", -1)), "the disk is full")
_FULL[errno.EFBIG] = "a file would be too large"


class FlowgmmError(Exception):
    """Base of all errors a user can act on.

    Args:
        message: what happened, where and why; one or two lines, no trailing full stop needed.
        details: single findings shown under the message, one a line.
        hint: the next step, shown after `hint:`.
    """

    exit_code = 1

    def __init__(self, message: str, *, details: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.hint = hint


class RunFailedError(FlowgmmError):
    """The run itself failed: NaN, out of memory, disk full."""

    exit_code = 1


class UsageError(FlowgmmError):
    """The command line does not make sense."""

    exit_code = 2


class RecipeError(FlowgmmError):
    """The recipe is invalid; `details` holds every problem found."""

    exit_code = 3


class PluginError(FlowgmmError):
    """A component is missing, ambiguous, broken or incompatible."""

    exit_code = 4


class DataError(FlowgmmError):
    """Data is missing or malformed."""

    exit_code = 5


class RunError(FlowgmmError):
    """A run directory or checkpoint cannot be used."""

    exit_code = 6


class GateError(FlowgmmError):
    """A gate such as `--fail-under` was not met."""

    exit_code = 7


class InterruptedRunError(FlowgmmError):
    """Stopped by the user after the state was saved."""

    exit_code = 130


class LostProcessError(FlowgmmError):
    """Another process of the run has ended; its own message names the cause."""

    exit_code = 1


def describe_full_disk(error: BaseException) -> str | None:
    """Return a sentence about an error because a file has no room, with its name; None for another error.

    >>> describe_full_disk(OSError(errno.ENOSPC, "full", "a.csv"))
    'the disk is full while writing a.csv'
    """
    if not isinstance(error, OSError) or error.errno not in _FULL:
        return None
    return _FULL[error.errno] + (f" while writing {error.filename}" if error.filename else "")


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return `; did you mean `x`?` for the nearest allowed name, or an empty string.

    >>> did_you_mean("layer", ["layers", "hidden"])
    '; did you mean `layers`?'
    >>> did_you_mean("zzz", ["layers"])
    ''
    """
    near = get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""
