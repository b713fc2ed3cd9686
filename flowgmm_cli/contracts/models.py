"""Flows, losses, scores and baselines: inputs and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from flowgmm_cli.contracts.data import Fitted
from flowgmm_cli.contracts.parameters import Config

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor


@runtime_checkable
class Flow(Protocol):
    """The result of a flow's `build`: an `nn.Module` that maps rows to latents and back.

    Rows are independent of each other, and no state is kept between calls. `log_det` is at least float32,
    also under autocast. A flow with layers initialised from data, such as actnorm, also has a method
    `initialise(x)`; it is called once with training rows `(N, *shape)` before training. A multi-scale flow
    has an attribute `latent_sizes`, the latent dimensions of each scale in their order in z, the coarsest
    first, so that a mixture can be put on some of the scales.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map rows `(N, *shape)` to latents `(N, D)` and the log-determinant `(N,)`."""
        ...

    def inverse(self, z: Tensor) -> Tensor:
        """Map latents `(N, D)` back to rows `(N, *shape)`."""
        ...


class RegulariserConfig(Config):
    """Parameters of every regulariser."""

    weight: float = Field(1.0, ge=0, description="factor on its terms")


class View(Protocol):
    """The result of the `build` of a view of inputs or features."""

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a changed copy of the rows, of the same shape; random numbers come from `generator` alone.

        `x` is `(N, D)`, or images `(N, channels, height, width)`, on the device of training.
        """
        ...


class TextViewConfig(Config):
    """Parameters of every view of texts."""

    copies: int = Field(
        4, ge=1, le=64, description="changed copies of each text that are encoded before training"
    )


class TextView(Protocol):
    """The result of the `build` of a view of texts."""

    def __call__(self, texts: Sequence[str], generator: np.random.Generator) -> list[str]:
        """Return changed texts, one for each; random numbers come from `generator` alone."""
        ...


@dataclass(frozen=True)
class Latents:
    """The outputs of the flow and the mixture for some rows.

    Attributes:
        z: latents `(N, D)`.
        log_det: `(N,)`.
        class_log_prob: `log pi_k + log N(z; mu_k, S_k)`, `(N, K)`, without `log_det`.
        unknown_log_odds: log-odds of an unknown kind against the classes, `(N,)`; None for a model that knows
            of none.
    """

    z: Tensor
    log_det: Tensor
    class_log_prob: Tensor
    unknown_log_odds: Tensor | None = None

    def log_prob(self) -> Tensor:
        """Return `log p(x)` of each row, `(N,)`."""
        return self.class_log_prob.logsumexp(1) + self.log_det

    def p_unknown(self) -> Tensor:
        """Return the probability of an unknown kind, `(N,)`; 0 for a model that knows of none."""
        import torch

        log_odds = self.unknown_log_odds
        return torch.zeros_like(self.log_det) if log_odds is None else log_odds.sigmoid()

    def rows(self, index: slice | Tensor) -> Latents:
        """Return the latents of some of the rows."""
        unknown = None if self.unknown_log_odds is None else self.unknown_log_odds[index]
        return Latents(self.z[index], self.log_det[index], self.class_log_prob[index], unknown)


@dataclass(frozen=True)
class Batch:
    """The rows of a training step, on the device, after the transforms, and the student's latents of them.

    Attributes:
        labelled: labelled rows under the weak view, `(L, D)`; may be empty.
        labels: int64 `(L,)`.
        weak: unlabelled rows under the weak view, `(U, D)`.
        strong: the same rows under the strong view, `(U, D)`.
        student: latents under the model being trained: `labelled` always, `weak` and `strong` if the
            objective or a regulariser declares that it reads them.
        temperature: divisor of class log-probabilities before any softmax in a loss; posteriors of
            high-dimensional mixtures saturate without it.
        step: optimiser steps taken before this one.
        epoch: passes over the unlabelled rows so far, a fraction within a pass.
        generator: random numbers of this step, on the device of the rows.
        guide: class probabilities of the unlabelled rows by simple methods, `(U, K)`, if the recipe has the
            regulariser `guide`, and the rows are in memory.
        weights: weights of the labelled rows in the loss, `(L,)`, of which the mean over all labelled rows is
            1; None if all are equal.
        targets: class probabilities of the labelled rows whose label is uncertain, `(L, K)`, 0 for all
            others; None if all labels are certain.
    """

    labelled: Tensor
    labels: Tensor
    weak: Tensor
    strong: Tensor
    student: Mapping[str, Latents]
    temperature: float
    step: int
    epoch: float
    generator: torch.Generator
    guide: Tensor | None = None
    weights: Tensor | None = None
    targets: Tensor | None = None


