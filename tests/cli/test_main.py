from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from own_files import shell

from flowgmm_cli import errors
from flowgmm_cli.cli import recipes


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `flowgmm recipes schema` end in an error."""

    def broken(*args: Any, **kwargs: Any) -> None:
        raise error

    from flowgmm_cli.recipe import json_schema

    monkeypatch.setattr(json_schema, "recipe_schema", broken)
    assert recipes.schema is not None


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.RunFailedError, 1), (errors.UsageError, 2), (errors.RecipeError, 3), (errors.PluginError, 4),
        (errors.DataError, 5), (errors.RunError, 6), (errors.GateError, 7), (errors.InterruptedRunError, 130),
    ],
)  # fmt: skip
def test_every_error_has_its_exit_code(
    flowgmm: Any, monkeypatch: pytest.MonkeyPatch, kind: type[errors.FlowgmmError], code: int
) -> None:
    fail_with(monkeypatch, kind("it [broke]", details=["first", "second"], hint="type this"))
    outcome = flowgmm("recipes", "schema", code=code)
    assert outcome.out == ""
    assert outcome.err == "error: it [broke]\n  first\n  second\n\nhint: type this\n"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ZeroDivisionError("nothing"), 1, "error: ZeroDivisionError: nothing\n\nhint: this is a bug"),
        (OSError(errno.ENOSPC, "full", "/x/y"), 1, "error: the disk is full while writing /x/y\n"),
        (OSError(errno.EDQUOT, "full", "/x/y"), 1, "error: the disk is full while writing /x/y\n"),
        (OSError(errno.EFBIG, "too large"), 1, "error: a file would be too large\n"),
        (OSError(errno.EIO, "I/O error"), 1, "error: a file cannot be read or written: I/O error\n"),
        (MemoryError(), 1, "error: out of memory"),
        (OSError(errno.ENAMETOOLONG, "long", "x" * 300), 2, "error: the name `xxx"),
        (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates not allowed"), 2, "error: the name `a"),
        (ValueError("embedded null byte"), 2, "error: a name holds the character NUL"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_other_errors_are_explained(
    flowgmm: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str
) -> None:
    fail_with(monkeypatch, error)
    outcome = flowgmm("recipes", "schema", code=code)
    assert outcome.err.startswith(text)
    assert "Traceback" not in outcome.err
    assert ("bug" in outcome.err) == isinstance(error, ZeroDivisionError)


@pytest.mark.parametrize(("words", "variable"), [(("--verbose",), ""), ((), "1")])
def test_the_traceback_is_shown_on_request(
    flowgmm: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], variable: str
) -> None:
    monkeypatch.setenv("FLOWGMM_TRACEBACK", variable)
    fail_with(monkeypatch, ZeroDivisionError("nothing"))
    assert "Traceback (most recent call last)" in flowgmm("recipes", "schema", *words, code=1).err


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_reader_that_stops_early_is_no_failure() -> None:
    done = shell("flowgmm recipes schema | head -c 10")
    assert (len(done.out), done.err) == (10, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_stdout_is_a_failure() -> None:
    done = shell("flowgmm recipes schema > /dev/full", code=1)
    assert "the disk is full" in done.err
    assert "Traceback" not in done.err
    assert "Exception ignored" not in done.err


@pytest.mark.parametrize("stream", ["2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_failure(tmp_path: Path, stream: str) -> None:
    done = shell(f"cd {tmp_path}; flowgmm runs list {stream}")
    assert "error" not in done.err
    assert ("run  status" in done.out) == (">&-" not in stream.replace("2>&-", ""))


def test_a_folder_that_was_removed_is_a_usage_error(tmp_path: Path) -> None:
    done = shell(f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir ../gone; flowgmm train digits", code=2)
    assert done.err == "error: the current folder has been removed\n\nhint: cd to another folder first\n"


def test_the_version_is_printed(flowgmm: Any) -> None:
    outcome = flowgmm("--version")
    assert outcome.out.startswith("flowgmm 0.")
