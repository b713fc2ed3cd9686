from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from flowgmm_cli.errors import RunError
from flowgmm_cli.files import (
    read_json,
    read_tensors,
    remove_leftovers,
    temporary_path,
    write_bytes,
    write_json,
    write_tensors,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("place", [(os, "fsync"), (Path, "replace")])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(
    tmp_path: Path, place: tuple[object, str], error: type[BaseException]
) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")
    for target in (file, tmp_path / "new" / "folder" / "b.txt"):
        with patch.object(*place, side_effect=error), pytest.raises(error):
            write_text(target, "new")
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_the_new_file_is_on_the_disk_before_it_replaces_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    write_bytes(file, b"old")
    calls = []

    def record(handle: int) -> None:
        calls.append((os.fstat(handle).st_size, file.read_bytes()))

    monkeypatch.setattr(os, "fsync", record)
    write_bytes(file, b"newer")
    assert calls == [(5, b"old")]
    assert file.read_bytes() == b"newer"


def test_folders_are_created_and_the_umask_is_respected(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a" / "b" / "ü.txt", "größer")
    finally:
        os.umask(before)
    file = tmp_path / "a" / "b" / "ü.txt"
    assert file.read_bytes() == "größer".encode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("-inf")]])
def test_nan_and_infinities_are_refused_in_json(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": value})
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["語" * 83 + ".csv", "a" * 255, os.fsdecode(b"a\xff" * 127)])
def test_names_may_be_as_long_as_the_file_system_allows(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "text")
    assert names(tmp_path) == [name]


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"ä": [1, 2.5, None, True], "text": "line\nline \u2028", "path": os.fsdecode(b"a\xff")}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json", "value") == value


MALFORMED = [b"", b"{", b"[1]", b"\xff\xfe", b'"text"', b"[" * 200_000]
MALFORMED += [b'{"a": NaN}', b'{"a": 1e999}', b'{"a": 1' + b"0" * 5000 + b"}"]


@pytest.mark.parametrize("content", MALFORMED, ids=lambda content: content[:10])
def test_a_file_without_a_json_object_is_a_run_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"thing: .*a\.json"):
        read_json(file, "thing")
    with pytest.raises(RunError, match="does not exist"):
        read_json(tmp_path / "na.json", "thing")
    with pytest.raises(RunError):
        read_json(tmp_path, "thing")


def test_a_named_pipe_is_not_waited_for_and_a_huge_file_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunError, match="no file"):
        read_json(tmp_path / "pipe", "thing")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 2**40)
    with pytest.raises(RunError, match="1,099,511,627,776 bytes"):
        read_json(tmp_path / "huge", "thing")


KILL = """
import os, signal, sys
from pathlib import Path
from flowgmm_cli.files import atomic_write, temporary_path
temporary_path(Path("folder")).mkdir()
with atomic_write(Path("file")) as file:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    others = [".file.abcdef-1-1-12345678.tmp", ".file.tmp"]  # of another machine, and of another program
    own = temporary_path(tmp_path / "own").name  # of a living process
    subprocess.run([sys.executable, "-c", KILL], cwd=tmp_path, check=False)
    assert len(names(tmp_path)) == 2
    for name in (*others, own):
        (tmp_path / name).touch()
    remove_leftovers.cache_clear()
    write_text(tmp_path / "file", "new")
    assert names(tmp_path) == sorted([*others, own, "file"])
    os.utime(tmp_path / others[0], (0, 0))
    remove_leftovers.cache_clear()
    write_text(tmp_path / "file", "new")
    assert names(tmp_path) == sorted([others[1], own, "file"])


def test_tensors_round_trip(tmp_path: Path) -> None:
    write_tensors(tmp_path / "none.safetensors", {}, {"format": "1"})
    assert read_tensors(tmp_path / "none.safetensors", "nothing") == ({}, {"format": "1"})
    shared = torch.arange(6.0)
    tensors = {
        "empty": torch.empty(0, 3),
        "transposed": torch.arange(6, dtype=torch.int64).reshape(2, 3).T,
        "first": shared[:3],  # safetensors itself refuses tensors that share memory
        "all": shared,
        "scalar": torch.tensor(True),
        "wide": torch.tensor(1 / 3, dtype=torch.float64),
    }
    write_tensors(tmp_path / "t.safetensors", tensors, {"format": "f"})
    loaded, metadata = read_tensors(tmp_path / "t.safetensors", "thing")
    assert metadata == {"format": "f"}
    assert loaded.keys() == tensors.keys()
    for name, value in tensors.items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value)


def test_a_truncated_or_foreign_tensor_file_is_a_run_error(tmp_path: Path) -> None:
    file = tmp_path / "t.safetensors"
    write_tensors(file, {"a": torch.arange(100.0)})
    whole = file.read_bytes()
    for length in (0, 4, 8, 20, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(RunError, match="not a readable safetensors file"):
            read_tensors(file, "thing")
    for foreign in (b"PK\x03\x04" + bytes(100), b"\x80\x04K\x01." * 20, b"\xff" * 64, whole + b"more"):
        file.write_bytes(foreign)
        with pytest.raises(RunError, match="not a readable safetensors file"):
            read_tensors(file, "thing")
    with pytest.raises(RunError, match="does not exist"):
        read_tensors(tmp_path, "thing")
