from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from flowgmm_cli.cli.progress import LiveProgress, PlainProgress


def plain() -> tuple[PlainProgress, list[str], list[float]]:
    """Progress, the lines that it prints, and the time."""
    lines: list[str] = []
    now = [0.0]
    return PlainProgress(lines.append, every=5, clock=lambda: now[0]), lines, now


def test_plain_progress_speaks_now_and_then() -> None:
    report, lines, now = plain()
    for step in range(1, 22):
        report(step, 21, "train", f"loss {step}")
        now[0] += 1
    assert lines == [
        "train  6 of 21  about 20 s left  loss 6",
        "train  11 of 21  about 10 s left  loss 11",
        "train  16 of 21  less than 10 s left  loss 16",
        "train  21 of 21  loss 21",
    ]


def test_short_work_is_silent_and_long_work_ends_with_a_line() -> None:
    report, lines, now = plain()
    report(0, 2, "short")
    report(2, 2, "short")
    report(0, 0, "long")
    now[0] = 6
    report(1200, 0, "long")
    now[0] = 7
    report(1300, 1300, "long")
    report(1300, 1300, "long")
    assert lines == ["long  1,200", "long  1,300 of 1,300"]


def test_whole_work_has_few_lines_and_its_tasks_none() -> None:
    report, lines, now = plain()
    for step in range(100):
        fold = step // 25
        left = None if step < 3 else 100.0 - step
        report.overall(step / 100, f"search {fold}/4 folds, then 2 models", left)
        report(step % 25, 25, f"search, fold {fold}", "loss 1")
        now[0] += 1
    report.overall(1.0, "4 folds, 2 models", 0.0)
    assert len(lines) == 10
    assert lines[0] == "search 0/4 folds, then 2 models; 10% done, 10 s elapsed, about 90 s left"
    assert lines[-1] == "4 folds, 2 models: done in 1 min 40 s"
    report(0, 2, "write")
    now[0] += 6
    report(2, 2, "write")
    assert lines[-1] == "write  2 of 2"


def draw(report: LiveProgress, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True, color_system=None)
    with console.capture() as capture:
        console.print(report)
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", capture.get()).splitlines()]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (130, ["250/1,000", "about 4 min left", "1 min 12 s elapsed", "loss 0.217", "agreement 0.899"]),
        (100, ["250/1,000", "about 4 min left", "1 min 12 s elapsed", "loss 0.217"]),
        (80, ["250/1,000", "about 4 min left"]),
        (50, ["250/1,000", "about 4 min left"]),
    ],
)
def test_a_narrow_terminal_keeps_the_bar_the_steps_and_the_time(width: int, shown: list[str]) -> None:
    now = [0.0]
    report = LiveProgress(clock=lambda: now[0])
    report(0, 1000, "train, member 1 of 2")
    now[0] = 72.4
    report(250, 1000, "train, member 1 of 2", "loss 0.217  agreement 0.899")
    (line,) = draw(report, width)
    assert len(line) <= width
    assert "━━" in line
    parts = ["250/1,000", "about 4 min left", "1 min 12 s elapsed", "loss 0.217", "agreement 0.899"]
    assert [text for text in parts if text in line] == shown


def test_whole_work_has_one_line_and_its_present_task_another() -> None:
    report = LiveProgress(clock=lambda: 0.0)
    report(5, 5, "encoding texts")
    for fold in range(3):
        report.overall(fold / 16, f"search {fold}/16 folds, then 2 models, calibration", 170.0)
        report(1000, 1000, f"search, wide (2 of 4), fold {fold + 1} of 4", "loss 0.217  agreement 0.899")
    texts, overall, part = draw(report, 80)
    assert texts.startswith("encoding texts")
    assert overall.startswith("search 2/16 folds, then 2 models, calibration  ━")
    assert overall.endswith("about 3 min left")
    assert part.startswith("  search, wide (2 of 4), fold 3 of 4  ━━")
    assert "1,000/1,000" in part
    report.overall(1.0, "16 folds, 2 models, calibration", 0.0)
    report(1, 2, "report")
    titles = [line.split("  ")[0] for line in draw(report, 80)]
    assert titles == ["encoding texts", "16 folds, 2 models, calibration", "report"]
