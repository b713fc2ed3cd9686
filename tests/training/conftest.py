"""Runs of the tiny recipe."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

START = """
import torch
from flowgmm_cli.training.distributed import Distributed, init_process_group
"""


@pytest.fixture
def run_all() -> Callable[[str, int], list[str]]:
    """Run code in processes that know of each other, `run_all(code, count)`; what each printed."""

    def run_it(code: str, count: int) -> list[str]:
        with socket.socket() as item:
            item.bind(("127.0.0.1", 0))
            port = item.getsockname()[1]
        shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        started = [
            subprocess.Popen(
                [sys.executable, "-c", START + code],
                env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(count)
        ]
        said = [process.communicate(timeout=120) for process in started]
        assert not any(process.returncode for process in started), said
        return [out for out, _ in said]

    return run_it
