"""Processes that begin with the package imported: forks of a server, which spares them the imports."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

MAIN = "from flowgmm_cli.__main__ import main; main()"
_PRELOADED = (
    "flowgmm_cli.training.pipeline",
    "flowgmm_cli.cli.train",
    "sklearn.covariance",
    "sklearn.datasets",
)
_SETUP = """
import atexit, os, sys
for number, path in enumerate(output, 1):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
os.chdir(folder)
os.environ.clear()
os.environ.update(environ)
sys.argv = ["flowgmm", *words]
import flowgmm_cli.processes
flowgmm_cli.processes._PARENT = os.getppid()  # not the parent of the server, which has imported it
try:
    exec(code, {"__name__": "__main__"})
finally:
    atexit._run_exitfuncs()  # which `multiprocessing` does not in all versions of Python
"""

Words: TypeAlias = str | int | Path


class ForkedProcess:
    """A process that carries out Python code with some words as `sys.argv[1:]`, like `subprocess.Popen`.

    `folder` is that of its output.
    """

    def __init__(
        self,
        code: str,
        *words: Words,
        folder: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        self.output = [folder / f"{name}-of-process" for name in ("stdout", "stderr")]
        values = {
            "code": code,
            "output": [str(path) for path in self.output],
            "folder": str(cwd or Path.cwd()),
            "environ": dict(os.environ if env is None else env),
            "words": [str(word) for word in words],
        }
        self._process = context.Process(target=exec, args=(_SETUP, values))
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for its end, and return what it has written to stdout and stderr."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        out, err = (path.read_text(encoding="utf-8") for path in self.output)
        return out, err
