"""Run the command line; the only module that turns errors into text and exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowgmm_cli.errors import FlowgmmError


def main() -> None:
    """Run the command line and exit.

    Exit codes: 0 ok · 1 the run failed · 2 usage · 3 recipe invalid · 4 plugin missing, ambiguous, broken or
    incompatible · 5 data missing or malformed · 6 run or checkpoint unusable · 7 gate not met · 130
    interrupted.
    """
    # OpenMP threads spin for milliseconds while they wait for each other, which makes torch many times slower
    # on a busy machine; a short spin costs next to nothing on an idle one.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # pydantic and torch would read the entry points of all installed distributions for plugins that flowgmm
    # does not use, and a malformed file of any distribution would stop both
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed (`>&-`): the next file would take its number
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names need not be printable
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run())


def _run() -> int:
    try:
        from flowgmm_cli.cli.app import app

        with _exit_on_signals():
            app()
        code = 0
    except SystemExit as stop:
        code = _exit_code(stop)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        code = 0
    except Exception as error:
        code = _report(error)
    return _flush(code)


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block like an error, so that no half-written file is left behind.

    Training has handlers of its own. A signal that is ignored, as `nohup` does, stays ignored.
    """

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _report(error: Exception) -> int:
    """Print an error and return its exit code."""
    from flowgmm_cli.cli import output

    output.print_traceback(error)
    message = _explain(error)
    if message is None:
        output.print_bug(error)
        return 1
    output.print_error(message)
    return message.exit_code


def _explain(error: Exception) -> FlowgmmError | None:
    """Return an error that a user can act on; None for a bug in flowgmm."""
    from flowgmm_cli.errors import FlowgmmError, RunFailedError, UsageError, describe_full_disk
    from flowgmm_cli.messages import shorten

    rename = "give the file or folder another name"
    if isinstance(error, FlowgmmError):
        return error
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return UsageError(f"the name `{shorten(error.filename)}` is too long", hint=rename)
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return UsageError(f"the name `{shorten(error.object)}` is not UTF-8 text", hint=rename)
    if isinstance(error, ValueError) and str(error) == "embedded null byte":
        return UsageError("a name holds the character NUL", hint=rename)
    if isinstance(error, MemoryError):
        return RunFailedError("out of memory", hint="try a smaller train.batch_size, or fewer rows")
    if full := describe_full_disk(error):
        return RunFailedError(full, hint="free some space, then run the command again")
    if isinstance(error, OSError) and error.errno == errno.EIO:
        return RunFailedError(f"a file cannot be read or written: {error.strerror}", hint="check the disk")
    if isinstance(error, OSError) and error.filename and error.strerror:
        hint = "check that the path is right and can be written"
        return RunFailedError(f"{error.filename}: {error.strerror}", hint=hint)
    return _explain_metadata(error)


def _explain_metadata(error: Exception) -> FlowgmmError | None:
    """Name the distributions whose metadata a library, such as scikit-learn, cannot read."""
    import traceback

    from flowgmm_cli.errors import PluginError
    from flowgmm_cli.plugins.discovery import discover

    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    if not any(file.parts[-3:-1] == ("importlib", "metadata") for file in files):
        return None
    return PluginError(
        f"a library cannot read the metadata of an installed distribution: {error}",
        details=discover().problems,
        hint="reinstall the distribution, or uninstall it",
    )


def _exit_code(stop: SystemExit) -> int:
    # Typer exits with 1 when a reader such as `head` closes the pipe, which is no failure
    if stop.code is None or isinstance(stop.__context__, BrokenPipeError):
        return 0
    return stop.code if isinstance(stop.code, int) else 1


def _flush(code: int) -> int:
    """Flush stdout; a closed pipe is no error, a full disk is one."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # the interpreter flushes stdout again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code if isinstance(error, BrokenPipeError) else code or _report(error)
    return code


if __name__ == "__main__":
    main()
