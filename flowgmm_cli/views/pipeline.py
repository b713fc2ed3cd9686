"""The two views of a recipe, from the forms in which a row is kept to the input of the flow."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import (
    Component,
    DataConfig,
    DataContext,
    Rows,
    TextView,
    TextViewConfig,
    View,
    ViewsConfig,
)
from flowgmm_cli.bijection import Bijection
from flowgmm_cli.data.cache import cache_folder
from flowgmm_cli.data.images.format import image_shape
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.data.tensors import Tensors, TextCopies, load_tensor
from flowgmm_cli.data.transforms.base import Transform
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.seeds import derive_seed
from flowgmm_cli.views.specs import select_level

Name = Literal["weak", "strong"]

_SEEDS_PER_VIEW = 1000  # more than a view can have copies


@dataclass(frozen=True)
class AugmentationPipeline:
    """A view of a recipe: changes of texts, then of inputs, then of features.

    Texts are changed and encoded before training; one of the changed copies of each row is picked at random.

    Attributes:
        name: `weak` or `strong`; names the copies to pick from.
        texts: True if texts are changed.
        inputs: changes of the feature matrix, first to last.
        transforms: from the feature matrix to the input of the flow, in float32 on the device of the rows;
            given where rows start from the matrix, because it is changed or because a transform is random.
        features: changes of the input of the flow, first to last.
        space: map behind which `features` act; None = the input of the flow itself.
    """

    name: Name
    texts: bool = False
    inputs: Sequence[View] = ()
    transforms: Sequence[Transform] | None = None
    features: Sequence[View] = ()
    space: Bijection | None = None

    def __call__(self, rows: Tensors, generator: torch.Generator) -> Tensor:
        """Return the input of the flow, `(N, D)`; random numbers come from `generator` alone."""
        x = self._start(rows, generator)
        if self.transforms is not None:
            # matrix products in bfloat16 would not give the rows that the flow sees at inference
            with torch.autocast(x.device.type, enabled=False):
                x = x.float()
                for change in self.inputs:
                    x = change(x, generator)
                for transform in self.transforms:
                    x = transform.draw(x, generator)
        if self.space is None or not self.features:
            return self._change_features(x, generator)
        with torch.no_grad():
            return self.space.inverse(self._change_features(self.space(x)[0], generator))

    def _change_features(self, x: Tensor, generator: torch.Generator) -> Tensor:
        for change in self.features:
            x = change(x, generator)
        return x

    def _start(self, rows: Tensors, generator: torch.Generator) -> Tensor:
        if self.texts:
            return rows.copies[self.name].pick(generator)
        if self.transforms is None:
            return load_tensor(rows.x)
        if rows.inputs is None:
            raise ValueError(f"the {self.name} view starts from inputs, and the rows come without them")
        return load_tensor(rows.inputs)


def build_pipeline(
    name: Name,
    views: Sequence[Component],
    *,
    preprocessor: Preprocessor | None,
    device: torch.device,
    space: Bijection | None = None,
) -> AugmentationPipeline:
    """Build the `views` that a recipe lists under `data.views.weak` or `data.views.strong`.

    The `preprocessor` may be None where no view changes inputs and no transform is random; `device` is that
    of the rows; `space` is a map behind which changes of features act.

    Raises:
        RecipeError: a view changes images, and no column holds images.
    """
    texts = bool(select_level("text", views))
    features = [build(view) for view in select_level("features", views)]
    on_inputs = select_level("inputs", views)
    if not on_inputs and (preprocessor is None or not preprocessor.random):
        return AugmentationPipeline(name, texts=texts, features=features, space=space)
    if preprocessor is None:
        raise ValueError("views of inputs need the preprocessor of the rows")
    # not every device has float64
    layers = copy.deepcopy(preprocessor.transforms).to(torch.float32).to(device).layers
    transforms = [layer for layer in layers if isinstance(layer, Transform)]
    inputs = [change for view in on_inputs for change in _on_image_columns(view, preprocessor)]
    return AugmentationPipeline(name, texts, inputs, transforms, features, space)


@dataclass(frozen=True)
class ImageColumnView:
    """A change of the images of one column; the rest of the feature matrix stays as it is.

    The `change` takes images `(N, *shape)`, which lie at `columns` of the matrix.
    """

    change: View
    columns: slice
    shape: tuple[int, ...]

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a matrix of the shape of `x`, `(N, F)`."""
        entries = x[:, self.columns]
        changed = self.change(entries.reshape(len(x), *self.shape), generator)
        before, after = x[:, : self.columns.start], x[:, self.columns.stop :]
        return torch.cat([before, changed.reshape(entries.shape), after], dim=1)