class Regulariser(Protocol):
    """The result of a regulariser's `build`: an additional loss.

    Attributes:
        reads: the student's views that it uses, a subset of `{"weak", "strong"}`; all declared views and the
            labelled rows share one forward pass.
    """

    reads: frozenset[str]

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return named scalar losses, unweighted; no gradient may reach the teacher.

        `model(x)` and `teacher(x)` map rows to `Latents`.
        """
        ...


@dataclass(frozen=True)
class ScoreInputs:
    """The inputs of an out-of-distribution score: rows and the model's outputs for them, on the CPU.

    Attributes:
        x: the flow's input, float32 `(N, D)`.
        latents: see `Latents`; for an ensemble, `z` is the first member's.
        log_posterior: calibrated `log p(k | x)`, float64 `(N, K)`.
        log_density: `log p(x)` in nats, the transforms' log-determinant included, float64 `(N,)`.
        images: pixels `(N, height, width)` or `(N, height, width, channels)` before the transforms, if the
            rows are images; else None.
        labelled: inputs `(L, D)` and classes `(L,)` of labelled training rows, for a fit; else None.
    """

    x: Tensor
    latents: Latents
    log_posterior: Tensor
    log_density: Tensor
    images: Tensor | None = None
    labelled: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.x)


Seen = ScoreInputs
"""The earlier name of `ScoreInputs`, kept for plugins of `API_VERSION` 1."""


class Score(Fitted, Protocol):
    """The result of a score's `build`: higher = further out. A row's score depends on that row only."""

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Fit the score to in-distribution rows.

        Args:
            train: rows the model was trained on, labelled or not; a sample of them where there are many.
            held_out: rows of the same kind that it was not trained on.
            model: the trained model; `model(x)` maps rows to `Latents`. Only `fit` can use it.
            generator: source of randomness.
        """
        ...

    def __call__(self, rows: ScoreInputs) -> npt.NDArray[np.float64]:
        """Return `(N,)`, higher = further out; every value finite."""
        ...


class Baseline(Protocol):
    """The result of a baseline's `build`: a classifier that has the rows and labels of the model.

    Attributes:
        settings: JSON values for reports, such as those that `fit` has chosen; may be empty.
    """

    settings: Mapping[str, Any]

    def fit(
        self,
        x: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Fit the classifier to the training rows; a later call starts anew.

        Args:
            x: all training rows, labelled or not, `(N, D)`.
            labels: class indices `(N,)`, -1 where a row is unlabelled; a class may have no label.
            settings: the `settings` of an earlier fit to similar rows, to use them again; None = choose them,
                by the labelled rows alone.
        """
        ...

    def predict_proba(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.floating[Any]]:
        """Return the probability of each class `(M, K)` for rows `(M, D)`; the rows sum to 1."""
        ...


class Objective(Protocol):
    """The result of an objective's `build`: the main loss, in the same form as a regulariser.

    `build(config, *, features, labelled, unlabelled, dims)` gets D, the numbers of training rows, and the
    number of latent dimensions, out of D, that carry the classes (None = all).

    Attributes:
        reads: as for a regulariser.
        pool: rows the unlabelled batches are drawn from: `all` training rows with labels hidden, or only the
            `unlabelled` ones.
        temperature: see `Batch`.
    """

    reads: frozenset[str]
    pool: Literal["all", "unlabelled"]
    temperature: float

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return named scalar losses whose sum is the objective."""
        ...
