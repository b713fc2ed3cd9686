"""A look at all rows is taken once, and kept for as long as it holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flowgmm_cli.api import DataContext, LabelsConfig, SplitConfig
from flowgmm_cli.data.large import kept as looks
from flowgmm_cli.data.large.cells import RowMaker
from flowgmm_cli.data.prepare import SplitRows, load_rows
from flowgmm_cli.errors import DataError

Config = Callable[..., Any]
Load = Callable[..., SplitRows]


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def load(config: Config, tmp_path: Path, told: list[str]) -> Load:
    """Load the rows of a folder; `told` hears what is read and noted."""

    def read(folder: Path, **parameters: Any) -> SplitRows:
        context = DataContext(
            cache_dir=str(tmp_path / "cache"),
            progress=lambda done, total, what: None if done else told.append(what),
            note=told.append,
        )
        return load_rows(config(folder, **{"labels": LabelsConfig(count=30), **parameters}), context)

    return read


LOOKS = ["reading labels", "reading all rows once", "comparing rows with those held out"]


def same(one: SplitRows, other: SplitRows) -> bool:
    assert one.large is not None
    assert other.large is not None
    for name in ("train", "val", "test"):
        rows, others = getattr(one, name), getattr(other, name)
        for column, cells in rows.columns.items():
            assert cells.dtype == others.columns[column].dtype
            np.testing.assert_array_equal(cells, others.columns[column])
        np.testing.assert_array_equal(rows.labels, others.labels)
        assert rows.ids.tolist() == others.ids.tolist()
    assert one.large.facts == other.large.facts
    np.testing.assert_array_equal(one.large.left_out, other.large.left_out)
    return (one.notes, one.class_names, one.fingerprint) == (
        other.notes, other.class_names, other.fingerprint
    )  # fmt: skip


def test_rows_are_looked_at_once(load: Load, folder: Path, told: list[str]) -> None:
    first = load(folder)
    assert told == LOOKS
    told.clear()
    assert same(first, load(folder))
    assert told == []


def test_cells_of_every_kind_come_back(
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
    assert same(first, load(folder, id="name", drop=[]))
    assert {None, "a/b", "é"} == set(first.train.columns["odd.json"].tolist())


@pytest.mark.parametrize(
    ("parameters", "looked_at"),
    [
        ({"transforms": []}, []),
        ({"labels": LabelsConfig(count=30, seed=1)}, LOOKS[1:]),
        ({"split": SplitConfig(seed=1)}, LOOKS[1:]),
        ({"drop": ["name", "b"]}, LOOKS[1:]),
        ({"categorical": ["colour"]}, LOOKS[1:2]),
        ({"missing": "error"}, LOOKS[1:2]),
        ({"label": "colour"}, LOOKS),
    ],
)
def test_another_question_is_another_look(
    load: Load, folder: Path, told: list[str], parameters: dict[str, Any], looked_at: list[str]
) -> None:
    load(folder)
    told.clear()
    load(folder, **parameters)
    assert told == looked_at


def test_files_that_were_written_again_are_looked_at_again_and_the_old_look_goes(
    load: Load,
    folder: Path,
    tmp_path: Path,
    told: list[str],
    some_rows: Callable[..., pa.Table],
    write_table: Callable[..., None],
) -> None:
    before = load(folder)
    write_table(folder / "part-2.parquet", some_rows(600, 9, shown=0.5))
    told.clear()
    after = load(folder)
    assert told == LOOKS
    assert after.fingerprint != before.fingerprint
    assert len(list((tmp_path / "cache" / "tables").rglob("*.npz"))) == 3
    write_table(folder / "part-4.parquet", some_rows(600, 10, shown=0.5))
    told.clear()
    load(folder)
    assert told == LOOKS
    assert len(list((tmp_path / "cache" / "tables").rglob("*.npz"))) == 3


def test_the_same_table_by_another_name_of_its_folder_is_the_same(
    load: Load, folder: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(folder)
    told.clear()
    monkeypatch.chdir(folder.parent)
    load(Path(folder.name))
    assert told == []


@pytest.mark.parametrize("damage", ["cut", "empty", "changed"])
def test_a_damaged_file_is_replaced(
    load: Load, folder: Path, tmp_path: Path, told: list[str], damage: str
) -> None:
    first = load(folder)
    for file in (tmp_path / "cache" / "tables").rglob("*.npz"):
        content = bytearray(file.read_bytes())
        content[100] ^= 1
        content[len(content) // 2] ^= 1
        file.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "changed": content}[damage])
    told.clear()
    assert same(first, load(folder))
    assert told == LOOKS
    told.clear()
    load(folder)
    assert told == []


def test_looks_that_are_of_use_are_kept_and_the_others_go(
    load: Load, folder: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1, 1000))

    def dated(act: Callable[..., Any]) -> Callable[..., Any]:
        def then(path: Path, *target: Path) -> Any:
            done, moment = act(path, *target), next(clock)
            os.utime(target[0] if target else path, (moment, moment))
            return done

        return then

    def looked_at(seed: int) -> list[str]:
        told.clear()
        load(folder, labels=LabelsConfig(count=30, seed=seed))
        return list(told)

    monkeypatch.setattr(Path, "touch", dated(Path.touch))
    monkeypatch.setattr(Path, "replace", dated(Path.replace))
    monkeypatch.setattr(looks, "MOST", 5)  # labels, and rows and comparisons of two seeds
    assert [looked_at(seed) for seed in (0, 1)] == [LOOKS, LOOKS[1:]]
    assert [looked_at(seed) for seed in (1, 0)] == [[], []]
    assert [looked_at(seed) for seed in (2, 0, 1)] == [LOOKS[1:], [], LOOKS[1:]]


def test_a_cache_that_cannot_be_written_costs_a_note(
    load: Load, folder: Path, tmp_path: Path, told: list[str]
) -> None:
    (tmp_path / "cache").write_text("no folder")
    first = load(folder)
    (note,) = [one for one in told if one not in LOOKS]
    assert note.startswith("what a look at all rows shows is not kept: ")
    assert "(Not a directory)" in note
    (tmp_path / "cache").unlink()
    assert same(first, load(folder))


def test_a_look_that_fails_leaves_nothing(
    load: Load, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = RowMaker.rows

    def broken(maker: RowMaker, part: pa.Table, first: int, where: str) -> Any:
        if first > 1000:
            raise DataError("broken")
        return rows(maker, part, first, where)

    monkeypatch.setattr(RowMaker, "rows", broken)
    with pytest.raises(DataError, match="broken"):
        load(folder)
    assert len(list((tmp_path / "cache" / "tables").rglob("*"))) == 2  # the table's folder, and its labels
    monkeypatch.undo()
    load(folder)
