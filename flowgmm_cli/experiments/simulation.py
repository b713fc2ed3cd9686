"""The labels of a curve with `--choose suggest`: rows are labelled as `flowgmm suggest` would have it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.data.array_types import Bools, Ints
from flowgmm_cli.data.prepare import fit_with_features, load_rows
from flowgmm_cli.data.sampling import ids_mask
from flowgmm_cli.data.splits import SplitData
from flowgmm_cli.errors import DataError
from flowgmm_cli.experiments.points import Point
from flowgmm_cli.files import write_text
from flowgmm_cli.inference.discovery import score_in_memory
from flowgmm_cli.inference.inputs import concatenate_rows
from flowgmm_cli.inference.row_choice import choose_rows
from flowgmm_cli.inference.suggestions import choose_scored
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.recipe.variants import vary
from flowgmm_cli.runs import Run
from flowgmm_cli.trained_model import TrainedModel


def write_labelled(point: Point, earlier: Run | None, context: DataContext) -> None:
    """Write the file of the ids of a point's labelled rows: those of an earlier run, and suggested rows.

    Without an earlier run rows are suggested without a model. As in random draws, each class has a row: a
    random one takes the place of the last suggestion.

    Args:
        point: has `labels`, the number of labelled rows, and the recipe `data.labels.ids`, the file.
        earlier: the run of the same seed with the next smaller number of labels.
        context: environment of data sources.

    Raises:
        DataError: there are not enough rows with a label.
    """
    recipe, count = point.recipe, int(point.settings["labels"])
    rows = load_rows(vary(recipe, {"data.labels.ids": None}).data, context)
    pile = concatenate_rows([part for part in (rows.train, rows.val) if part is not None])
    pile = pile.take(pile.labels >= 0)  # others cannot be labelled from the data
    if count > len(pile):
        raise DataError(f"{point.describe()}: only {len(pile):,} rows have a label", hint="request fewer")
    given = np.zeros(len(pile), bool) if earlier is None else ids_mask(pile.ids, _ids_file(earlier.recipe()))
    chosen = _suggest(pile, given, count - int(given.sum()), point, rows, earlier, context)
    chosen = _cover_classes(pile.labels, given, chosen, np.random.default_rng(point.seed))
    labelled = np.concatenate([np.flatnonzero(given), chosen])
    write_text(Path(_ids_file(recipe)), "".join(f"{name}\n" for name in pile.ids[labelled].tolist()))


def _ids_file(recipe: Recipe) -> str:
    return str(dict(recipe.data.config)["labels"].ids)


def _suggest(
    pile: Rows,
    given: Bools,
    need: int,
    point: Point,
    rows: SplitData,
    earlier: Run | None,
    context: DataContext,
) -> Ints:
    """Return the positions of suggested rows; random ones if all others are near duplicates of them."""
    hidden = Rows(pile.columns, np.where(given, pile.labels, -1), pile.ids)
    if earlier is None:
        data = point.recipe.data
        split = SplitData(rows.columns, rows.class_names, {"train": hidden})
        preprocessor, features = fit_with_features(split, data, context)
        x = preprocessor.apply(hidden, context, features=features).x.numpy()
        picks = choose_rows(x, hidden.labels, need, seed=point.seed)
    else:
        trained = TrainedModel.load(earlier.path, context=context)
        scores = score_in_memory(trained, hidden, context, None)
        picks = choose_scored(trained, hidden.labels, scores, need, seed=point.seed)
    places = [pick.place for pick in picks]
    others = np.setdiff1d(np.flatnonzero(~given), places)
    more = np.random.default_rng(point.seed).permutation(others)[: need - len(places)]
    return np.array([*places, *more.tolist()], np.int64)


def _cover_classes(labels: Ints, given: Bools, chosen: Ints, rng: np.random.Generator) -> Ints:
    """Replace the last rows of `chosen` whose class has others, until each class has a labelled row."""
    chosen = chosen.copy()
    for label in np.unique(labels):
        counts = np.bincount(labels[np.concatenate([np.flatnonzero(given), chosen])], minlength=label + 1)
        spare = np.flatnonzero(counts[labels[chosen]] > 1)
        if counts[label] == 0 and len(spare):
            chosen[spare[-1]] = rng.choice(np.flatnonzero(labels == label))
    return chosen
