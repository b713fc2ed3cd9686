"""Files that cannot be written to their end, as on a full disk, are whole or absent."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowgmm_cli.data.writers.base import FORMATS, open_writer
from flowgmm_cli.errors import describe_full_disk
from flowgmm_cli.files import read_npz, read_tensors
from flowgmm_cli.runs import Run
from flowgmm_cli.training.pipeline import train


@contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """Let this process write no file of more than `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def require_whole(run: Run) -> None:
    """Fail if a file of a run is neither whole nor absent."""
    for file in run.path.rglob("*"):
        assert not file.name.endswith(".tmp")
        if file.suffix == ".json":
            json.loads(file.read_text())
        if file.suffix == ".safetensors":
            read_tensors(file, "thing")
        if file.suffix == ".npz":
            assert read_npz(file)


@pytest.mark.parametrize(
    "name",
    [
        "metrics.jsonl",
        "checkpoints/last.safetensors",
        "checkpoints/preprocessor.json",
        "eval/test.npz",
        "model.safetensors",
        "model.json",
    ],
)
def test_a_training_ends_without_half_a_file_and_is_resumed(
    new_run: Callable[..., Run],
    shared_run: Callable[..., tuple[Run, Any]],
    same_outcome: Callable[[Run, Run], None],
    name: str,
) -> None:
    whole, _ = shared_run()
    run = new_run("run")
    with limit_file_size((whole.path / name).stat().st_size - 1), pytest.raises(OSError) as error:  # noqa: PT011
        train(run.recipe(), run)
    assert describe_full_disk(error.value) == "a file would be too large"
    require_whole(run)
    assert run.status() != "done"
    train(run.recipe(), run)
    same_outcome(whole, run)


@pytest.mark.parametrize("size", [0, 100, 4000])
@pytest.mark.parametrize("kind", FORMATS)
def test_answers_are_whole_or_absent(tmp_path: Path, kind: str, size: int) -> None:
    path = tmp_path / f"out.{kind}"

    def write() -> None:
        with open_writer(str(path)) as writer:
            for _ in range(2):
                writer.write({"id": np.arange(1000).astype(str), "x": np.random.default_rng(0).random(1000)})

    with limit_file_size(size), pytest.raises(OSError, match="File too large"):
        write()
    assert list(tmp_path.iterdir()) == []
    write()
    assert list(tmp_path.iterdir()) == [path]
