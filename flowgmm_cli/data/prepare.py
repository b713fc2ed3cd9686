"""Load and split the rows of a recipe's `data` section, and fit their preprocessing.

rows = load_rows(recipe.data, context)
preprocessor = fit_preprocessor(rows, recipe.data, context)
train = preprocessor.apply(rows.train, context)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import torch

from flowgmm_cli.api import Component, DataContext, SourceData
from flowgmm_cli.bijection import Sequential
from flowgmm_cli.data.array_types import Floats, Hashes
from flowgmm_cli.data.feature_encoder import FeatureEncoder, Features
from flowgmm_cli.data.fingerprint import row_hashes
from flowgmm_cli.data.images.arrays import LazyPixels
from flowgmm_cli.data.labels import label_weights
from flowgmm_cli.data.out_of_core import ChunkedSource, split_chunked
from flowgmm_cli.data.preprocessor import Preprocessor, encoder_factory, has_no_text
from flowgmm_cli.data.readers.base import note_once, translate_errors
from flowgmm_cli.data.soft_labels import add_soft_labels
from flowgmm_cli.data.specs import DATE_PARTS
from flowgmm_cli.data.splits import SOFT_LABELS, SplitData, split_rows
from flowgmm_cli.data.transforms.base import Transform
from flowgmm_cli.errors import DataError
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.recipe.interpolate import variable_names

_MAX_FIT_ROWS = 20_000  # rows on disk that transforms are fitted to


def load_rows(data: Component, context: DataContext, *, test: Hashes | None = None) -> SplitData:
    """Load the rows of a source, split them, and mask the labels that must not be seen.

    `test` are `row_hashes` of rows that are test rows, if the source has no test split of its own.
    """
    try:
        rows = _load_rows(data, context, test)
    except DataError as error:
        unset = sorted(variable_names(data.to_dict()) - os.environ.keys())
        if not unset:
            raise
        message = f"{error.message}; the environment variable {unset[0]} is not set"
        hint = f"set {unset[0]}, which the data section of the recipe needs"
        raise DataError(message, details=error.details, hint=hint) from error
    pa.default_memory_pool().release_unused()  # of the columns of the source
    return rows


def _load_rows(data: Component, context: DataContext, test: Hashes | None) -> SplitData:
    config, context = dict(data.config), replace(context, note=note_once(context))
    labels, split = config["labels"], config["split"]
    with translate_errors(f"the source `{data.use}`"):
        source: SourceData = build(data, context).load()
    pa.default_memory_pool().release_unused()  # of tables
    if not isinstance(source, ChunkedSource):
        _validate(source, data.use)
    if labels.probabilities:
        source = add_soft_labels(source, labels.probabilities)
    source = _drop_empty_texts(source, fail=config.get("on_error") == "fail")
    if test is not None and not isinstance(source, ChunkedSource):
        source = _set_test_apart(source, test)
    if isinstance(source, ChunkedSource):
        rows = split_chunked(source, labels=labels, split=split, context=context)
    else:
        try:
            rows = split_rows(source, labels=labels, split=split)
        except DataError as error:  # columns that were left out may be the reason
            details = [*error.details, *source.notes]
            raise DataError(error.message, details=details, hint=error.hint) from error
    rows = replace(rows, notes=(*source.notes, *rows.notes))
    if config.get("weight") is not None:
        rows = _add_weights(rows, config["weight"])
    return _add_targets(rows, source.class_names) if labels.probabilities else rows


def _add_weights(rows: SplitData, column: str) -> SplitData:
    """Add the weights of labels, on which the fingerprint then depends."""
    if rows.chunked is not None:
        raise DataError(
            "data.weight needs all rows in memory, and these are read in chunks", hint="raise data.memory"
        )
    weights = label_weights(rows.train, column)
    return replace(rows, weights=weights, fingerprint=_digest(rows.fingerprint, weights))


def _add_targets(rows: SplitData, names: Sequence[str]) -> SplitData:
    """Add the probabilities of uncertain labels, of classes that have a labelled row, likewise."""
    p = rows.train.extras[SOFT_LABELS][:, [names.index(name) for name in rows.class_names]]
    targets = p / np.maximum(p.sum(1, keepdims=True), np.finfo(np.float64).tiny)
    return replace(rows, targets=targets, fingerprint=_digest(rows.fingerprint, targets))


def _digest(fingerprint: str, values: Floats) -> str:
    return blake2b(fingerprint.encode() + values.tobytes(), digest_size=len(fingerprint) // 2).hexdigest()


def _set_test_apart(source: SourceData, hashes: Hashes) -> SourceData:
    """Return the source with the rows of these `row_hashes` as its test split, unless it has one."""
    train = source.splits["train"]
    is_test = np.isin(row_hashes(train, source.columns), hashes)
    if "test" in source.splits or not is_test.any() or is_test.all():
        return source
    return replace(
        source, splits={**source.splits, "train": train.take(~is_test), "test": train.take(is_test)}
    )


def _drop_empty_texts(source: SourceData, *, fail: bool) -> SourceData:
    """Leave out rows whose only input is an empty text, with a note.

    Raises:
        DataError: there is such a row and `fail` is True, or a split has no others.
    """
    splits, notes = dict(source.splits), list(source.notes)
    for name, rows in source.splits.items():
        empty = has_no_text(rows, source.columns)
        if not (count := int(empty.sum())):
            continue
        where = f" of the {name} split" if len(splits) > 1 else ""
        message = (
            f"{count:,} of {len(rows):,} rows{where} have no text, the first is {rows.ids[empty.argmax()]}"
        )
        if fail or count == len(rows):
            hint = "write their texts" + ("" if count == len(rows) else ", or set data.on_error=keep")
            raise DataError(message, hint=hint)
        notes.append(f"{message}; they are left out")
        splits[name] = rows.take(np.flatnonzero(~empty))
    return replace(source, splits=splits, notes=tuple(notes))


def fit_preprocessor(rows: SplitData, data: Component, context: DataContext) -> Preprocessor:
    """Fit column encoders and transforms to the training rows, labelled and unlabelled.

    For rows on disk, transforms are fitted to a sample.
    """
    return fit_with_features(rows, data, context)[0]


def fit_with_features(
    rows: SplitData, data: Component, context: DataContext
) -> tuple[Preprocessor, Features | None]:
    """Return the preprocessor and the features of the training rows, for `apply`; None for a sample."""
    config = dict(data.config)
    # of a large table, labelled rows would make rare classes too frequent
    sample = rows.train if rows.chunked is None else rows.train.take(rows.chunked.sample)
    chosen = {*(config.get("features") or ()), *(config.get("categorical") or ())}
    feature_encoder = FeatureEncoder.fit(
        sample,
        rows.columns,
        encoder=encoder_factory(data, context),
        # parameters that mean the same in every source that has them, see `data.specs`
        missing=config.get("missing", "error"),
        dates=config.get("dates", DATE_PARTS),
        categorical=config.get("categorical"),
        chosen=chosen if "features" in config else None,
        labelled=rows.train,
        statistics=None if rows.chunked is None else rows.chunked.statistics,
    )
    if (
        any(isinstance(sample.columns[column.name], LazyPixels) for column in rows.columns)
        and len(sample) > _MAX_FIT_ROWS
    ):
        sample = sample.take(np.unique(np.linspace(0, len(sample) - 1, _MAX_FIT_ROWS).astype(np.int64)))
    features = feature_encoder.transform(sample, context)
    x = torch.from_numpy(features)
    transforms: list[Transform] = []
    for component in config["transforms"]:
        if transforms:
            x = transforms[-1](x.double())[0]
        transform: Transform = build(component, features=x.shape[1])
        transform.fit(x.double() if transform.fits else x)
        transforms.append(transform)
    has_all_rows = len(features) == len(rows.train) and rows.chunked is None
    return Preprocessor(feature_encoder, Sequential(transforms)), features if has_all_rows else None


def _validate(source: SourceData, use: str) -> None:
    """Check that a source, built-in or of a plugin, keeps its contract."""
    for split, rows in source.splits.items():
        sizes = {len(rows), len(rows.ids), *(len(rows.columns[column.name]) for column in source.columns)}
        if len(sizes) != 1:
            raise DataError(f"data source `{use}`: columns, labels and ids of `{split}` differ in length")
        if len(rows) == 0:
            raise DataError(f"data source `{use}`: the split `{split}` has no rows")
        if rows.labels.min() < -1 or rows.labels.max() >= len(source.class_names):
            raise DataError(f"data source `{use}`: a label of `{split}` is not an index into the class names")
