"""Measures `flowgmm --help` against a bare Typer and Rich program's, and fails above 1.5 times its time.

Both run in turn, so that a busy machine slows both; the minimum of each is compared.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 1.5
ROUNDS = 15
BARE = '''
from typing import Annotated

import typer

app = typer.Typer(help="A bare program.", no_args_is_help=True)


@app.command()
def one(name: str, loud: Annotated[bool, typer.Option("--loud", help="Say it loudly.")] = False) -> None:
    """The first command."""


@app.command()
def two(name: str) -> None:
    """The second command."""


if __name__ == "__main__":
    app()
'''


def seconds(command: list[str]) -> float:
    """How long a command takes; it must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    """Print both times and their ratio; return 1 if it is above the limit."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder, "bare.py")
        bare.write_text(BARE, encoding="utf-8")
        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(seconds([sys.executable, str(bare), "--help"]))
            ours.append(seconds([sys.executable, "-m", "flowgmm_cli", "--help"]))
    ratio = min(ours) / min(theirs)
    print(
        f"--help: flowgmm {min(ours) * 1e3:.0f} ms, bare Typer and Rich {min(theirs) * 1e3:.0f} ms, "
        f"ratio {ratio:.2f} (limit {LIMIT})"
    )
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
