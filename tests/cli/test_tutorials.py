"""The pages that readers follow work from top to bottom and print what they show.

A `python` block with a title is a file, one without is carried out, the lines of a `sh` block are commands,
and each line of a `text` block occurs in what the block above it has printed: words are equal, figures are
close.
"""

from __future__ import annotations

import math
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
TUTORIALS = ["start.md", *sorted(f"tutorials/{path.name}" for path in (DOCS / "tutorials").glob("*.md"))]
BLOCK = re.compile(r'^```(python|sh|text)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)
NUMBER = r"\d[\d,]*(?:\.\d+)?"
SEPARATOR = re.compile(r"\s+|,(?!\d{3}\b)")
RUN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")  # in the name of a run
LINES = 400  # enough columns for any table

Flowgmm = Callable[..., Any]


def equal_within_tolerance(expected: str, printed: str) -> bool:
    """Return whether two lines have the same words, and figures that differ little; … is any text."""
    pieces = re.split(rf"(…|{NUMBER})", " ".join(SEPARATOR.sub(" ", expected).split()))
    patterns = {"…": ".*?"} | {piece: f"({NUMBER})" for piece in pieces if re.fullmatch(NUMBER, piece)}
    pattern = "".join(patterns.get(piece, re.escape(piece)) for piece in pieces)
    match = re.fullmatch(pattern, " ".join(SEPARATOR.sub(" ", printed).split()))
    figures = [piece for piece in pieces if re.fullmatch(NUMBER, piece)]
    return match is not None and all(
        math.isclose(
            float(first.replace(",", "")), float(second.replace(",", "")), rel_tol=0.15, abs_tol=0.05
        )
        for first, second in zip(figures, match.groups(), strict=True)
    )


@pytest.mark.parametrize(
    ("expected", "printed", "equal"),
    [
        ("accuracy  0.95", "accuracy   0.97", True),
        ("accuracy  0.95", "accuracy   0.70", False),
        ("1,387 rows in 1 group", "1,390 rows in 1 group", True),
        ("1 group", "2 group", False),
        ("accuracy 0.95", "NLL 0.95", False),
        ("1  247 … jobs", "1  249  refund 45% jobs", True),
        ("1  247 … jobs", "1  247  refund 45% mails", False),
        ("accuracy …", "NLL 0.9", False),
        ("4, …, true", "4,jobs,0.39,true", True),
        ("row … of … rows", "row 7 is typical of 38 rows", True),
    ],
)
def test_lines_are_compared_by_words_and_figures(expected: str, printed: str, equal: bool) -> None:
    assert equal_within_tolerance(expected, printed) is equal


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS)
def test_a_page_prints_what_it_shows(
    page: str, flowgmm: Flowgmm, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("COLUMNS", str(LINES))
    text = (DOCS / page).read_text(encoding="utf-8")
    printed: list[str] = []
    for language, title, code in BLOCK.findall(text):
        if language == "python" and title:
            Path(title).write_text(code, encoding="utf-8")
        elif language == "python":
            exec(compile(code, page, "exec"), {"__name__": "__main__"})
            printed = capsys.readouterr().out.splitlines()
        elif language == "sh":
            printed = [line for command in code.splitlines() for line in carry_out(command, flowgmm, capsys)]
        else:
            missing = [
                line
                for line in code.splitlines()
                if line.strip() and not any(equal_within_tolerance(line, other) for other in printed)
            ]
            assert missing == [], "\n".join(printed)
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (DOCS / page).parent.joinpath(picture).is_file()
        assert (folder / Path(picture).name).is_file(), "no command has drawn it"


def carry_out(command: str, flowgmm: Flowgmm, capsys: Any) -> list[str]:
    """Carry out a line of a `sh` block that begins with `flowgmm` or `python`; return the printed lines."""
    words = shlex.split(command, comments=True)
    if not words or words[0] in ("pip", "python3", "source"):
        return []  # the installation
    if words[0] == "python":
        with patch.object(sys, "argv", words[1:]):
            runpy.run_path(words[1], run_name="__main__")
        return capsys.readouterr().out.splitlines()
    assert words[0] == "flowgmm", command
    outcome = flowgmm(*words[1:])
    return RUN.sub("…", outcome.out + outcome.err).splitlines()
