"""Score `combined`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Score, ScoreInputs
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.scores.specs import CombinedConfig
from flowgmm_cli.scores.tail import Tail
from flowgmm_cli.scores.values import Floats, finite


class Combined:
    r""":math:`\sum_i -\log P(S_i \ge s_i(x))`, or the largest term; higher = rarer = further out.

    :math:`P(S_i \ge s)` is the share of held-out rows whose score i is at least s, see
    `flowgmm_cli.scores.tail.Tail`. Fisher (1932) combined independent tests in this way; scores are not
    independent, so the sum is no probability, but it has the scores on one scale whatever their units. The
    maximum is Tippett's (1931): one score that finds a row strange is enough.
    """

    def __init__(self, config: CombinedConfig) -> None:
        self.how = config.how
        self.scores: list[Score] = [build(component) for component in config.of]
        self.tails: list[Tail] = []

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Fit the scores, and their tails on held-out rows."""
        for score in self.scores:
            score.fit(train, held_out, model, generator)
        self.tails = [Tail.fit(score(held_out)) for score in self.scores]

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`."""
        rarities = np.stack([tail(score(rows)) for score, tail in zip(self.scores, self.tails, strict=True)])
        return finite(rarities.sum(axis=0) if self.how == "sum" else rarities.max(axis=0))

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """See `flowgmm_cli.api.Score`."""
        values: list[dict[str, Any]] = []
        arrays: dict[str, npt.NDArray[Any]] = {}
        for index, (score, tail) in enumerate(zip(self.scores, self.tails, strict=True)):
            own, its = score.state()
            values.append(own)
            arrays |= {f"{index}.score.{name}": one for name, one in its.items()}
            arrays |= {f"{index}.tail.{name}": one for name, one in tail.state().items()}
        return {"scores": values}, arrays

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `flowgmm_cli.api.Score`."""

        def under(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {name.removeprefix(prefix): one for name, one in arrays.items() if name.startswith(prefix)}

        for index, (score, own) in enumerate(zip(self.scores, values["scores"], strict=True)):
            score.load_state(own, under(f"{index}.score."))
        self.tails = [Tail.from_state(under(f"{index}.tail.")) for index in range(len(self.scores))]
