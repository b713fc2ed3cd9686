"""A thousand cases of the fuzzer: no traceback, documented exit codes, nothing half-written."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzz import Fuzzer

CASES, PARTS = 1000, 10


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzer]:
    """A fuzzer in a folder of its own."""
    before = Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FLOWGMM_TRACEBACK", "FLOWGMM_RUN", "FLOWGMM_OFFLINE"):
            patch.delenv(name, raising=False)
        yield Fuzzer(tmp_path_factory.mktemp("fuzz"))
    os.chdir(before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=[pytest.mark.slow] * (part >= PARTS // 2)) for part in range(PARTS)]
)
def test_no_input_ends_a_command_unexpectedly(fuzzer: Fuzzer, part: int) -> None:
    known, size = len(fuzzer.failures), CASES // PARTS
    for seed in range(part * size, (part + 1) * size):
        fuzzer.run_case(seed)
    assert fuzzer.failures[known:] == []
