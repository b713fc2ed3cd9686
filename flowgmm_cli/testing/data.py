"""Checks of data sources."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal
from unittest import SkipTest

import numpy as np

from flowgmm_cli.api import Column, DataContext, DataError, Kind, Rows, SourceData
from flowgmm_cli.data.fingerprint import row_hashes
from flowgmm_cli.testing.checks import check, expect
from flowgmm_cli.testing.component import Conformance
from flowgmm_cli.testing.isolation import forbid_network, global_seed

_DIMENSIONS = {"vector": (1, 2, 3), "image": (2, 3)}


class DataConformance(Conformance):
    """Checks of a data source. `config` names data that exist when the checks run.

        class TestMySource(DataConformance):
            name = "my_source"
            config = {"n": 50}

    The suite of a source that reads files writes them in `write_data`.

    Attributes:
        offline: `loads` if the source needs no network, else `refuses`: with `context.offline` it raises
            `DataError` and connects to nothing.
        missing: parameters that name missing data; None if that is impossible.
        shared_rows: largest share of the test rows that may be equal to a training row.
    """

    kind: ClassVar[Kind] = "data"
    offline: ClassVar[Literal["loads", "refuses"]] = "loads"
    missing: ClassVar[Mapping[str, Any] | None] = None
    shared_rows: ClassVar[float] = 0.5

    def write_data(self, folder: Path) -> None:
        """Write the files that `config` names; a suite that overrides it loads in `folder`."""

    @contextmanager
    def context(self, *, offline: bool = True) -> Iterator[DataContext]:
        """Make a context with an empty cache of its own, and the files of `write_data`."""
        with TemporaryDirectory(prefix="flowgmm-") as folder, ExitStack() as stack:
            if type(self).write_data is not DataConformance.write_data:
                data = Path(folder, "data")
                data.mkdir()
                self.write_data(data)
                stack.enter_context(chdir(data))
            yield DataContext(offline=offline, cache_dir=str(Path(folder, "cache")))

    def load(self, **values: Any) -> SourceData:
        """Load the source's data; without the network if the source can."""
        with self.context(offline=self.offline == "loads") as context:
            data: SourceData = self.build_with(values, context).load()
        return data

    def actions(self) -> Mapping[str, Callable[[], Any]]:
        """Return the loading of the data."""
        return {"loading": self.load}

    def _splits(self) -> tuple[SourceData, list[tuple[str, Rows]]]:
        source = self.load()
        expect(isinstance(source, SourceData), f"`load` gives a `{type(source).__name__}`, not SourceData")
        return source, list(source.splits.items())

    @check("return SourceData with the split `train` and, if the data has them, `test` and `val`")
    def test_splits_hold_rows(self) -> None:
        """The split `train` exists; every split has rows, and as many in each of its arrays."""
        source, splits = self._splits()
        expect("train" in source.splits, f"no split is `train`; the splits are {', '.join(source.splits)}")
        unknown = set(source.splits) - {"train", "val", "test"}
        expect(not unknown, f"splits are train, val and test, not {', '.join(sorted(unknown))}")
        for name, rows in splits:
            expect(len(rows) > 0, f"`{name}` has no rows")
            lengths = {"ids": len(rows.ids)}
            for column in source.columns:
                expect(column.name in rows.columns, f"`{name}` lacks the column `{column.name}`")
                lengths[column.name] = len(rows.columns[column.name])
            wrong = [part for part, length in lengths.items() if length != len(rows)]
            expect(not wrong, f"`{name}` has {len(rows)} labels, but not as many {', '.join(wrong)}")

    @check("see flowgmm_cli.api.Column for the values of each kind of column")
    def test_columns_hold_what_they_say(self) -> None:
        """Numbers are float64, texts and categories are strings or None, vectors have their shape."""
        source, splits = self._splits()
        expect(source.columns, "there is no input column")
        names = [column.name for column in source.columns]
        expect(len(set(names)) == len(names), "two columns have one name")
        for (name, rows), column in itertools.product(splits, source.columns):
            problem = _column_problem(column, rows.columns[column.name])
            expect(not problem, f"`{name}`: column `{column.name}` ({column.kind}) {problem}")

    @check("labels are int64 indices into `class_names`, -1 where a row has none")
    def test_labels_are_indices_of_classes(self) -> None:
        """Labels are indices into the class names or -1; class names are different strings."""
        source, splits = self._splits()
        names = source.class_names
        valid = all(isinstance(name, str) and name for name in names)
        expect(valid, "a class name is not a string, or is empty")
        expect(len(set(names)) == len(names), "two classes have one name")
        for name, rows in splits:
            labels = np.asarray(rows.labels)
            expect(labels.dtype == np.int64, f"labels of `{name}` are {labels.dtype}, not int64")
            low, high = labels.min(), labels.max()
            in_range = low >= -1 and high < len(names)
            expect(in_range, f"labels of `{name}` are {low} to {high} for {len(names)} classes")
        expect((source.splits["train"].labels >= 0).any(), "no training row has a label")

    @check("give each row an id that is a string of its own, such as its place in the source's file")
    def test_ids_are_unique(self) -> None:
        """No two rows of a split have one id."""
        for name, rows in self._splits()[1]:
            ids = np.asarray(rows.ids).tolist()
            types = {type(value).__name__ for value in ids}
            expect(types == {"str"}, f"ids of `{name}` are of the type {', '.join(sorted(types))}, not str")
            repeated = len(ids) - len(set(ids))
            expect(not repeated, f"{repeated} rows of `{name}` have the id of another row")

    @check("derive ids from the data, never from the order of a set, the time, or a random number")
    def test_ids_are_stable(self) -> None:
        """Loading again gives the same ids in the same order."""
        first, second = self.load(), self.load()
        for name, rows in first.splits.items():
            same = np.array_equal(np.asarray(rows.ids), np.asarray(second.splits[name].ids))
            expect(same, f"`{name}` has other ids, or another order, when loaded again")

    @check("draw with `np.random.default_rng(config.seed)`, and sort the file names of a folder")
    def test_same_parameters_same_data(self) -> None:
        """Loading again gives the same rows, also after other global random numbers."""
        with global_seed(1):
            first = self.load()
        with global_seed(2):
            second = self.load()
        expect(first.class_names == second.class_names, "the classes are others when loaded again")
        for name, rows in first.splits.items():
            other = second.splits[name]
            expect(np.array_equal(rows.labels, other.labels), f"labels of `{name}` differ when loaded again")
            for column in first.columns:
                same = np.array_equal(row_hashes(rows, [column]), row_hashes(other, [column]))
                expect(same, f"`{name}`: column `{column.name}` differs when loaded again")

    @check("give every row to one split only")
    def test_splits_are_disjoint(self) -> None:
        """No row is in two splits, by its id or by its values."""
        source, splits = self._splits()
        for (name, rows), (other, other_rows) in itertools.combinations(splits, 2):
            both = sorted(set(map(str, rows.ids)) & set(map(str, other_rows.ids)))
            expect(not both, f"{len(both)} ids are in `{name}` and in `{other}`, such as {''.join(both[:1])}")
        hashes = {name: row_hashes(rows, source.columns) for name, rows in splits}
        for name in hashes.keys() - {"train"}:
            share = np.isin(hashes[name], hashes["train"]).mean()
            expect(share <= self.shared_rows, f"{share:.0%} of the rows of `{name}` equal a row of `train`")

    @check("check `context.offline` before any connection; raise DataError with a hint")
    def test_offline_is_honoured(self) -> None:
        """With `context.offline` nothing connects to the network."""
        with self.context() as context, forbid_network("loading with `offline`"):
            try:
                self.build(context).load()
            except DataError as error:
                if self.offline == "loads":
                    raise
                expect(error.hint, "the DataError of an offline source has no `hint`")
            else:
                expect(self.offline == "loads", "it loads offline; set `offline = 'loads'` in the suite")

    @check("raise flowgmm_cli.api.DataError that names the missing data and its place, with a hint")
    def test_missing_data_is_a_data_error(self) -> None:
        """Missing data is a DataError, with a message for people."""
        if self.missing is None:
            raise SkipTest("the suite names no parameters for missing data")
        try:
            self.load(**self.missing)
        except DataError as error:
            expect(str(error).strip(), "the DataError has no message")
        else:
            raise AssertionError(f"{dict(self.missing)} loads without an error")

    @check("read the message; `flowgmm train --dry-run` shows it, too")
    def test_rows_become_features(self) -> None:
        """The rows can be divided into splits and turned into finite features."""
        from flowgmm_cli.data.prepare import fit_preprocessor
        from flowgmm_cli.data.splits import split_rows

        component = self.component()
        config: Any = component.config
        with self.context(offline=self.offline == "loads") as context:
            source = self.build(context).load()
            rows = split_rows(source, labels=config.labels, split=config.split)
            fit_preprocessor(rows, component, context).apply(rows.train, context)


def _column_problem(column: Column, values: Any) -> str:
    """Describe the defect of a column's values; empty for valid ones."""
    array = np.asarray(values)
    if column.kind in ("numeric", "date"):
        if array.dtype != np.float64 or array.ndim != 1:
            return f"holds {array.dtype} in {array.ndim} dimensions, not float64 in one"
    elif column.kind in ("text", "category"):
        wrong = {type(value).__name__ for value in array.tolist() if not isinstance(value, str | None)}
        if array.dtype != object or wrong:
            return f"holds {', '.join(sorted(wrong)) or array.dtype}, not objects that are str or None"
    elif array.shape[1:] != tuple(column.shape):
        return f"has rows of the shape {array.shape[1:]}, and declares {tuple(column.shape)}"
    elif array.ndim - 1 not in _DIMENSIONS[column.kind] or array.dtype.kind not in "fiu":
        return f"has {array.dtype} rows of {array.ndim - 1} dimensions"
    return ""
