"""A pass over all rows is made once; its result is cached until the files change."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flowgmm_cli.api import DataContext, LabelsConfig, SplitConfig
from flowgmm_cli.data.large import cache
from flowgmm_cli.data.large.rows import RowBuilder
from flowgmm_cli.data.prepare import SplitRows, load_rows
from flowgmm_cli.errors import DataError

Config = Callable[..., Any]
Load = Callable[..., SplitRows]


@pytest.fixture
def messages() -> list[str]:
    return []


@pytest.fixture
def load(config: Config, tmp_path: Path, messages: list[str]) -> Load:
    """Load the rows of a folder; `messages` receives progress and notes."""

    def read(folder: Path, **parameters: Any) -> SplitRows:
        context = DataContext(
            cache_dir=str(tmp_path / "cache"),
            progress=lambda done, total, what: None if done else messages.append(what),
            note=messages.append,
        )
        return load_rows(config(folder, **{"labels": LabelsConfig(count=30), **parameters}), context)

    return read


PASSES = ["reading labels", "reading all rows once", "comparing rows with those held out"]


def equal(first: SplitRows, other: SplitRows) -> bool:
    assert first.large is not None
    assert other.large is not None
    for name in ("train", "val", "test"):
        rows, others = getattr(first, name), getattr(other, name)
        for column, cells in rows.columns.items():
            assert cells.dtype == others.columns[column].dtype
            np.testing.assert_array_equal(cells, others.columns[column])
        np.testing.assert_array_equal(rows.labels, others.labels)
        assert rows.ids.tolist() == others.ids.tolist()
    assert first.large.statistics == other.large.statistics
    np.testing.assert_array_equal(first.large.left_out, other.large.left_out)
    return (first.notes, first.class_names, first.fingerprint) == (
        other.notes, other.class_names, other.fingerprint
    )  # fmt: skip


def test_a_second_load_reads_the_cache(load: Load, folder: Path, messages: list[str]) -> None:
    first = load(folder)
    assert messages == PASSES
    messages.clear()
    assert equal(first, load(folder))
    assert messages == []


def test_cells_of_every_kind_are_cached(
    load: Load, tmp_path: Path, write_table: Callable[..., None], some_rows: Callable[..., pa.Table]
) -> None:
    rows = some_rows(500, 0, shown=0.6)
    odd = pa.array([None if row % 7 == 0 else ["", "a/b", "é"][row % 3] for row in range(500)])
    holes = pa.array([None if row % 9 == 0 else row / 7 for row in range(500)])
    rows = rows.append_column("odd.json", odd).append_column("file", holes)
    folder = tmp_path / "odd"
    folder.mkdir()
    write_table(folder / "one.arrow", rows)
    first = load(folder, id="name", drop=[])
    assert equal(first, load(folder, id="name", drop=[]))
    assert {None, "a/b", "é"} == set(first.train.columns["odd.json"].tolist())


@pytest.mark.parametrize(
    ("parameters", "passes"),
    [
        ({"transforms": []}, []),
        ({"labels": LabelsConfig(count=30, seed=1)}, PASSES[1:]),
        ({"split": SplitConfig(seed=1)}, PASSES[1:]),
        ({"drop": ["name", "b"]}, PASSES[1:]),
        ({"categorical": ["colour"]}, PASSES[1:2]),
        ({"missing": "error"}, PASSES[1:2]),
        ({"label": "colour"}, PASSES),
    ],
)
def test_only_other_settings_make_another_pass(
    load: Load, folder: Path, messages: list[str], parameters: dict[str, Any], passes: list[str]
) -> None:
    load(folder)
    messages.clear()
    load(folder, **parameters)
    assert messages == passes


def test_changed_files_are_read_again_and_old_results_are_removed(
    load: Load,
    folder: Path,
    tmp_path: Path,
    messages: list[str],
    some_rows: Callable[..., pa.Table],
    write_table: Callable[..., None],
) -> None:
    before = load(folder)
    write_table(folder / "part-2.parquet", some_rows(600, 9, shown=0.5))
    messages.clear()
    after = load(folder)
    assert messages == PASSES
    assert after.fingerprint != before.fingerprint
    assert len(list((tmp_path / "cache" / "tables").rglob("*.npz"))) == 3
    write_table(folder / "part-4.parquet", some_rows(600, 10, shown=0.5))
    messages.clear()
    load(folder)
    assert messages == PASSES
    assert len(list((tmp_path / "cache" / "tables").rglob("*.npz"))) == 3


def test_a_relative_path_finds_the_same_results(
    load: Load, folder: Path, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(folder)
    messages.clear()
    monkeypatch.chdir(folder.parent)
    load(Path(folder.name))
    assert messages == []


@pytest.mark.parametrize("damage", ["cut", "empty", "changed"])
def test_a_damaged_file_is_replaced(
    load: Load, folder: Path, tmp_path: Path, messages: list[str], damage: str
) -> None:
    first = load(folder)
    for file in (tmp_path / "cache" / "tables").rglob("*.npz"):
        content = bytearray(file.read_bytes())
        content[100] ^= 1
        content[len(content) // 2] ^= 1
        file.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "changed": content}[damage])
    messages.clear()
    assert equal(first, load(folder))
    assert messages == PASSES
    messages.clear()
    load(folder)
    assert messages == []


def test_the_results_used_last_are_kept(
    load: Load, folder: Path, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1, 1000))

    def dated(act: Callable[..., Any]) -> Callable[..., Any]:
        def then(path: Path, *target: Path) -> Any:
            done, moment = act(path, *target), next(clock)
            os.utime(target[0] if target else path, (moment, moment))
            return done

        return then

    def passes(seed: int) -> list[str]:
        messages.clear()
        load(folder, labels=LabelsConfig(count=30, seed=seed))
        return list(messages)

    monkeypatch.setattr(Path, "touch", dated(Path.touch))
    monkeypatch.setattr(Path, "replace", dated(Path.replace))
    monkeypatch.setattr(cache, "MAX_FILES", 5)  # labels, and rows and comparisons of two seeds
    assert [passes(seed) for seed in (0, 1)] == [PASSES, PASSES[1:]]
    assert [passes(seed) for seed in (1, 0)] == [[], []]
    assert [passes(seed) for seed in (2, 0, 1)] == [PASSES[1:], [], PASSES[1:]]


def test_a_cache_that_cannot_be_written_causes_a_note(
    load: Load, folder: Path, tmp_path: Path, messages: list[str]
) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    first = load(folder)
    (note,) = [message for message in messages if message not in PASSES]
    assert note.startswith("statistics of all rows are not cached: ")
    assert "(Not a directory)" in note
    (tmp_path / "cache").unlink()
    assert equal(first, load(folder))


def test_a_pass_that_fails_leaves_nothing(
    load: Load, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = RowBuilder.rows

    def broken(maker: RowBuilder, part: pa.Table, first: int, where: str) -> Any:
        if first > 1000:
            raise DataError("broken")
        return rows(maker, part, first, where)

    monkeypatch.setattr(RowBuilder, "rows", broken)
    with pytest.raises(DataError, match="broken"):
        load(folder)
    assert len(list((tmp_path / "cache" / "tables").rglob("*"))) == 2  # the table's folder, and its labels
    monkeypatch.undo()
    load(folder)
