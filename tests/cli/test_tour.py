"""The tour of the documentation works line by line, with short trainings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
FEW_STEPS = ["train.max_steps=20", "calibration.method=none"]
SHORT = {
    "train digits": ["train.max_steps=250"],  # enough for the gate of `eval`
    "train mine.yaml": FEW_STEPS,
    "curve digits": [*FEW_STEPS, "--seeds", "0", "--no-baselines"],
    "sweep digits": FEW_STEPS,
}


def tour() -> list[list[str]]:
    """Return the words of each command in the first block of the page."""
    block = PAGE.read_text(encoding="utf-8").split("```")[1]
    return [shlex.split(line, comments=True)[1:] for line in re.findall(r"^flowgmm .*$", block, re.M)]


@pytest.mark.slow
def test_the_tour_works_line_by_line(flowgmm: Callable[..., Any]) -> None:
    commands = tour()
    assert {"train", "eval", "predict", "ood", "embed", "sample"} <= {words[0] for words in commands}
    assert set(SHORT) <= {" ".join(words[:2]) for words in commands}
    for words in commands:
        outcome = flowgmm(*words, *SHORT.get(" ".join(words[:2]), []))
        assert "error" not in outcome.err, words
