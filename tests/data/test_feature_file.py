"""The file of features: whole or absent, read in blocks and at positions."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from flowgmm_cli.data import feature_file
from flowgmm_cli.data.feature_file import FeatureFile, write_features
from flowgmm_cli.data.tensors import Store
from flowgmm_cli.errors import DataError

X = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
HASHES = np.random.default_rng(1).integers(2**63, size=1000).astype(np.uint64)


def parts(*sizes: int):
    ends = np.cumsum([0, *sizes])
    return ((X[a:b], HASHES[a:b]) for a, b in pairwise(ends))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_features(tmp_path / "a" / "x.features", X.shape, np.float32, parts(400, 0, 599, 1))
    return tmp_path / "a" / "x.features"


def test_rows_are_read_in_blocks_and_at_positions(path: Path) -> None:
    file = FeatureFile(path)
    assert (file.rows, file.width, file.dtype) == (1000, 3, np.float32)
    assert (file.read(0, 1000) == X).all()
    assert (file.read(398, 402) == X[398:402]).all()
    for positions in ([5, 6, 7, 3, 999], [4], [], [2, 2, 2]):
        index = np.array(positions, dtype=np.int64)
        assert (file.read_at(index) == X[index]).all()
    assert [entry.name for entry in path.parent.iterdir()] == ["x.features"]


def test_rows_are_found_by_their_hash(path: Path) -> None:
    wanted = np.unique([HASHES[7], HASHES[990], np.uint64(12345)])
    rows, matches = FeatureFile(path).find(wanted)
    assert rows.tolist() == [7, 990]
    assert (wanted[matches] == HASHES[rows]).all()


@pytest.mark.parametrize("damage", [b"", b"hello", "cut"])
def test_a_damaged_file_is_no_feature_file(path: Path, damage: bytes | str) -> None:
    path.write_bytes(path.read_bytes()[:-1] if isinstance(damage, str) else damage)
    with pytest.raises((OSError, ValueError)):
        FeatureFile(path)


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("place", [3, 20, 60, 200, -30, -10])
def test_a_changed_byte_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch, place: int, is_small: bool
) -> None:
    monkeypatch.setattr(feature_file, "_SMALL_BYTES", 2**26 if is_small else 0)
    status, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    if is_small:  # even if the change leaves no trace in the time
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ValueError, match=r"x\.features"):
        FeatureFile(path)


def test_a_large_file_is_read_as_a_whole_only_if_it_has_changed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_file, "_SMALL_BYTES", 0)
    passes = []
    checksum = FeatureFile._checksum
    monkeypatch.setattr(
        FeatureFile, "_checksum", lambda self, *part: passes.append(part) or checksum(self, *part)
    )
    FeatureFile(path)
    assert passes == []
    copy = path.with_name("copy.features")
    shutil.copyfile(path, copy)
    for _ in range(2):
        assert (FeatureFile(copy).read(0, 1000) == X).all()
    assert len(passes) == 2  # the rows and the hashes, once


def test_a_full_disk_is_an_error_that_names_folder_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10, 5, 2**28))
    with pytest.raises(DataError, match=r"need 0\.0 GiB .*0\.2 GiB are free") as error:
        write_features(tmp_path / "x.features", X.shape, np.float32, parts(1000))
    assert "FLOWGMM_CACHE_DIR" in error.value.hint
    assert not list(tmp_path.iterdir())


def test_a_pass_that_fails_or_finds_other_rows_leaves_nothing(tmp_path: Path) -> None:
    def broken():
        yield from parts(600)
        raise DataError("broken")

    with pytest.raises(DataError, match="broken"):
        write_features(tmp_path / "x.features", X.shape, np.float32, broken())
    with pytest.raises(DataError, match="has 600 rows, and had 1,000"):
        write_features(tmp_path / "x.features", X.shape, np.float32, parts(600))
    assert not list(tmp_path.iterdir())


def test_rows_of_inputs_are_transformed_when_they_are_read() -> None:
    none, inputs = np.empty(0, dtype=np.int64), torch.arange(6, dtype=torch.uint8).reshape(3, 2)
    calls = []

    def double(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return 2.0 * x

    store = Store(3, 2, np.dtype(np.uint8), lambda start, stop: X, none, none, 0, dim=2, transform=double)
    rows = store.to_tensors(inputs)
    assert calls == []
    assert torch.equal(rows.inputs, inputs)
    assert torch.equal(rows[:2].x[:], 2.0 * inputs[:2])
