"""Measures `flowgmm plugins list` with 300 installed distributions against 30; fails above 1.5 times.

Every distribution offers a flow whose module fails when it is imported, so the command can only succeed if it
imports none of them. Both folders are listed in turn, so that a busy machine slows both; the medians are
compared.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 1.5
ROUNDS = 9


def fill(site: Path, count: int) -> None:
    """Make a folder of installed distributions."""
    for index in range(count):
        info = site / f"many_{index}-1.0.dist-info"
        info.mkdir(parents=True)
        about = f"Metadata-Version: 2.1\nName: many-{index}\nVersion: 1.0\nSummary: Number {index}\n"
        (info / "METADATA").write_text(about, encoding="utf-8")
        points = f"[console_scripts]\nmany{index} = many_{index}:main\n"
        if index < 10:  # as many plugins in both folders: the other packages are what differs
            points += f"[flowgmm.flows]\nmany_{index} = many_{index}:spec\n"
        (info / "entry_points.txt").write_text(points, encoding="utf-8")
        (site / f"many_{index}.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")


def seconds(site: Path) -> float:
    """How long the list takes with this folder on the path; every plugin in it must be listed."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "flowgmm_cli", "plugins", "list", "--json"],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    took = time.perf_counter() - start
    listed = [row for row in json.loads(done.stdout)["plugins"] if row["package"].startswith("many-")]
    if len(listed) != 10:
        raise SystemExit(f"{len(listed)} of 10 plugins are listed")
    return took


def main() -> int:
    """Print both times and their ratio; return 1 if it is above the limit."""
    with tempfile.TemporaryDirectory() as folder:
        few, many = Path(folder, "few"), Path(folder, "many")
        fill(few, 30)
        fill(many, 300)
        times = [(seconds(few), seconds(many)) for _ in range(ROUNDS)]
    small, large = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"plugins list: {large * 1e3:.0f} ms with 300 distributions, {small * 1e3:.0f} ms with 30, "
        f"ratio {large / small:.2f} (limit {LIMIT})"
    )
    return int(large / small > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
