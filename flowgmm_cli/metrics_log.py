"""The file `metrics.jsonl` of a run: a line for each logged step."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowgmm_cli.files import load_json, write_text


class MetricsLog:
    """Appends lines to a file; a resumed run drops the lines after its checkpoint.

    Args:
        path: the file; None writes nothing.
        last_step: last step of the checkpoint.
    """

    def __init__(self, path: Path | None, *, last_step: int = 0) -> None:
        self.path = path
        if path is not None and path.is_symlink() and not path.exists():  # appending would follow it
            path.unlink()
        if path is not None and path.is_file():  # a link to a file is replaced
            lines = [json.dumps(line) for line in read_metrics(path) if line["step"] <= last_step]
            write_text(path, "".join(f"{line}\n" for line in lines))

    def write(self, *, step: int, epoch: float, split: str, seconds: float, **values: float) -> None:
        """Append a line; a value that is not finite is written as null."""
        if self.path is None:
            return
        line: dict[str, Any] = {"step": step, "epoch": round(epoch, 4), "split": split}
        line["seconds"] = round(seconds, 3)
        line |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def read_metrics(path: Path) -> list[Mapping[str, Any]]:
    """Read all complete lines of the file; one cut short by a crash, or damaged, is left out."""
    lines: list[Mapping[str, Any]] = []
    for text in path.read_bytes().split(b"\n"):
        try:
            line = load_json(text)
        except ValueError:
            continue
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            continue
        if all(isinstance(value, int | float | None) for key, value in line.items() if key != "split"):
            lines.append(line)
    return lines
