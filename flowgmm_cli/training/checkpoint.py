"""Checkpoints: student, teacher, optimiser and progress in one safetensors file, and when it is written."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from flowgmm_cli.errors import RunError
from flowgmm_cli.files import MALFORMED, read_tensors, select_prefix, write_tensors
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import CheckpointConfig
from flowgmm_cli.training.fsdp import distribute_like, full_tensor, is_sharded, local_shard, shard_like
from flowgmm_cli.training.optim import optimiser_parameters

FORMAT = "flowgmm/checkpoint/1"


@dataclass
class Progress:
    """Progress of a training.

    Attributes:
        seconds: training time so far, over all sessions.
        best: best value of the watched metric; None before the first.
        stale: epochs since the best one.
        stopped: True if training has ended before its last epoch.
    """

    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    stale: int = 0
    stopped: bool = False


def save_checkpoint(
    path: Path,
    model: FlowMixture,
    teacher: FlowMixture,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    *,
    writes: bool = True,
) -> None:
    """Write everything that resuming needs; a failure leaves the previous file as it was.

    The file holds full tensors, sharded weights or not. If weights are sharded, all processes must call this,
    and one of them `writes`.
    """
    parts = {f"model.{name}": value for name, value in model.state_dict().items()}
    parts |= {f"teacher.{name}": value for name, value in teacher.state_dict().items()}
    parameters = optimiser_parameters(model)
    for index, state in optimiser.state_dict()["state"].items():
        for name, value in state.items():
            parts[f"optimiser.{index}.{name}"] = shard_like(torch.as_tensor(value), parameters[index])
    tensors = _full_tensors(parts, keep=writes)
    if writes:
        write_tensors(path, tensors, {"format": FORMAT, "progress": json.dumps(asdict(progress))})


def load_checkpoint(
    path: Path, model: FlowMixture, teacher: FlowMixture, optimiser: torch.optim.Optimizer
) -> Progress:
    """Restore what `save_checkpoint` wrote.

    Raises:
        RunError: the file is damaged, of another program, or of another model.
    """
    tensors, metadata = read_tensors(path, "checkpoint")
    if metadata.get("format") != FORMAT:
        raise RunError(
            f"checkpoint: {path} was not written by this version of flowgmm",
            hint="train again, or use the version of flowgmm-cli named in run.json",
        )
    load_state(model, select_prefix("model.", tensors), path)
    load_state(teacher, select_prefix("teacher.", tensors), path)
    try:
        _load_optimiser(optimiser, select_prefix("optimiser.", tensors), optimiser_parameters(model))
        return Progress(**json.loads(metadata["progress"]))
    except MALFORMED as error:
        hint = "train again or use another run"
        raise RunError(f"checkpoint: {path} is damaged", details=[str(error)], hint=hint) from None


class BestModel:
    """Weights of the teacher after the best epoch, in memory until the next checkpoint.

    A resumed run reads them from `path`; raises `RunError` if it is damaged. None keeps them in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._is_saved = True
        self._state = read_tensors(path, "checkpoint")[0] if path and path.exists() else {}

    def update(self, teacher: FlowMixture) -> None:
        """Copy the teacher's weights."""
        self._state = {name: value.detach().clone() for name, value in teacher.state_dict().items()}
        self._is_saved = False

    def save(self, *, writes: bool = True) -> None:
        """Write the weights if they are new; see `save_checkpoint`."""
        if self.path is not None and not self._is_saved:
            state = _full_tensors(self._state, keep=writes)
            if writes:
                write_tensors(self.path, state)
            self._is_saved = True

    def restore(self, teacher: FlowMixture) -> None:
        """Load the weights into the teacher, if there are any."""
        if self._state:
            load_state(teacher, self._state, self.path or Path("best"))


class CheckpointSchedule:
    """Decides after which steps a checkpoint is written."""

    def __init__(self, config: CheckpointConfig, steps_per_epoch: int) -> None:
        self.config, self.steps_per_epoch = config, steps_per_epoch
        self._last = time.monotonic()

    def is_late(self) -> bool:
        """Return True if `every_minutes` have passed; several processes may disagree."""
        minutes = self.config.every_minutes
        return bool(minutes and time.monotonic() - self._last >= 60 * minutes)

    def is_due(self, step: int, *, is_late: bool | None = None) -> bool:
        """Return True if a checkpoint is due after `step` steps; `is_late` as all processes agree on it."""
        periods = ((self.config.every_epochs or 0) * self.steps_per_epoch, self.config.every_steps or 0)
        is_late = self.is_late() if is_late is None else is_late
        due = is_late or any(period and step % period == 0 for period in periods)
        if due:
            self._last = time.monotonic()
        return due


def load_state(model: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load full tensors strictly into a model, sharded or not. Raises `RunError` where they do not fit."""
    own = model.state_dict()
    fitting = [name for name, value in tensors.items() if name in own and value.shape == own[name].shape]
    try:
        model.load_state_dict(tensors | {name: distribute_like(tensors[name], own[name]) for name in fitting})
    except RuntimeError as error:
        details = [line.strip() for line in str(error).strip().splitlines()[1:4]]
        hint = "it belongs to another run; train again"
        raise RunError(f"{path} does not fit this model", details=details, hint=hint) from None


def _full_tensors(parts: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Gather tensors one after the other and move them to the CPU: a device may have no room for all."""
    tensors: dict[str, Tensor] = {}
    for name, value in parts.items():
        tensor = full_tensor(value)
        if keep:
            tensors[name] = tensor.cpu() if is_sharded(value) else tensor
    return tensors


def _load_optimiser(
    optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], parameters: Sequence[Tensor]
) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        like = parameters[int(index)]
        if value.ndim and value.shape != like.shape:  # torch does not check shapes
            raise ValueError(f"optimiser.{name} has the wrong shape")
        state.setdefault(int(index), {})[key] = local_shard(distribute_like(value, like))
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
