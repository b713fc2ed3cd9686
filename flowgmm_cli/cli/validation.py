"""Checks of flags and their values, before anything is loaded."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from flowgmm_cli.data.readers.byte_source import require_file
from flowgmm_cli.errors import GateError, RunError, UsageError, did_you_mean
from flowgmm_cli.hub import is_address
from flowgmm_cli.messages import quote
from flowgmm_cli.user_files import require_writable


def split_arguments(
    run: str | None, rows: str | None, data: str | None, flag: str = "--data"
) -> tuple[str | None, str | None]:
    """Return the run and the rows of a command line `[RUN] [FILE]`, where `flag` may name the rows, too.

    A first argument that is a file, a pattern of files, `-` or a data spec names the rows.

    Raises:
        DataError: the first argument has the name of a file, such as `new.csv`, and there is no such file.
        RunError: the first argument is a folder that holds no run.
        UsageError: the rows are named twice.
    """
    if run is not None and rows is None and _is_input(run):
        run, rows = None, run
    if run is not None and (folder := Path(run).expanduser()).is_dir() and not any(folder.glob("run.json")):
        raise RunError(f"{run} is a folder without a run", hint=f"if it holds rows: {flag} {quote(run)}")
    if rows is not None and data is not None:
        raise UsageError(
            f"the rows are named twice: {rows} and {data}", hint=f"name one: {flag} {quote(data)}"
        )
    return run, rows if data is None else data


def _is_input(word: str) -> bool:
    path = Path(word).expanduser()
    if word == "-" or word.lstrip().startswith("{") or path.is_file():
        return True
    if path.exists() or is_address(word) or not re.fullmatch(r"\.[a-z]{2,}\d?", path.suffix.lower()):
        return False
    return glob.has_magic(word) or require_file(word).is_file()


def check_stdout(save: str | None, *, as_json: bool) -> None:
    """Raise `UsageError` if `--json` and `--save -` would both write to stdout."""
    if as_json and save == "-":
        raise UsageError(
            "--json and --save - would both write to stdout",
            hint="--save FILE --json, or leave one of them out",
        )


def check_input_kept(data: str | None, save: str | None) -> None:
    """Raise `UsageError` if the file to write is the file to read."""
    paths = [Path(file) for file in (data, save) if file and file != "-"]
    if len(paths) == 2 and all(path.is_file() for path in paths) and paths[0].samefile(paths[1]):
        raise UsageError(
            f"--save {save} would replace the rows that are read", hint="name another file for the output"
        )


def check_output(flag: str, file: Path | None, suffixes: Sequence[str], noun: str) -> None:
    """Raise `UsageError` if the file of a flag does not end in one of the suffixes, or cannot be written.

    >>> check_output("--save", Path("r.html"), (".html", ".htm"), "a report is an HTML file")
    """
    if file is None:
        return
    if file.suffix.lower() not in suffixes:
        raise UsageError(f"{flag} {file}: {noun}", hint=f"{flag} {quote(file.with_suffix(suffixes[0]))}")
    require_writable(file.expanduser())


def check_absent(target: Path, hint: str, *, force: bool) -> None:
    """Raise `UsageError` if a file exists and `--force` does not allow to replace it."""
    if target.exists() and not force:
        raise UsageError(f"{target} exists already", hint=hint)


def parse_floats(text: str, flag: str) -> list[float]:
    """Read distinct non-negative numbers, separated by commas.

    >>> parse_floats("0.3,1", "--temperature")
    [0.3, 1.0]
    """
    values: list[float] = []
    for word in text.split(","):
        try:
            value = float(word)
        except ValueError:
            raise UsageError(
                f"{flag} {text}: `{word}` is not a number", hint=f"{flag} 0.7, or {flag} 0.3,0.7,1"
            ) from None
        if not 0 <= value < float("inf"):
            raise UsageError(f"{flag} is {word}, it must be at least 0", hint=f"{flag} 0.7")
        values.append(value)
    return list(dict.fromkeys(values))


def parse_row_pairs(ends: tuple[str, str] | None) -> list[tuple[str, str]]:
    """Read the rows of `--interpolate`: the two ends of each path.

    >>> parse_row_pairs(("5,9", "17,2"))
    [('5', '17'), ('9', '2')]
    """
    if ends is None:
        return []
    first, last = (end.split(",") for end in ends)
    if len(first) != len(last) or not all((*first, *last)):
        raise UsageError(
            f"--interpolate {' '.join(ends)}: {len(first)} first rows and {len(last)} last rows",
            hint="--interpolate 5,9 17,2 makes two paths, from 5 to 17 and from 9 to 2",
        )
    return list(zip(first, last, strict=True))


def parse_gates(words: Sequence[str] | None, metrics: Sequence[str]) -> list[tuple[str, float]]:
    """Read the values of `--fail-under`, which may name some metrics."""
    gates = []
    for word in words or ():
        name, _, value = word.partition("=")
        if name not in metrics:
            raise UsageError(
                f"--fail-under {word}: there is no gate on `{name}`{did_you_mean(name, metrics)}",
                hint=f"one of {', '.join(metrics)}, for example {metrics[0]}=0.8",
            )
        try:
            bound = float(value)
        except ValueError:
            raise UsageError(
                f"--fail-under {word}: `{value}` is not a number", hint=f"for example {metrics[0]}=0.8"
            ) from None
        if not 0 <= bound <= 1:
            share = f"{bound / 100:g}" if 1 < bound <= 100 else "0.8"
            raise UsageError(f"--fail-under {word}: {name} lies between 0 and 1", hint=f"{name}={share}")
        gates.append((name, bound))
    return gates


def enforce_gates(
    gates: Sequence[tuple[str, float]], metrics: Mapping[str, float | None], *, subject: str = ""
) -> None:
    """Raise `GateError` if a metric is below its gate; `subject` is added to the metric's name."""
    values = [(name, metrics[name] or 0.0, bound) for name, bound in gates]
    failures = [
        f"{name}{subject} {value:.4f} is below {bound}" for name, value, bound in values if value < bound
    ]
    if failures:
        raise GateError("gate not met", details=failures)
