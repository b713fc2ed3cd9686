"""The middle of every run, from rows and visible labels to a calibrated model: race, members, temperature."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.api import Latents
from flowgmm_cli.mixture.specs import GMMConfig
from flowgmm_cli.model import Ensemble, FlowMixture, Model
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run
from flowgmm_cli.seeds import derive_seed
from flowgmm_cli.trained_model import Member, encode
from flowgmm_cli.training.build import training_temperature
from flowgmm_cli.training.calibrate import Calibration, calibrate, set_calibration
from flowgmm_cli.training.fitting import Fitting
from flowgmm_cli.training.folds import Fold
from flowgmm_cli.training.prior import settle_class_prior
from flowgmm_cli.training.processes import Processes
from flowgmm_cli.training.search import Race, race
from flowgmm_cli.training.settings import LoopResult
from flowgmm_cli.training.trainings import Job, fit_all


@dataclass(frozen=True)
class Learned:
    """What learning ends with.

    Attributes:
        model: one FlowMixture, or an ensemble.
        members: what each of its parts was trained with.
        calibration: the temperature, which the model has, and where it comes from.
        first: how the first member's training ended.
        steps: optimiser steps of all members.
        race: the search; None without one.
    """

    model: Model
    members: tuple[Member, ...]
    calibration: Calibration
    first: LoopResult
    steps: int
    race: Race | None


def learn(fitting: Fitting, *, run: Run | None = None) -> Learned:
    """Choose settings if the recipe has a search, train every member, calibrate them together.

    Args:
        fitting: recipe, rows and surroundings.
        run: keeps what was done, so that an interrupted run goes on from there; None keeps nothing.
    """
    labels = fitting.data.train.labels.numpy()
    search = race(fitting, labels, run=run) if fitting.recipe.search else None
    if search:
        fitting.talk.note(f"search  {search.reason}")
    members = choose_members(fitting.recipe, search)
    members = _as_the_leader(members, fitting.processes)
    jobs = [
        Job(labels, member.changes, run.member(index) if run else None)
        for index, member in enumerate(members)
    ]
    results = fit_all(fitting, jobs, what="train", each="member")
    model = together([result.model for result in results])
    calibration = _calibrate(fitting, model, members, labels, search)
    set_calibration(model, calibration)
    if cast(GMMConfig, fitting.recipe.prior.config).class_prior == "estimated":
        settle_class_prior(model, fitting.data.train.x, calibration.likelihoods)
    steps = sum(result.progress.step for result in results)
    return Learned(model, members, calibration, results[0], steps, search)


def choose_members(recipe: Recipe, search: Race | None) -> tuple[Member, ...]:
    """The race's best candidates, each `ensemble` times, or the recipe itself; no two with the same seed."""
    chosen: list[tuple[str | None, dict[str, Any]]] = [(None, {})]
    if search:
        chosen = [(one.name, one.changes) for one in search.kept]
    members: list[Member] = []
    for _ in range(recipe.ensemble):
        for name, changes in chosen:
            index = len(members)
            seed = {"run.seed": derive_seed(recipe.run.seed, "member", index)} if index else {}
            members.append(Member(name, {**changes, **seed}))
    return tuple(members)


def _as_the_leader(members: tuple[Member, ...], processes: Processes) -> tuple[Member, ...]:
    """The leader's choice, in all processes: theirs may differ by the last bit of a score."""
    if processes.alone:
        return members
    said = processes.told(json.dumps([one.to_dict() for one in members]))
    return tuple(Member(**values) for values in json.loads(said))


def together(models: Sequence[FlowMixture]) -> Model:
    """One model as it is, several as an ensemble."""
    return models[0] if len(models) == 1 else Ensemble(models)


def _calibrate(
    fitting: Fitting,
    model: Model,
    members: Sequence[Member],
    labels: npt.NDArray[np.int64],
    search: Race | None,
) -> Calibration:
    recipe, data = fitting.recipe, fitting.data
    val = None
    if data.val is not None and bool((data.val.labels >= 0).any()):
        val = encode(model, data.val.x), data.val.labels.numpy()

    def train_folds(folds: Sequence[Fold]) -> list[Model]:
        # One member is enough: how sure all of them are together is measured on unlabelled rows.
        jobs = [Job(fold.visible, members[0].changes, share=recipe.calibration.epochs) for fold in folds]
        return [found.model for found in fit_all(fitting, jobs, what="calibrate", each="fold")]

    def encode_rows(fold: Model, index: npt.NDArray[np.intp]) -> Latents:
        return encode(fold, data.train.x[torch.from_numpy(index)])

    return calibrate(
        recipe.calibration,
        val=val,
        labels=labels,
        temperature=training_temperature(
            recipe, features=data.preprocessor.dim, dims=model.parts[0].mixture.dims
        ),
        train_folds=train_folds,
        see=encode_rows,
        model=model,
        seed=recipe.run.seed,
        held_out=search.held_out() if search else None,
    )
