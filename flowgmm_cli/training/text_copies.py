"""Rows with changed texts, encoded once before training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import Component, DataConfig, DataContext, Rows, TextView, TextViewConfig
from flowgmm_cli.data.cache import user_cache_dir
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.seeds import derive_seed
from flowgmm_cli.views.specs import select_level

_MANY = 1000  # more than a view can have copies


def text_copies(
    recipe: Recipe, rows: Rows, preprocessor: Preprocessor, context: DataContext, *, part: str
) -> Mapping[str, Tensor]:
    """Encode changed copies of some rows, for each of the two views that changes texts.

    A view has as many copies as the largest `copies` of its changes of texts, all of which every copy goes
    through. What is changed depends on `run.seed` and the part alone. The vectors are kept in the embedding
    cache, in a folder of their own, so that the vectors of unchanged texts stay quick to find.

    Args:
        recipe: names the views.
        rows: training or held-out rows.
        preprocessor: fitted to the unchanged training rows.
        context: surroundings.
        part: `train` or `val`.

    Returns:
        By view, float32 `(N, copies, D)`, or `(N, copies, F)` where the view goes on to change inputs.

    Raises:
        RecipeError: a view changes texts, and the data has none.
    """
    views = cast(DataConfig, recipe.data.config).views
    found = {}
    for place, (name, listed) in enumerate((("weak", views.weak), ("strong", views.strong))):
        changes = select_level("text", listed)
        if not changes:
            continue
        first = _MANY * (2 * place + ("train", "val").index(part))
        copies = max(cast(TextViewConfig, change.config).copies for change in changes)
        seeds = [derive_seed(recipe.run.seed, "texts", first + number) for number in range(copies)]
        on_inputs = bool(select_level("inputs", listed))
        encoded = []
        for changed, own in _changed(rows, changes, seeds, preprocessor, context):
            split = preprocessor.apply(changed, own, with_inputs=on_inputs)
            encoded.append(split.x if split.inputs is None else split.inputs)
        found[name] = torch.stack(encoded, dim=1)
    return found


def _changed(
    rows: Rows,
    changes: Sequence[Component],
    seeds: Sequence[int],
    preprocessor: Preprocessor,
    context: DataContext,
) -> Iterator[tuple[Rows, DataContext]]:
    """The rows with changed texts, once for each seed, with a place in the cache for each."""
    names = [column.name for column in preprocessor.columns if column.kind == "text"]
    if not names:
        raise RecipeError(
            f"the view `{changes[0].use}` changes texts, and no column of the data holds texts",
            hint="name the column in data.text, or take the view out of data.views",
        )
    views: list[TextView] = [build(change) for change in changes]
    described = json.dumps([change.to_dict() for change in changes])
    for seed in seeds:
        generator = np.random.default_rng(seed)
        columns = dict(rows.columns)
        for name in names:
            texts = ["" if cell is None else str(cell) for cell in columns[name]]
            for view in views:
                texts = view(texts, generator)
            columns[name] = np.array(texts, dtype=object)
        digest = blake2b(f"{described} {seed}".encode(), digest_size=16).hexdigest()
        base = Path(context.cache_dir) if context.cache_dir else user_cache_dir()
        own = dataclasses.replace(context, cache_dir=str(base / "views" / digest))
        yield dataclasses.replace(rows, columns=columns), own
