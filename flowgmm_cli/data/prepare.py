"""The one way from the `data` section of a recipe to tensors.

rows = load_rows(recipe.data, context)
preprocessor = fit_preprocessor(rows, recipe.data, context)
train = preprocessor.apply(rows.train, context)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import torch

from flowgmm_cli.api import (
    Column,
    Component,
    DataConfig,
    DataContext,
    Rows,
    SourceData,
)
from flowgmm_cli.bijection import Sequential
from flowgmm_cli.data.feature_encoder import FeatureEncoder
from flowgmm_cli.data.fingerprint import fingerprint
from flowgmm_cli.data.large.source import LargeRows, LargeSource, split_large_table
from flowgmm_cli.data.lazy_dataset import is_lazy
from flowgmm_cli.data.preprocessor import Preprocessor, encoder_factory
from flowgmm_cli.data.readers.base import note_once
from flowgmm_cli.data.splits import divide
from flowgmm_cli.data.transforms.base import Transform
from flowgmm_cli.errors import DataError
from flowgmm_cli.plugins.registry import build

if TYPE_CHECKING:
    from flowgmm_cli.data.specs import MissingPolicy

_SAMPLE = 20_000  # rows of those on the disk that transforms are fitted to


@dataclass(frozen=True)
class SplitRows:
    """The rows of a run, divided, with hidden labels.

    Attributes:
        columns: the input columns, in order.
        class_names: index -> name; only classes that a labelled training row shows.
        train: labels are -1 except in the labelled rows.
        val: labels are -1 except where they may be used: rows of the labelled budget itself, or any if the
            recipe sets `split.val_labels`. None where nothing is held out.
        test: with their true labels. None where there is no test split.
        val_labels: whether `val` holds labels beyond the labelled budget, which every output must state.
        notes: what the user should know, one line each.
        fingerprint: hex digest of all of it; the same rows give the same one.
        large: the training rows where they stay in their files; `train` then holds those in memory.
    """

    columns: tuple[Column, ...]
    class_names: tuple[str, ...]
    train: Rows
    val: Rows | None
    test: Rows | None
    val_labels: bool
    notes: tuple[str, ...]
    fingerprint: str
    large: LargeRows | None = None


def load_rows(data: Component, context: DataContext) -> SplitRows:
    """Load a source's rows, divide them and hide the labels that may not be seen.

    Raises:
        DataError: the data is missing, malformed or has too few labels.
    """
    rows = _load_rows(data, context)
    pa.default_memory_pool().release_unused()  # of the columns of the source
    return rows


def _load_rows(data: Component, context: DataContext) -> SplitRows:
    config = cast(DataConfig, data.config)
    context = replace(context, note=note_once(context))
    source: SourceData = build(data, context).load()
    pa.default_memory_pool().release_unused()  # of tables
    large: LargeRows | None = None
    if isinstance(source, LargeSource):
        division, large, digest = split_large_table(
            source, labels=config.labels, split=config.split, context=context
        )
    else:
        _check(source, data.use)
        division = divide(source, labels=config.labels, split=config.split)
        splits = {"train": division.train, "val": division.val, "test": division.test}
        there = {name: rows for name, rows in splits.items() if rows is not None}
        digest = fingerprint(source.columns, division.class_names, there)
    return SplitRows(
        columns=source.columns,
        class_names=division.class_names,
        train=division.train,
        val=division.val,
        test=division.test,
        val_labels=config.split.val_labels and division.val is not None,
        notes=(*source.notes, *division.notes),
        fingerprint=digest,
        large=large,
    )


def fit_preprocessor(rows: SplitRows, data: Component, context: DataContext) -> Preprocessor:
    """Fit features and transforms to the training rows, labelled or not.

    Of rows that stay on the disk, transforms are fitted to a sample.

    Raises:
        DataError: no usable column, or missing cells that may not be.
    """
    config = cast(DataConfig, data.config)
    # Both mean the same in every source that has them, see specs.py.
    missing: MissingPolicy = getattr(config, "missing", "error")
    feature_encoder = FeatureEncoder.fit(
        rows.train,
        rows.columns,
        missing=missing,
        encoder=encoder_factory(config, context),
        statistics=None if rows.large is None else rows.large.statistics,
    )
    # labelled rows may be of rare classes more often than others are
    seen = rows.train if rows.large is None else rows.train.take(rows.large.sample)
    if any(is_lazy(seen.columns[column.name]) for column in rows.columns) and len(seen) > _SAMPLE:
        seen = seen.take(np.unique(np.linspace(0, len(seen) - 1, _SAMPLE).astype(np.int64)))
    x = torch.from_numpy(feature_encoder.transform(seen, context))
    transforms: list[Transform] = []
    for component in config.transforms:
        if transforms:
            x = transforms[-1](x.double())[0]
        transform: Transform = build(component, features=x.shape[1])
        transform.fit(x.double() if transform.fits else x)
        transforms.append(transform)
    return Preprocessor(feature_encoder, Sequential(transforms))


def _check(source: SourceData, use: str) -> None:
    """Hold a source, ours or a plugin's, to its contract."""
    for split, rows in source.splits.items():
        sizes = {len(rows), len(rows.ids), *(len(rows.columns[column.name]) for column in source.columns)}
        if len(sizes) != 1:
            raise DataError(f"data source `{use}`: columns, labels and ids of `{split}` differ in length")
        if len(rows) == 0:
            raise DataError(f"data source `{use}`: the split `{split}` has no rows")
        if rows.labels.min() < -1 or rows.labels.max() >= len(source.class_names):
            raise DataError(f"data source `{use}`: a label of `{split}` is no index into the class names")
