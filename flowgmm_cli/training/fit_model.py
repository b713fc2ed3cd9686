"""From rows and visible labels to a calibrated model: search, ensemble members, temperature."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.api import Latents
from flowgmm_cli.baselines.guide import Guide
from flowgmm_cli.conformal import HeldOutLabels
from flowgmm_cli.evaluation.folds import Fold, OutOfFold, sample_unlabelled, split_labelled
from flowgmm_cli.evaluation.temperature import (
    Calibration,
    calibrate_folds,
    calibration_folds,
    uses_validation,
)
from flowgmm_cli.evaluation.unknown_rows import UnknownRows
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.mixture.unknown import UnknownKinds, find_unknown
from flowgmm_cli.model import Ensemble, Model
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run
from flowgmm_cli.seeds import derive_seed, generator
from flowgmm_cli.trained_model import Member, encode
from flowgmm_cli.training.calibration import calibrate
from flowgmm_cli.training.fit_job import FitJob, TrainContext, fit_all
from flowgmm_cli.training.label_noise import label_noise, resolve_label_noise
from flowgmm_cli.training.model_init import (
    prior_config,
    refine_class_prior,
)
from flowgmm_cli.training.plan import Stage, TrainingPlan
from flowgmm_cli.training.prepare import PreparedData
from flowgmm_cli.training.search import SearchResult, search
from flowgmm_cli.training.trainer import FitResult


@dataclass(frozen=True)
class FittedModel:
    """A calibrated model and how it was fitted.

    Attributes:
        members: settings of each part of the model.
        first: result of the first member's training.
        steps: optimiser steps of all members.
        out_of_fold: predictions for labels that a training has not seen; None if no label was held out.
        unknown: rows of unknown kinds among the unlabelled rows; None if nothing was found.
        cross_fitted: calibrated log-probabilities of the rows of `out_of_fold`.
        held_out: labels that a training has not seen, of folds and of validation rows.
    """

    model: Model
    members: tuple[Member, ...]
    calibration: Calibration
    first: FitResult
    steps: int
    search: SearchResult | None
    out_of_fold: OutOfFold | None
    unknown: UnknownKinds | None
    cross_fitted: npt.NDArray[np.float64] | None
    held_out: HeldOutLabels


def fit_model(context: TrainContext, *, run: Run | None = None) -> FittedModel:
    """Search for settings if the recipe has a search, train every member, calibrate them together.

    A training that goes on from a run has its members and searches nothing. `run` keeps checkpoints and
    results, so that it can be resumed; None keeps nothing.
    """
    recipe, data, note = context.recipe, context.data, context.callbacks.note
    labels = data.train.labels.numpy()
    plan = TrainingPlan(_stages(context, labels), context.callbacks)
    guide = Guide(data.train, data.val, classes=data.classes, seed=recipe.run.seed, note=note)
    context = dataclasses.replace(context, plan=plan, callbacks=plan.callbacks, guide=guide)
    context = resolve_label_noise(context)
    unknown = _find_unknown(context)
    if unknown and (found := UnknownRows.measure(unknown.to_dict())):
        note(f"unknown  {found.describe()}; see `flowgmm discover`")
        context = dataclasses.replace(context, unknown=unknown)
    start = context.start
    result = search(context, labels, run=run) if recipe.search and not start else None
    if result:
        note(f"search  {result.reason}")
    choice = start.trained.members if start else choose_members(recipe, result)
    chosen = [member.to_dict() for member in choice]
    # scores in other processes may differ in the last bit
    members = tuple(Member(**item) for item in json.loads(context.group.broadcast_text(json.dumps(chosen))))
    plan.shorten("train", len(members), pluralise(len(members), "model"))  # a search may leave some out
    runs = [run.member(index) if run else None for index in range(len(members))]
    jobs = [
        FitJob(labels, member.changes, part, member=index)
        for index, (member, part) in enumerate(zip(members, runs, strict=True))
    ]
    fits = fit_all(context, jobs, title="train", unit="member")
    model: Model = fits[0].model if len(fits) == 1 else Ensemble([fit.model for fit in fits])
    calibration = _calibrate(context, model, members, labels, fits[0].temperature, result)
    plan.finish()
    with torch.no_grad():
        model.temperature.fill_(calibration.temperature)
        model.noise.fill_(calibration.noise)
    if prior_config(recipe).class_prior == "estimated":
        refine_class_prior(model, data.train.x, calibration.likelihoods)
    steps = sum(fit.progress.step for fit in fits)
    out_of_fold = result.cross_fitted() if result else calibration.out_of_fold
    cross_fitted, held_out = None, [start.select_held_out(data.rows.class_names)] if start else []
    if out_of_fold:
        cross_fitted = calibrate_folds(
            recipe.calibration,
            out_of_fold,
            temperature=fits[0].temperature,
            label_noise=label_noise(context.recipe),
        )
        rows = out_of_fold.labels, out_of_fold.p_unknown
        held_out.append(HeldOutLabels.collect(cross_fitted, *rows, exact=False))
    if val := _validation(data, model):
        log_prob, p_unknown = model.log_posterior(val[0]).numpy(), val[0].p_unknown().numpy()
        known = val[1] >= 0
        held_out.append(HeldOutLabels.collect(log_prob[known], val[1][known], p_unknown[known], exact=True))
    return FittedModel(
        model=model,
        members=members,
        calibration=calibration,
        first=fits[0],
        steps=steps,
        search=result,
        out_of_fold=out_of_fold,
        unknown=unknown,
        cross_fitted=cross_fitted,
        held_out=HeldOutLabels.concatenate(held_out),
    )


def _validation(data: PreparedData, model: Model) -> tuple[Latents, npt.NDArray[np.int64]] | None:
    """Return latents and labels of the validation rows; None without labels."""
    if data.val is None or not bool((data.val.labels >= 0).any()):
        return None
    return encode(model, data.val.x), data.val.labels.numpy()


@torch.no_grad()
def _find_unknown(context: TrainContext) -> UnknownKinds | None:
    """Find unlabelled rows of unknown kinds if the recipe asks for it; the same in each process."""
    recipe, rows, group = context.recipe, context.data.train, context.group
    config = prior_config(recipe)
    if config.unknown == "off":
        return None
    unknown = None
    if group.is_main_process:
        unknown = find_unknown(
            rows.x,
            rows.labels,
            classes=context.data.classes,
            count=None if config.unknown == "auto" else config.unknown,
            generator=generator(recipe.run.seed, "unknown"),
            note=context.callbacks.note,
        )
    if group.world_size == 1:
        return unknown
    text = group.broadcast_text(unknown.to_json() if unknown else "")
    return UnknownKinds.from_json(text) if text else None


def _stages(context: TrainContext, labels: npt.NDArray[np.int64]) -> list[Stage]:
    """List the trainings of a run before its search has chosen the members."""
    recipe, stages = context.recipe, []
    number = len(context.start.trained.members) if context.start else recipe.ensemble
    members = [FitJob(labels).epochs(context)] * number
    config = None if context.start else recipe.search
    known = context.find_known_labels()
    if config:
        folds = len(split_labelled(labels, config.folds, seed=recipe.run.seed, known=known))
        jobs = [FitJob(labels, changes, share=config.epochs) for changes in config.all_candidates.values()]
        number *= min(config.keep, len(jobs))
        members = [FitJob(labels, jobs[0].changes).epochs(context)] * number
        epochs = tuple(job.epochs(context) for job in jobs for _ in range(folds if folds > 1 else 0))
        stages = [Stage("search", "folds", pluralise(len(epochs), "fold"), epochs)]
    stages.append(Stage("train", "models", pluralise(number, "model"), tuple(members)))
    if recipe.calibration.method != "none":
        share, val = recipe.calibration.epochs, context.data.val
        needs_folds = not config and (
            val is None or not uses_validation(recipe.calibration, val.labels.numpy())
        )
        held_out = calibration_folds(recipe.calibration, labels, seed=recipe.run.seed, known=known)
        epochs = (FitJob(labels, share=share).epochs(context),) * (len(held_out) if needs_folds else 0)
        stages.append(Stage("calibrate", "folds", "calibration", epochs))
    return stages


def choose_members(recipe: Recipe, result: SearchResult | None) -> tuple[Member, ...]:
    """Return the kept candidates, or the recipe itself, `ensemble` times each, with different seeds."""
    candidates: list[tuple[str | None, dict[str, Any]]] = [(None, {})]
    if result:
        candidates = [(candidate.name, candidate.changes) for candidate in result.kept]
    members: list[Member] = []
    for _ in range(recipe.ensemble):
        for name, changes in candidates:
            index = len(members)
            seed = {"run.seed": derive_seed(recipe.run.seed, "member", index)} if index else {}
            members.append(Member(name, {**changes, **seed}))
    return tuple(members)


def _calibrate(
    context: TrainContext,
    model: Model,
    members: Sequence[Member],
    labels: npt.NDArray[np.int64],
    temperature: float,
    result: SearchResult | None,
) -> Calibration:
    recipe, data = context.recipe, context.data

    def train_folds(folds: Sequence[Fold]) -> list[Model]:
        # one member suffices: the confidence of all of them together is measured on unlabelled rows
        changes, share = members[0].changes, recipe.calibration.epochs
        jobs = [FitJob(fold.visible, changes, share=share) for fold in folds]
        return [fit.model for fit in fit_all(context, jobs, title="calibrate", unit="fold")]

    calibration = calibrate(
        recipe.calibration,
        val=_validation(data, model),
        labels=labels,
        temperature=temperature,
        train_folds=train_folds,
        encode=lambda model, index: encode(model, data.train.x[torch.from_numpy(index)]),
        model=model,
        seed=recipe.run.seed,
        out_of_fold=result.mean_out_of_fold() if result else None,
        with_likelihoods=prior_config(recipe).class_prior == "estimated",
        known=context.find_known_labels(),
        label_noise=label_noise(recipe),
    )
    if context.start is None:
        return calibration
    sample = data.train.x[torch.from_numpy(sample_unlabelled(labels))]
    spread = [encode(part, sample).class_log_prob.numpy() for part in (context.start.trained.model, model)]
    return context.start.calibrate(calibration, *spread)
