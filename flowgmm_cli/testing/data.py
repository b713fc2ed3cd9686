"""Checks of data sources."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal
from unittest import SkipTest

import numpy as np

from flowgmm_cli.api import Column, DataContext, DataError, Kind, Rows, SourceData
from flowgmm_cli.testing.check import Finding, check, expect
from flowgmm_cli.testing.component import Conformance, scratch
from flowgmm_cli.testing.surroundings import no_network, random_numbers_left_alone, shared_seed

_SHAPED = {"vector": (1, 2, 3), "image": (2, 3)}


class DataConformance(Conformance):
    """What holds for every data source. `config` names data that are there when the checks run.

        class TestMySource(DataConformance):
            name = "my_source"
            config = {"n": 50}

    Attributes:
        offline: `loads` where the source gives its rows without the network, else `refuses`: with
            `context.offline` it then raises `DataError` and connects to nothing.
        missing: parameters that name data which is not there; None where there are no such.
        shared_rows: largest share of the test rows that may be equal to a training row.
    """

    kind: ClassVar[Kind] = "data"
    offline: ClassVar[Literal["loads", "refuses"]] = "loads"
    missing: ClassVar[Mapping[str, Any] | None] = None
    shared_rows: ClassVar[float] = 0.5

    @contextmanager
    def surroundings(self, *, offline: bool = True) -> Iterator[DataContext]:
        """A context with an empty cache of its own."""
        with tempfile.TemporaryDirectory() as folder:
            yield DataContext(offline=offline, cache_dir=str(scratch(folder)))

    def load(self, **values: Any) -> SourceData:
        """The source's data; without the network where the source can do that."""
        with self.surroundings(offline=self.offline == "loads") as context:
            found: SourceData = self.build_with(values, context).load()
        return found

    def _splits(self) -> tuple[SourceData, list[tuple[str, Rows]]]:
        source = self.load()
        expect(isinstance(source, SourceData), f"`load` gives a `{type(source).__name__}`, not SourceData")
        return source, list(source.splits.items())

    @check(
        "return SourceData with the split `train` and, where the data are divided already, `test` and `val`"
    )
    def test_splits_hold_rows(self) -> None:
        """There is a split `train`; every split holds rows, of equal length in all its parts."""
        source, splits = self._splits()
        expect(
            "train" in source.splits, f"there is no split `train`, but {', '.join(source.splits) or 'none'}"
        )
        strange = set(source.splits) - {"train", "val", "test"}
        expect(not strange, f"splits are train, val and test, not {', '.join(sorted(strange))}")
        for name, rows in splits:
            expect(len(rows) > 0, f"`{name}` has no rows")
            lengths = {"ids": len(rows.ids)}
            for column in source.columns:
                expect(column.name in rows.columns, f"`{name}` lacks the column `{column.name}`")
                lengths[column.name] = len(rows.columns[column.name])
            wrong = [part for part, length in lengths.items() if length != len(rows)]
            expect(not wrong, f"`{name}` has {len(rows)} labels, but another number of {', '.join(wrong)}")

    @check("see flowgmm_cli.api.Column for what each kind of column holds")
    def test_columns_hold_what_they_say(self) -> None:
        """Numbers are float64, texts and categories are strings or None, vectors have their shape."""
        source, splits = self._splits()
        expect(source.columns, "there is no input column")
        names = [column.name for column in source.columns]
        expect(len(set(names)) == len(names), "two columns have one name")
        for name, rows in splits:
            for column in source.columns:
                fault = _fault(column, rows.columns[column.name])
                expect(not fault, f"`{name}`: column `{column.name}` ({column.kind}) {fault}")

    @check("labels are int64 indices into `class_names`, -1 where a row has none")
    def test_labels_are_indices_of_classes(self) -> None:
        """Labels are indices into the class names or -1; class names are different strings."""
        source, splits = self._splits()
        names = source.class_names
        expect(all(isinstance(one, str) and one for one in names), "a class name is no string, or empty")
        expect(len(set(names)) == len(names), "two classes have one name")
        for name, rows in splits:
            labels = np.asarray(rows.labels)
            expect(labels.dtype == np.int64, f"labels of `{name}` are {labels.dtype}, not int64")
            good = labels.min() >= -1 and labels.max() < len(names)
            expect(good, f"labels of `{name}` are {labels.min()} to {labels.max()} for {len(names)} classes")
        expect((source.splits["train"].labels >= 0).any(), "no training row has a label")

    @check("give each row an id that is a string of its own, such as its place in the source's file")
    def test_ids_are_unique(self) -> None:
        """No two rows of a split have one id."""
        _, splits = self._splits()
        for name, rows in splits:
            kinds = {type(one).__name__ for one in np.asarray(rows.ids).tolist()}
            expect(kinds == {"str"}, f"ids of `{name}` are of the type {', '.join(sorted(kinds))}, not str")
            twice = len(rows) - len(set(np.asarray(rows.ids).tolist()))
            expect(not twice, f"{twice} rows of `{name}` have the id of another one")

    @check("derive ids from the data, never from the order of a set, the time, or a random number")
    def test_ids_are_stable(self) -> None:
        """Loading again gives the same ids in the same order."""
        first, second = self.load(), self.load()
        for name, rows in first.splits.items():
            same = np.array_equal(np.asarray(rows.ids), np.asarray(second.splits[name].ids))
            expect(same, f"`{name}` has other ids, or another order, when loaded again")

    @check("draw with `np.random.default_rng(config.seed)`, and sort what the file system lists")
    def test_same_parameters_same_data(self) -> None:
        """Loading again gives the same rows, whatever the process's random numbers are."""
        with shared_seed(1):
            first = self.load()
        with shared_seed(2):
            second = self.load()
        expect(first.class_names == second.class_names, "the classes are others when loaded again")
        for name, rows in first.splits.items():
            other = second.splits[name]
            expect(np.array_equal(rows.labels, other.labels), f"labels of `{name}` differ when loaded again")
            for column in first.columns:
                one, two = rows.columns[column.name], other.columns[column.name]
                same = _cells(one) == _cells(two)
                expect(same, f"`{name}`: column `{column.name}` differs when loaded again")

    @check("give every row to one split only")
    def test_splits_are_disjoint(self) -> None:
        """No row is in two splits, by its id or by what it holds."""
        source, splits = self._splits()
        for index, (name, rows) in enumerate(splits):
            for other, more in splits[:index]:
                both = set(map(str, rows.ids)) & set(map(str, more.ids))
                expect(
                    not both, f"{len(both)} ids are in `{other}` and in `{name}`, such as {min(both or 'x')}"
                )
        cells = {name: [_row(source, rows, index) for index in range(len(rows))] for name, rows in splits}
        for name in cells:
            if name != "train":
                known = set(cells["train"])
                share = sum(one in known for one in cells[name]) / max(1, len(cells[name]))
                expect(
                    share <= self.shared_rows,
                    f"{share:.0%} of the rows of `{name}` are equal to a row of `train`",
                )

    @check("look at `context.offline` before anything else connects; raise DataError and say what to do")
    def test_offline_is_honoured(self) -> None:
        """With `context.offline` nothing connects to the network."""
        with self.surroundings() as context, no_network("loading with `offline`"):
            if self.offline == "loads":
                self.build(context).load()
                return
            try:
                self.build(context).load()
            except DataError as error:
                expect(error.hint, "the DataError of an offline source has no `hint` what to do")
            else:
                raise Finding("it loads offline; set `offline = 'loads'` in the suite")

    @check("draw from `np.random.default_rng(seed)`, with `seed` a parameter")
    def test_global_random_numbers_are_left_alone(self) -> None:
        """Loading neither draws from nor seeds the process's random numbers."""
        self.load()  # what is imported only now may do what it likes
        with random_numbers_left_alone("loading"):
            self.load()

    @check("raise flowgmm_cli.api.DataError with what is missing, where it was looked for, and a hint")
    def test_missing_data_is_a_data_error(self) -> None:
        """Data that is not there is a DataError, with a message for people."""
        if self.missing is None:
            raise SkipTest("the suite names no parameters for missing data")
        try:
            self.load(**self.missing)
        except DataError as error:
            expect(str(error).strip(), "the DataError has no message")
        else:
            raise Finding(f"{dict(self.missing)} loads without an error")

    @check("look at what the message says; `flowgmm train --dry-run` shows it, too")
    def test_rows_become_features(self) -> None:
        """The rows pass through division, transforms and featurising, and come out finite."""
        from flowgmm_cli.data.splits import divide
        from flowgmm_cli.testing.pipeline import features_of

        source, _ = self._splits()
        config: Any = self.component().config
        division = divide(source, labels=config.labels, split=config.split)
        with self.surroundings(offline=self.offline == "loads") as context:
            x = features_of(division.train, source.columns, config, context)
        expect(x.shape[1] > 0, "no feature is left")
        expect(bool(np.isfinite(x).all()), "features are not finite")