def _on_image_columns(view: Component, preprocessor: Preprocessor) -> list[ImageColumnView]:
    layout, changes = preprocessor.feature_encoder.layout, []
    for column, place in layout:
        encoded = column in preprocessor.feature_encoder.encoded
        if (shape := image_shape(column)) is not None and not encoded:
            low, high = preprocessor.ranges.get(column.name, (0.0, 1.0))
            change = build(view, shape=shape, high=high if low >= 0 else math.nan)
            changes.append(ImageColumnView(change, place, shape))
    if not changes:
        raise RecipeError(
            f"the view `{view.use}` changes images, and no column of the data holds images",
            details=[
                f"column `{column.name}` is {column.kind}" + (f" {column.shape}" if column.shape else "")
                for column, _ in layout
            ],
            hint="keep the shape of images in the arrays, (N, height, width) or (N, channels, height, "
            "width), or take the view out of data.views",
        )
    return changes


def view_settings(recipe: Recipe) -> ViewsConfig:
    """Return the views of a recipe, `data.views`."""
    return cast(DataConfig, recipe.data.config).views


def encode_text_copies(
    views: ViewsConfig, seed: int, rows: Rows, preprocessor: Preprocessor, context: DataContext, *, part: str
) -> Mapping[str, TextCopies]:
    """Encode changed copies of some rows, for each of the two views that changes texts.

    A view has as many copies as the largest `copies` of its changes of texts; every copy goes through all of
    them. The changes depend on the `seed` of the run and the `part` alone, which is `train` or `val`. The
    vectors are kept in the embedding cache.

    Returns:
        By view, float32 `(N, copies, D)`, or `(N, copies, F)` where the view goes on to change inputs.

    Raises:
        RecipeError: a view changes texts, and the data has none.
    """
    tables = {}
    for number, (name, listed) in enumerate((("weak", views.weak), ("strong", views.strong))):
        changes = select_level("text", listed)
        copies = [change.config.copies for change in changes if isinstance(change.config, TextViewConfig)]
        if not copies:
            continue
        first = _SEEDS_PER_VIEW * (2 * number + ("train", "val").index(part))
        encoded = []
        for index in range(max(copies)):
            copy_seed = derive_seed(seed, "texts", first + index)
            # a cache folder of its own keeps unchanged texts quick to look up
            description = f"{json.dumps([change.to_dict() for change in changes])} {copy_seed}"
            digest = blake2b(description.encode(), digest_size=16).hexdigest()
            split = preprocessor.apply(
                _change_texts(rows, changes, preprocessor, np.random.default_rng(copy_seed)),
                replace(context, cache_dir=str(cache_folder(context, "views") / digest)),
                with_inputs=bool(select_level("inputs", listed)),
            )
            encoded.append(split.x if split.inputs is None else split.inputs)
        tables[name] = TextCopies(torch.stack(encoded, dim=1))
    return tables


def _change_texts(
    rows: Rows, changes: Sequence[Component], preprocessor: Preprocessor, generator: np.random.Generator
) -> Rows:
    names = [column.name for column in preprocessor.columns if column.kind == "text"]
    if not names:
        raise RecipeError(
            f"the view `{changes[0].use}` changes texts, and no column of the data holds texts",
            hint="name the column in data.text, or take the view out of data.views",
        )
    views: list[TextView] = [build(change) for change in changes]
    columns = dict(rows.columns)
    for name in names:
        texts = ["" if cell is None else str(cell) for cell in columns[name]]
        for view in views:
            texts = view(texts, generator)
        columns[name] = np.array(texts, dtype=object)
    return replace(rows, columns=columns)
