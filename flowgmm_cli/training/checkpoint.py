"""The state of a run in one safetensors file: student, teacher, optimiser, progress."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from flowgmm_cli.errors import RunError
from flowgmm_cli.files import read_tensors, select_prefix, write_tensors
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.training.fsdp import as_divided, divided, own, whole
from flowgmm_cli.training.optim import in_order

FORMAT = "flowgmm/checkpoint/1"


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: optimiser steps taken.
        seconds: training time so far, over all sittings.
        best: best value of the watched metric; None before the first.
        best_epoch: when it was reached.
        stale: epochs since then.
        stopped: training has ended before its last epoch.
    """

    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    stale: int = 0
    stopped: bool = False

    def judge(self, value: float, *, better: bool, epoch: int) -> None:
        """Take note of the watched metric after an epoch, and of whether it is `better` than before."""
        if better:
            self.best, self.best_epoch, self.stale = value, epoch, 0
        else:
            self.stale += 1


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

    The file does not tell whether the weights were divided among processes. If they are, all processes must
    call this, and one of them `writes`.
    """
    parts = {f"model.{name}": (value, value) for name, value in model.state_dict().items()}
    parts |= {f"teacher.{name}": (value, value) for name, value in teacher.state_dict().items()}
    likes = in_order(model)
    for index, state in optimiser.state_dict()["state"].items():
        parts |= {
            f"optimiser.{index}.{name}": (torch.as_tensor(value), likes[index])
            for name, value in state.items()
        }
    tensors = _together(parts, keeps=writes)
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
        _load_optimiser(optimiser, select_prefix("optimiser.", tensors), in_order(model))
        return Progress(**json.loads(metadata["progress"]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise RunError(
            f"checkpoint: {path} is damaged", details=[str(error)], hint="train again or use another run"
        ) from None


class BestModel:
    """The teacher of the best epoch, in memory until the state is saved.

    Args:
        path: where it is saved, and from where a resumed run takes it; None keeps it in memory only.

    Raises:
        RunError: the file is damaged.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._state: dict[str, Tensor] = {}
        self._saved = True
        if path is not None and path.exists():
            self._state, _ = read_tensors(path, "checkpoint")

    def keep(self, teacher: FlowMixture) -> None:
        """Take a copy of the teacher's weights."""
        self._state = {name: value.detach().clone() for name, value in teacher.state_dict().items()}
        self._saved = False

    def save(self, *, writes: bool = True) -> None:
        """Write it, if it is new; see `save_checkpoint`."""
        if self.path is not None and not self._saved:
            state = _together({name: (value, value) for name, value in self._state.items()}, keeps=writes)
            if writes:
                write_tensors(self.path, state)
            self._saved = True

    def restore(self, teacher: FlowMixture) -> None:
        """Give the weights back to the teacher; without any it keeps its own."""
        if self._state:
            load_state(teacher, self._state, self.path or Path("best"))


def load_state(model: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load weights strictly, whole or divided. Raises `RunError` where names or shapes do not fit."""
    there = model.state_dict()
    fits = {name: value for name, value in tensors.items() if name in there}
    fits = {name: value for name, value in fits.items() if value.shape == there[name].shape}
    try:
        model.load_state_dict(
            tensors | {name: as_divided(value, there[name]) for name, value in fits.items()}
        )
    except RuntimeError as error:
        first = str(error).strip().splitlines()
        raise RunError(
            f"{path} does not fit this model",
            details=[line.strip() for line in first[1:4]],
            hint="it belongs to another run; train again",
        ) from None


def _together(parts: Mapping[str, tuple[Tensor, Tensor]], *, keeps: bool) -> dict[str, Tensor]:
    """Whole tensors, each of (a value or a share, something divided alike).

    One is put together after the other, and none stays on a device that has no room for all.
    """
    found: dict[str, Tensor] = {}
    for name, (value, like) in parts.items():
        tensor = whole(value, like)
        if keeps:
            found[name] = tensor.cpu() if divided(like) else tensor
    return found


def _load_optimiser(
    optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], parameters: Sequence[Tensor]
) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        like = parameters[int(index)]
        if value.ndim and value.shape != like.shape:  # which torch does not look at
            raise ValueError(f"optimiser.{name} has the wrong shape")
        state.setdefault(int(index), {})[key] = own(as_divided(value, like))
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
