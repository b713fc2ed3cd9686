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
from flowgmm_cli.data import cache, out_of_core
from flowgmm_cli.data.chunked_table import ChunkedTable
from flowgmm_cli.data.splits import SplitData
from flowgmm_cli.data.tensors import Store
from flowgmm_cli.errors import DataError
from flowgmm_cli.files import remove_leftovers, temporary_path

Config = Callable[..., Any]
Load = Callable[..., tuple[SplitData, Store]]

LABELS, CELLS, FEATURES = PASSES = ["reading labels", "reading all rows once", "computing features"]


@pytest.fixture
def messages() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def few_rows_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out_of_core, "MAX_HELD_OUT_ROWS", 50)
    monkeypatch.setattr(out_of_core, "MAX_SAMPLE_ROWS", 200)


@pytest.fixture
def load(config: Config, load_store: Load, tmp_path: Path, messages: list[str]) -> Load:
    """Load the rows of a folder and their features; `messages` receives progress and notes."""

    def read(folder: Path, **parameters: Any) -> tuple[SplitData, Store]:
        context = DataContext(
            cache_dir=str(tmp_path / "cache"),
            progress=lambda done, total, what: None if done else messages.append(what),
            note=messages.append,
        )
        return load_store(config(folder, **{"labels": LabelsConfig(count=30), **parameters}), context)

    return read


def equal(first: tuple[SplitData, Store], other: tuple[SplitData, Store]) -> bool:
    (rows, store), (others, other_store) = first, other
    assert rows.chunked is not None
    assert others.chunked is not None
    for name, part in rows.splits.items():
        again = others.splits[name]
        for column, cells in part.columns.items():
            assert cells.dtype == again.columns[column].dtype
            np.testing.assert_array_equal(cells, again.columns[column])
        np.testing.assert_array_equal(part.labels, again.labels)
        assert part.ids.tolist() == again.ids.tolist()
    assert rows.chunked.statistics == others.chunked.statistics
    np.testing.assert_array_equal(store.left_out, other_store.left_out)
    np.testing.assert_array_equal(store.read(0, store.rows), other_store.read(0, store.rows))
    return (rows.notes, rows.class_names, rows.fingerprint) == (
        others.notes, others.class_names, others.fingerprint
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
    assert {None, "a/b", "é"} == set(first[0].train.columns["odd.json"].tolist())


@pytest.mark.parametrize(
    ("parameters", "passes"),
    [
        ({"transforms": []}, [FEATURES]),
        ({"labels": LabelsConfig(count=30, seed=1)}, [CELLS]),
        ({"labels": LabelsConfig(count=40)}, [CELLS]),
        ({"split": SplitConfig(seed=1)}, [CELLS, FEATURES]),
        ({"drop": ["name", "b"]}, [CELLS, FEATURES]),
        ({"categorical": ["colour"]}, []),
        ({"missing": "error"}, [FEATURES]),
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


def cached(tmp_path: Path) -> list[str]:
    return sorted(file.suffix for file in (tmp_path / "cache" / "features").rglob("*") if file.is_file())


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
    assert after[0].fingerprint != before[0].fingerprint
    assert cached(tmp_path) == [".features", ".npz", ".npz"]
    write_table(folder / "part-4.parquet", some_rows(600, 10, shown=0.5))
    messages.clear()
    load(folder)
    assert messages == PASSES
    assert cached(tmp_path) == [".features", ".npz", ".npz"]


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
    for file in (tmp_path / "cache" / "features").rglob("*.*"):
        content = bytearray(file.read_bytes())
        content[100] ^= 1
        content[len(content) // 2] ^= 1
        file.unlink()
        file.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "changed": content}[damage])
    messages.clear()
    assert equal(first, load(folder))
    assert [message for message in messages if "is damaged" not in message] == PASSES
    assert len(messages) == 2 * len(PASSES)
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

    monkeypatch.setattr(cache, "touch", dated(cache.touch))
    monkeypatch.setattr(Path, "replace", dated(Path.replace))
    monkeypatch.setattr(cache, "MAX_FILES", {".npz": 3, ".features": 1})  # labels and two seeds
    assert [passes(seed) for seed in (0, 1)] == [PASSES, [CELLS]]
    assert [passes(seed) for seed in (1, 0)] == [[], []]
    assert [passes(seed) for seed in (2, 0, 1)] == [[CELLS], [], [CELLS]]


def test_few_feature_files_are_kept_and_abandoned_ones_are_removed(
    load: Load, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def features() -> list[str]:
        return sorted(file.name for file in (tmp_path / "cache" / "features").rglob("*.features"))

    load(folder)
    (tmp_path / "other").mkdir()
    (folder / "part-0.parquet").rename(tmp_path / "other" / "a.parquet")
    monkeypatch.setattr(cache, "MAX_FEATURE_FILES", 1)
    before = features()
    written = temporary_path(next((tmp_path / "cache" / "features").iterdir()) / "file")
    abandoned = written.with_name(written.name.replace(f"-{os.getpid()}-", f"-{2**30}-"))
    for file in (abandoned, written):
        file.touch()
    remove_leftovers.cache_clear()
    load(tmp_path / "other", labels=LabelsConfig(count=9))
    assert len(features()) == 1
    assert features() != before
    assert (abandoned.exists(), written.exists()) == (False, True)


def test_a_cache_that_cannot_be_written_is_an_error_with_the_variable_that_names_another(
    load: Load, folder: Path, tmp_path: Path, messages: list[str]
) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(DataError, match="cannot take them: Not a directory") as error:
        load(folder)
    assert "FLOWGMM_CACHE_DIR" in error.value.hint
    (note,) = [message for message in messages if message not in PASSES]
    assert note.startswith("statistics of all rows are not cached: ")


def test_a_pass_that_fails_leaves_nothing(
    load: Load, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ChunkedTable.rows

    def broken(self: ChunkedTable, *words: Any) -> Any:
        for number, part in enumerate(rows(self, *words)):
            if number:
                raise DataError("broken")
            yield part

    monkeypatch.setattr(ChunkedTable, "rows", broken)
    with pytest.raises(DataError, match="broken"):
        load(folder)
    assert cached(tmp_path) == [".npz"]  # the labels
    monkeypatch.undo()
    load(folder)
