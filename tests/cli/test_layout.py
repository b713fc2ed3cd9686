from __future__ import annotations

import pytest

from flowgmm_cli.cli.layout import format_table, wrap

NOTE = "ood     rows are flagged by density; AUROC 0.982 on average against stand-ins"
PATH = "runs/digits/20261122-101500-3f9a-and-a-long-name/eval/test.json"
COMMAND = "next: flowgmm eval runs/digits/20261122-101500-3f9a --baselines"
CODE = "set `data.labels.balanced=false` here or there"


@pytest.mark.parametrize("width", [30, 40, 60])
@pytest.mark.parametrize("text", [NOTE, f"written {PATH}", COMMAND, CODE])
def test_lines_break_between_words_only(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
    longest = max(map(len, [PATH, COMMAND[6:]]))
    assert all(len(line) <= width or any(word in line for word in (PATH, COMMAND[6:])) for line in lines)
    assert all(len(line) <= max(width, longest + 8) for line in lines)


@pytest.mark.parametrize("width", [20, 40, 80])
def test_paths_code_and_commands_stay_whole(width: int) -> None:
    again = "again: flowgmm curve a --labels 1,2"
    assert PATH in "\n".join(wrap(f"written to {PATH} and elsewhere", width))
    assert COMMAND[6:] in "\n".join(wrap(COMMAND, width))
    assert "`a b c d`" in "\n".join(wrap("some words then `a b c d` and more", width))
    assert again[7:] in "\n".join(wrap(f"{again}; or wait", width))


def test_later_lines_stand_below_the_text_and_paragraphs_are_kept() -> None:
    assert wrap(NOTE, 40)[1].startswith(" " * 8 + "AUROC")
    assert wrap("  a detail of it\n  another", 12) == ["  a detail", "  of it", "  another"]
    assert wrap("", 10) == [""]


COLUMNS = ["flow.couplings", "seeds", "test accuracy", "NLL"]
ROWS = [["2", "3", "0.9600 ±0.0157", "0.125"], ["4", "3", "0.9700 ±0.0057", "0.100"]]


def test_numbers_are_never_broken() -> None:
    heading, lines = format_table(COLUMNS, ROWS, right=COLUMNS[1:], width=44)
    assert len(heading) == 1
    assert all(len(line) <= 44 for line in heading + lines)
    columns, rows = [*COLUMNS, "seconds"], [[*row, "12"] for row in ROWS]
    heading, lines = format_table(columns, rows, right=COLUMNS[1:], width=48)
    assert heading == ["flow.couplings               2               4"]
    assert lines[1] == "test accuracy   0.9600 ±0.0157  0.9700 ±0.0057"
    heading, lines = format_table(COLUMNS, ROWS, right=COLUMNS[1:], width=30)
    assert heading == []
    assert lines[:5] == [
        "flow.couplings  2",
        "seeds           3",
        "test accuracy   0.9600 ±0.0157",
        "NLL             0.125",
        "",
    ]
