"""Rows of a run as tensors; the fitted preprocessor is saved beside the checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.data.array_types import Bools
from flowgmm_cli.data.feature_encoder import Features
from flowgmm_cli.data.images.arrays import LazyPixels
from flowgmm_cli.data.out_of_core import build_store
from flowgmm_cli.data.prepare import fit_with_features, load_rows
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.data.splits import SplitData
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.errors import RecipeError, RunError
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run
from flowgmm_cli.training.start import Start
from flowgmm_cli.training.validation import require_held_out
from flowgmm_cli.views.pipeline import encode_text_copies, view_settings
from flowgmm_cli.views.specs import select_level


@dataclass(frozen=True)
class PreparedData:
    """Rows as tensors, with the fitted preprocessor."""

    rows: SplitData
    preprocessor: Preprocessor
    train: Tensors
    val: Tensors | None
    test: Tensors | None

    @property
    def classes(self) -> int:
        """Number of classes, K."""
        return len(self.rows.class_names)

    def find_uncertain_labels(self) -> Bools | None:
        """Return a mask of the rows whose label is uncertain; None without any, or without certain ones."""
        if self.train.targets is None:
            return None
        uncertain: Bools = self.train.targets.any(1).numpy()
        return uncertain if (self.train.labels.numpy()[~uncertain] >= 0).any() else None

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


def prepare(
    recipe: Recipe, context: DataContext, *, run: Run | None = None, start: Start | None = None
) -> PreparedData:
    """Load, split and transform the rows; a resumed run reads its fitted preprocessor.

    A run that goes on from another, `start`, takes the preprocessor and the test rows of that one.

    Raises:
        DataError: the data is missing or malformed.
        RecipeError: the recipe needs held-out rows or labels, or texts, and the data has none.
        RunError: the data has changed since the run began.
    """
    rows = load_rows(recipe.data, context, test=start.test_hashes if start else None)
    return prepare_rows(recipe, rows, context, run=run, start=start)


def prepare_rows(
    recipe: Recipe,
    rows: SplitData,
    context: DataContext,
    *,
    run: Run | None = None,
    start: Start | None = None,
) -> PreparedData:
    """Transform rows in memory, with the errors of `prepare`; the recipe's source is not read."""

    def fit() -> tuple[Preprocessor, Features | None]:
        if start:
            return start.trained.preprocessor, None
        return fit_with_features(rows, recipe.data, context)

    if start:
        start.require_same_rows(rows)
        rows = start.hide_known(rows)
    require_held_out(recipe, rows)
    if run is None:
        return _transform(recipe, rows, *fit(), context)
    run.require_same_data(rows.fingerprint)
    preprocessor, features = Preprocessor.load(run.checkpoints, data=recipe.data, context=context), None
    if preprocessor is None:
        preprocessor, features = fit()
        run.update(fingerprint=rows.fingerprint)  # first, or a killed run would have none
        preprocessor.save(run.checkpoints)
    elif not {column.name for column in preprocessor.columns} <= {column.name for column in rows.columns}:
        raise RunError(
            f"the preprocessor in {run.checkpoints} is damaged: it reads columns that the data does not have",
            hint="start a new run with the same recipe",
        )
    return _transform(recipe, rows, preprocessor, features, context)


def _transform(
    recipe: Recipe,
    rows: SplitData,
    preprocessor: Preprocessor,
    features: Features | None,
    context: DataContext,
) -> PreparedData:
    """Transform all splits, with the feature matrix and copies from which views of the recipe start.

    `features` are those of the training rows if they are known.
    """
    views = view_settings(recipe)
    with_inputs = preprocessor.random or bool(select_level("inputs", [*views.weak, *views.strong]))

    def transform(part: Rows, name: str, features: Features | None = None) -> Tensors:
        split = preprocessor.apply(part, context, with_inputs=with_inputs, features=features)
        copies = encode_text_copies(views, recipe.run.seed, part, preprocessor, context, part=name)
        return replace(split, copies=copies)

    pixels = set(preprocessor.columns) - set(preprocessor.feature_encoder.encoded)
    if any(isinstance(rows.train.columns[column.name], LazyPixels) for column in pixels):
        memory = int(2**30 * dict(recipe.data.config).get("memory", 2.0))
        train = preprocessor.apply_lazily(rows.train, context, with_inputs=with_inputs, memory=memory)
    else:
        split = transform(rows.train, "train", features)
        train = Tensors(split.x, split.labels, inputs=split.inputs, copies=split.copies)
        if rows.chunked is not None:
            if train.copies:
                raise RecipeError(
                    "the rows are larger than data.memory, and views of texts need all rows in memory",
                    hint="raise data.memory, or take these views out of data.views",
                )
            store, notes = build_store(rows, preprocessor, context, with_inputs=with_inputs)
            train, rows = replace(train, store=store), replace(rows, notes=(*rows.notes, *notes))
    if rows.weights is not None:
        train = replace(train, weights=torch.from_numpy(rows.weights).float())
    if rows.targets is not None:
        train = replace(train, targets=torch.from_numpy(rows.targets).float())
    val = None if rows.val is None else transform(rows.val, "val")
    test = preprocessor.apply(rows.test, context) if rows.test is not None else None
    return PreparedData(rows, preprocessor, train, val, test)
