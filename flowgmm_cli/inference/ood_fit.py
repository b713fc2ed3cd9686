"""The last step of a run: out-of-distribution scores are fitted, thresholds set, and a default is selected.

For the selection the scores are compared on pseudo-OOD rows (see `pseudo_ood.py`) and on classes that are
left out (see `left_out.py`); the best of several kinds are added (see `scores/blend.py`). No label beyond the
labelled rows and no foreign row is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from flowgmm_cli.api import Component, DataContext, Rows, ScoreInputs
from flowgmm_cli.data.array_types import Floats
from flowgmm_cli.data.images.format import image_column
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.data.splits import SplitData
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.evaluation.detection import auroc
from flowgmm_cli.flows.multiscale import FlatFlow
from flowgmm_cli.inference.left_out import (
    LEFT_OUT,
    Aurocs,
    holds_unknown,
    leave_classes_out,
    run_side_by_side,
)
from flowgmm_cli.inference.pseudo_ood import pseudo_ood_images, pseudo_ood_vectors
from flowgmm_cli.model import Model
from flowgmm_cli.recipe.schema import Recipe, score_names
from flowgmm_cli.scores.base import take_rows
from flowgmm_cli.scores.blend import BLEND, FAMILIES, LABELS_ALONE, Blend, Family, select_families
from flowgmm_cli.scores.detector import Detector, fit_detector, reads_images
from flowgmm_cli.seeds import derive_seed
from flowgmm_cli.trained_model import TrainedModel

MAX_TRAIN_ROWS = 5000
"""Training rows that the scores are fitted to."""
MAX_HELD_OUT_ROWS = 10_000
"""Held-out rows that thresholds come from."""
MAX_LABELLED_ROWS = 2000
"""Labelled rows that scores of the labelled rows are fitted to, if there are no more classes."""
_UNKNOWN = "unknown"
_HELD_OUT_SHARE = 0.2  # of the training rows, if no others are held out


@torch.no_grad()
def fit_ood(trained: TrainedModel, rows: SplitData, context: DataContext) -> tuple[Detector, dict[str, Any]]:
    """Fit the scores of the recipe's `ood` section to a calibrated model and the rows of its run.

    Of the labels only those of the labelled rows are used.

    Returns:
        The fitted scores, and facts for JSON: the default score with its threshold, the reason for it and
        `choice`, AUROC by score and kind of pseudo-OOD rows if it was selected by them; the numbers of rows,
        and `held_out`: `val` if thresholds come from validation rows, `train` if they come from training rows
        that the scores, though not the model, were not fitted to.

    Raises:
        RecipeError: no score suits the rows.
    """
    config = trained.recipe.ood
    generator = np.random.default_rng(derive_seed(trained.recipe.run.seed, "scores"))
    split, preprocess = _split(rows, generator), partial(trained.preprocessor.apply, context=context)
    train, held_out = (trained.encode_rows(preprocess(part, with_inputs=True)) for part in split)
    labelled = preprocess(_sample_labelled(rows.train, generator))
    train = replace(train, labelled=(labelled.x, labelled.labels))
    unlabelled = train.x[torch.from_numpy(split[0].labels < 0)]
    whole = train, held_out
    if trained.model.unknown:
        pairs = zip((train, held_out), split, strict=True)
        train, held_out = (_thin_unknown(part, some, trained.model, generator) for part, some in pairs)
    seed = int(generator.integers(2**63))
    detector = fit_detector(config.scores, train, held_out, trained.model, seed)
    reason, table = "named by the recipe", dict[str, Aurocs]()
    if config.default != "auto":
        detector = detector.with_default(config.default)
    else:
        of_pixels = isinstance(trained.model.parts[0].flow, FlatFlow)
        if of_pixels and train.images is not None and held_out.images is not None:
            outside = pseudo_ood_images(train.images, held_out.images, trained.encode_images, generator)
        else:
            outside = pseudo_ood_vectors(train, held_out, trained.model, generator)
        detector, reason, table = select_score(
            detector,
            config.scores,
            train,
            held_out,
            trained.model,
            outside,
            generator,
            whole=whole,
            in_pile=bool(trained.model.unknown) or holds_unknown(train, unlabelled, generator),
            of_pixels=of_pixels,
        )
    facts = {
        "default": detector.default,
        "reason": reason,
        "threshold": detector.threshold(detector.default, config.fpr),
        "fpr": config.fpr,
        "scores": list(detector.names),
        "held_out": "val" if rows.val is not None else "train",
        "rows": len(train),
        "held_out_rows": len(held_out),
        "choice": table,
    }
    return detector, facts


def describe_ood(facts: dict[str, Any]) -> str:
    """Describe the facts of `fit_ood` in one line for people."""
    where = "held-out" if facts["held_out"] == "val" else "training"
    return (
        f"rows are flagged by {facts['default']}, at a threshold that {100 * facts['fpr']:g} % of "
        f"{facts['held_out_rows']:,} {where} rows exceed; {facts['reason']}"
    )


def require_scores(recipe: Recipe, preprocessor: Preprocessor) -> None:
    """Check before training that the recipe's scores suit the rows.

    Raises:
        RecipeError: none of them does, or the default does not.
    """
    config, columns = recipe.ood, preprocessor.columns
    if image_column(columns) is not None:
        return
    names = score_names(config.scores)
    usable = [name for name, score in zip(names, config.scores, strict=True) if not reads_images(score)]
    if not usable or config.default not in ("auto", *usable):
        which = f"ood.default is {config.default}, which reads" if usable else "all scores in ood.scores read"
        raise RecipeError(
            f"{which} images, and this run has no image column",
            hint=f"ood.default=auto, or one of {', '.join(usable)}"
            if usable
            else "leave ood.scores out for all built-in scores",
        )


def _split(rows: SplitData, generator: np.random.Generator) -> tuple[Rows, Rows]:
    """Training rows for the scores, and rows that they are not fitted to."""
    if rows.val is not None:
        return _sample(rows.train, MAX_TRAIN_ROWS, generator), _sample(rows.val, MAX_HELD_OUT_ROWS, generator)
    order = generator.permutation(len(rows.train))
    held_out = min(max(1, round(_HELD_OUT_SHARE * len(order))), MAX_HELD_OUT_ROWS)
    train = order[held_out:][:MAX_TRAIN_ROWS] if len(order) > held_out else order
    return rows.train.take(np.sort(train)), rows.train.take(np.sort(order[:held_out]))


def _sample_labelled(rows: Rows, generator: np.random.Generator) -> Rows:
    """Labelled rows, of many a sample with nearly equally many of each class and one of each at least."""
    index = generator.permutation(np.flatnonzero(rows.labels >= 0))
    index = index[np.argsort(rows.labels[index], kind="stable")]
    _, first, counts = np.unique(rows.labels[index], return_index=True, return_counts=True)
    rank = np.arange(len(index)) - np.repeat(first, counts)
    chosen = index[np.argsort(rank, kind="stable")][: max(MAX_LABELLED_ROWS, len(counts))]
    return rows.take(np.sort(chosen))


def _thin_unknown(
    inputs: ScoreInputs, rows: Rows, model: Model, generator: np.random.Generator
) -> ScoreInputs:
    """Keep labelled rows, and others that rather belong to a class with the probability that they do.

    So they weigh 1 - p_unknown in every score, threshold and percentile.
    """
    p_unknown = inputs.latents.p_unknown().numpy()
    is_kept = (p_unknown < 0.5) & (generator.random(len(rows)) >= p_unknown)
    index = np.flatnonzero(is_kept | (rows.labels >= 0))
    return take_rows(inputs, index) if len(index) else inputs


def _sample(rows: Rows, count: int, generator: np.random.Generator) -> Rows:
    if len(rows) <= count:
        return rows
    return rows.take(np.sort(generator.choice(len(rows), count, replace=False)))


def select_score(
    detector: Detector,
    components: Sequence[Component],
    train: ScoreInputs,
    held_out: ScoreInputs,
    model: Model,
    pseudo_ood: Mapping[str, ScoreInputs],
    generator: np.random.Generator,
    *,
    whole: tuple[ScoreInputs, ScoreInputs] | None = None,
    in_pile: bool = False,
    of_pixels: bool = False,
) -> tuple[Detector, str, dict[str, Aurocs]]:
    """Select the default of a detector, which was fitted to the rows `train`; scores of images are left out.

    The scores are compared on the pseudo-OOD rows (by kind) and, with three classes or more, on rows of
    classes left out, see `leave_classes_out`; with `in_pile` the rows of such a class stay in the pile. Where
    there are scores of several families, see `scores/blend.py`, these are added. If there are unknown kinds,
    the best score for the pseudo-OOD rows is added once more, fitted to the `whole` training and held-out
    rows: rows far from all of them stay further out than those of unknown kinds. Otherwise, and for flows
    of pixels, the best score is taken; classes left out then count twice.

    Returns:
        The detector with its default, the reason for people, and AUROC by score and kind of pseudo-OOD rows.
    """
    train, held_out = (replace(rows, images=None) for rows in (train, held_out))
    usable = [score for score in detector.scores if not reads_images(components[score.component])]
    uses = {score.name: components[score.component].use for score in usable}
    family_of = {name: FAMILIES[use] for name, use in uses.items() if use in FAMILIES}
    blends = len(set(family_of.values())) > 1 and not of_pixels
    usable = [score for score in usable if not blends or score.name in family_of]
    names = [score.name for score in usable]
    if not names:
        return detector, "there is no other score", {}
    inputs = [held_out, *pseudo_ood.values()]
    inside, *outside = run_side_by_side(partial(detector, rows, names) for rows in inputs)
    kinds = {
        kind: {name: auroc(inside[name], values[name]) for name in names}
        for kind, values in zip(pseudo_ood, outside, strict=True)
    }
    of_names = [components[score.component] for score in usable]
    left_out = leave_classes_out(of_names, names, train, held_out, model, generator, in_pile=in_pile)
    kinds |= left_out
    table = {name: {kind: values[name] for kind, values in kinds.items()} for name in names}
    if blends:
        evidence = list((left_out or kinds).values())
        # in a clean pile density tells more than the labels alone, which the classes left out flatter
        chosen = [name for name in names if in_pile or uses[name] not in LABELS_ALONE] or names
        aurocs = {name: float(np.mean([values[name] for values in evidence])) for name in chosen}
        families, references = list(select_families(aurocs, family_of)), dict[str, Floats]()
        # classes left out say little of faults, such as another unit; the best score for these finds far rows
        far = max(names, key=lambda name: np.mean([kinds[kind][name] for kind in pseudo_ood]))
        if all(far not in family.scores for family in families):
            families.append(Family((far,), weight=0.0))
        if model.unknown and _UNKNOWN in detector.names:
            families.append(Family((_UNKNOWN,), weight=2.0))
            inside |= detector(held_out, [_UNKNOWN])
            if whole:
                index = next(score.component for score in usable if score.name == far)
                seed = int(generator.integers(2**63))
                (fitted,) = fit_detector([components[index]], *whole, model, seed).scores
                fitted = replace(fitted, name=f"{far}_whole", component=index)
                detector = replace(detector, scores=(*detector.scores, fitted))
                families.append(Family((fitted.name,), weight=0.0))
                inside |= detector(held_out, [fitted.name])
                references = {fitted.name: fitted.reference}
        blend = Blend.fit(families, inside, references)
        return replace(detector, default=BLEND, blend=blend), blend.describe(), table
    if model.unknown and "combined" in names:
        return detector.with_default("combined"), "it has the score of the unknown kinds", table
    best = max(table, key=lambda name: round(mean_auroc(table[name]), 3))
    listed = ", ".join(f"{kind} {value:.2f}" for kind, value in table[best].items())
    mean = mean_auroc(table[best])
    reason = f"AUROC {mean:.3f} on average against rows made of the run's own ({listed})"
    return detector.with_default(best), reason, table


def mean_auroc(aurocs: Mapping[str, float]) -> float:
    """Mean AUROC over the kinds of pseudo-OOD rows; classes left out count twice."""
    if not aurocs:
        return float("nan")
    weights = [2.0 if kind == LEFT_OUT else 1.0 for kind in aurocs]
    return float(np.average(list(aurocs.values()), weights=weights))
