"""Rows of a run as tensors; the fitted preprocessor is saved beside the checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import DataConfig, DataContext, Rows
from flowgmm_cli.data.large.stream import RowStream
from flowgmm_cli.data.lazy_dataset import RowStore, is_lazy
from flowgmm_cli.data.prepare import fit_preprocessor, load_rows
from flowgmm_cli.data.preprocessor import Preprocessor, Tensors
from flowgmm_cli.data.readers.base import note_once
from flowgmm_cli.data.splits import SplitRows
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run
from flowgmm_cli.training.validation import require_held_out
from flowgmm_cli.views.pipeline import encode_text_copies
from flowgmm_cli.views.specs import select_level


@dataclass(frozen=True)
class TrainSplit:
    """The training rows; rows that stay on the disk are read when they are used.

    See `flowgmm_cli.data.row_tensors.RowTensors`. For a table larger than memory these are the labelled rows
    and some others, and `stream` reads all of them.
    """

    x: RowStore
    labels: Tensor
    inputs: RowStore | None = None
    copies: Mapping[str, Tensor] = field(default_factory=dict)
    stream: RowStream | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def total(self) -> int:
        """Number of training rows, in memory and on the disk."""
        return len(self) if self.stream is None else len(self.stream)


@dataclass(frozen=True)
class PreparedData:
    """Rows as tensors, with the fitted preprocessor."""

    rows: SplitRows
    preprocessor: Preprocessor
    train: TrainSplit
    val: Tensors | None
    test: Tensors | None

    @property
    def classes(self) -> int:
        """Number of classes, K."""
        return len(self.rows.class_names)

    def counts(self) -> dict[str, int]:
        """Count rows and visible labels, by name, for people and `run.json`."""
        return {
            "train": self.train.total,
            "labelled": int((self.train.labels >= 0).sum()),
            "val": len(self.val) if self.val else 0,
            "val_labelled": int((self.val.labels >= 0).sum()) if self.val else 0,
            "test": len(self.test) if self.test else 0,
        }

    def describe(self) -> list[str]:
        """Describe rows and labels in lines for people."""
        n = self.counts()
        rows = (
            f"data    {n['train']:,} training rows, {n['labelled']:,} labelled · {n['val']:,} held out · "
            f"{n['test']:,} test rows · {self.classes} classes · {self.preprocessor.dim} features"
        )
        labels = (
            f"labels  {n['val_labelled']:,} validation labels beyond the labelled rows serve early "
            "stopping and calibration (data.split.val_labels)"
        )
        return [rows, labels] if self.rows.val_labels else [rows]


def prepare(recipe: Recipe, context: DataContext, *, run: Run | None = None) -> PreparedData:
    """Load, split and transform the rows; a resumed run reads its fitted preprocessor.

    Raises:
        DataError: the data is missing or malformed.
        RecipeError: the recipe needs held-out rows or labels, or texts, and the data has none.
        RunError: the data has changed since the run began.
    """
    rows = load_rows(recipe.data, context)
    require_held_out(recipe, rows)
    preprocessor = None
    if run is not None:
        run.require_same_data(rows.fingerprint)
        preprocessor = Preprocessor.load(run.checkpoints, data=recipe.data, context=context)
    if preprocessor is None:
        preprocessor = fit_preprocessor(rows, recipe.data, context)
        if run is not None:
            run.update(fingerprint=rows.fingerprint)  # first, or a killed run would have none
            preprocessor.save(run.checkpoints)
    return _transform(recipe, rows, preprocessor, context)


def prepare_rows(recipe: Recipe, rows: SplitRows, context: DataContext) -> PreparedData:
    """Transform rows in memory, with the errors of `prepare`; the recipe's source is not read."""
    require_held_out(recipe, rows)
    return _transform(recipe, rows, fit_preprocessor(rows, recipe.data, context), context)


def _transform(
    recipe: Recipe, rows: SplitRows, preprocessor: Preprocessor, context: DataContext
) -> PreparedData:
    """Transform all splits, with the feature matrix and copies from which views of the recipe start."""
    views = cast(DataConfig, recipe.data.config).views
    with_inputs = preprocessor.random or bool(select_level("inputs", [*views.weak, *views.strong]))

    def transform(part: Rows, name: str) -> Tensors:
        split = preprocessor.apply(part, context, with_inputs=with_inputs)
        return replace(split, copies=encode_text_copies(recipe, part, preprocessor, context, part=name))

    if any(is_lazy(rows.train.columns[column.name]) for column in preprocessor.columns):
        x, inputs = preprocessor.apply_lazily(rows.train, context)
        labels = torch.from_numpy(rows.train.labels.astype(np.int64))
        train = TrainSplit(x, labels, inputs if with_inputs else None)
    else:
        split = transform(rows.train, "train")
        stream = _stream(rows, preprocessor, context, with_inputs=with_inputs)
        train = TrainSplit(split.x, split.labels, split.inputs, split.copies, stream)
    val = None if rows.val is None else transform(rows.val, "val")
    test = preprocessor.apply(rows.test, context) if rows.test is not None else None
    return PreparedData(rows, preprocessor, train, val, test)


def _stream(
    rows: SplitRows, preprocessor: Preprocessor, context: DataContext, *, with_inputs: bool
) -> RowStream | None:
    """Reader of the training rows of a table larger than memory; None for any other table."""
    if rows.large is None:
        return None
    quiet = replace(context, streaming=True, note=note_once(context))

    def transform(part: Rows) -> tuple[Tensor, ...]:
        split = preprocessor.apply(part, quiet, with_inputs=with_inputs)
        return (split.x,) if split.inputs is None else (split.x, split.inputs)

    numbers = preprocessor.dim + (len(preprocessor.feature_names) if with_inputs else 0)
    return RowStream(rows.large, transform, row_bytes=4 * numbers)
