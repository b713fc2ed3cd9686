"""Memory that libraries keep."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_arrow_gives_back_what_it_has_freed() -> None:
    """A pool of Arrow's keeps a table that is gone until it is told otherwise."""
    script = """
import pyarrow as pa
from pathlib import Path
from flowgmm_cli.memory import release_arrow
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
column = pa.array(range(1000)).take(pa.array(range(1000)))
before = resident()
for _ in range(3):
    table = [pa.nulls(10**6, pa.float64()).fill_null(1.0) for _ in range(20)]
    del table
release_arrow()
assert pa.total_allocated_bytes() < 10**6
assert resident() - before < 60 * 10**6, resident() - before
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_arrow_is_not_imported_for_it() -> None:
    script = """
import sys
from flowgmm_cli.memory import release_arrow
release_arrow()
assert "pyarrow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