def _fault(column: Column, values: Any) -> str:
    """What is wrong with a column's values; empty if nothing is."""
    array = np.asarray(values)
    if column.kind == "numeric":
        if array.dtype != np.float64 or array.ndim != 1:
            return f"holds {array.dtype} in {array.ndim} dimensions, not float64 in one"
    elif column.kind in ("text", "category"):
        wrong = {type(one).__name__ for one in array.tolist() if not isinstance(one, str | None)}
        if array.dtype != object or wrong:
            return f"holds {', '.join(sorted(wrong)) or array.dtype}, not objects that are str or None"
    else:
        if array.shape[1:] != tuple(column.shape):
            return f"has rows of the shape {array.shape[1:]}, and says {tuple(column.shape)}"
        if array.ndim - 1 not in _SHAPED[column.kind] or array.dtype.kind not in "fiu":
            return f"has {array.dtype} rows of {array.ndim - 1} dimensions"
    return ""


def _cells(values: Any) -> Any:
    array = np.asarray(values)
    return array.tolist() if array.dtype == object else (array.shape, array.dtype.str, array.tobytes())


def _row(source: SourceData, rows: Rows, index: int) -> tuple[Any, ...]:
    cells = (np.asarray(rows.columns[column.name])[index] for column in source.columns)
    return tuple(one.tobytes() if isinstance(one, np.ndarray | np.generic) else one for one in cells)
