"""Checks of out-of-distribution scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import Tensor

from flowgmm_cli.api import Kind, Latents, ScoreInputs, ScoreSpec
from flowgmm_cli.data.array_types import Floats
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.scores.base import take_rows
from flowgmm_cli.testing.checks import check, expect
from flowgmm_cli.testing.component import Conformance, copy_state
from flowgmm_cli.testing.tensors import toy_model


class ScoreConformance(Conformance):
    """Checks of a score; it is fitted to rows of a mixture of Gaussians.

        class TestMyScore(ScoreConformance):
            name = "my_score"

    Attributes:
        out: the rows that are out-of-distribution for it: rows `far` from all training rows, or rows
            `between` two classes, for a score of uncertainty.
        separation: smallest probability that such a row scores higher than an ordinary row (the AUROC).
        rank_stability: smallest rank correlation between the scores after fits to two samples of rows.
        tolerance: largest relative difference between equal scores.
    """

    kind: ClassVar[Kind] = "score"
    out: ClassVar[Literal["far", "between"]] = "far"
    separation: ClassVar[float] = 0.9
    rank_stability: ClassVar[float] = 0.7
    tolerance: ClassVar[float] = 1e-6

    @property
    def _reads(self) -> str:
        spec = self.entry.spec()
        return spec.reads if isinstance(spec, ScoreSpec) else "rows"

    @property
    def _features(self) -> int:
        return 16 if self._reads == "images" else 4

    @property
    def _model(self) -> FlowMixture:
        return toy_model(self._features, unknown=int(self._reads == "unknown"))

    def rows(self, n: int, seed: int) -> ScoreInputs:
        """Sample rows of the model."""
        return self._inputs(self._model.sample(n, torch.Generator().manual_seed(seed))[0])

    @torch.no_grad()
    def _inputs(self, x: Tensor) -> ScoreInputs:
        model = self._model
        latents: Latents = model(x)
        images = x.reshape(len(x), 4, 4).sigmoid() if self._features == 16 else None
        return ScoreInputs(x, latents, model.log_posterior(latents), latents.log_prob().double(), images)

    @torch.no_grad()
    def out_rows(self, n: int = 120) -> ScoreInputs:
        """Make out-of-distribution rows."""
        x, numbers = self.rows(n, 9).x, torch.Generator().manual_seed(9)
        if self.out == "far":
            return self._inputs(x + 8 * torch.randn(x.shape, generator=numbers).sign())
        z = torch.zeros(n, self._features)
        z[:, 0] = 2.0 * torch.randn(n, generator=numbers).sign()  # halfway between two class means
        return self._inputs(self._model.flow.inverse(z))

    def fit(self, *, seed: int = 0, rows: int = 400) -> Any:
        """Build a score and fit it."""
        return self._fit(self.rows(rows, seed), self.rows(rows // 2, seed + 100))

    def _fit(self, train: ScoreInputs, held_out: ScoreInputs) -> Any:
        score = self.build()
        score.fit(train, held_out, self._model, np.random.default_rng(0))
        return score

    fitted = fit  # the earlier name

    def actions(self) -> Mapping[str, Callable[[], Any]]:
        """Return fitting and scoring."""
        return {"fitting and scoring": self._scores}

    def _scores(self) -> Floats:
        return self._call(self.fit(), self.rows(50, 3))

    def _call(self, score: Any, rows: ScoreInputs) -> Floats:
        with torch.no_grad():
            values: Floats = score(rows)
        return values

    @check("higher is further out: change the sign, or set `out = 'between'` for a score of uncertainty")
    def test_higher_is_further_out(self) -> None:
        """Out-of-distribution rows score higher than ordinary rows."""
        score = self.fit()
        ordinary, out = self._call(score, self.rows(200, 3)), self._call(score, self.out_rows())
        higher = roc_auc_score(np.repeat([0, 1], [len(ordinary), len(out)]), np.concatenate([ordinary, out]))
        problem = f"a row that is {self.out} scores higher than an ordinary row with probability {higher:.2f}"
        expect(higher >= self.separation, f"{problem}, not {self.separation:g}")

    @check("return a float64 array `(N,)`, a value for each row")
    def test_shapes(self) -> None:
        """Scores are float64 (N,), also for no rows and for a single row."""
        score = self.fit()
        rows = self.rows(5, 3)
        for size in (5, 1, 0):
            values = self._call(score, take_rows(rows, np.arange(size)))
            expect(isinstance(values, np.ndarray), f"it gives a `{type(values).__name__}`, not an array")
            expect(values.shape == (size,), f"{size} rows give the shape {values.shape}")
            expect(values.dtype == np.float64, f"scores are {values.dtype}, not float64")

    @check("learn scales and centres in `fit`, not in a call")
    def test_rows_are_independent(self) -> None:
        """A row's score does not depend on the rows scored with it."""
        score, rows = self.fit(), self.rows(80, 3)
        expected = self._call(score, rows)
        for index in ([0], [79, 3], list(range(20, 30))):
            values = self._call(score, take_rows(rows, np.array(index)))
            same = np.allclose(values, expected[index], rtol=self.tolerance, atol=self.tolerance)
            scores = f"{values[0]:.6g} in a small batch, {expected[index[0]]:.6g} in a large"
            expect(same, f"row {index[0]} scores {scores}")

    @check("let the score depend on the distribution of the training rows, not on single rows")
    def test_ranks_are_stable(self) -> None:
        """Fitted to another sample of rows, it gives rows nearly the same order."""
        rows = self.rows(300, 3)
        scores = [self._call(self.fit(seed=seed), rows) for seed in (0, 50)]
        correlation = spearmanr(*scores).statistic
        problem = f"the rank correlation between two fits is {correlation:.2f}, not {self.rank_stability:g}"
        expect(correlation >= self.rank_stability, problem)

    @check("clip, and replace NaN by a very high score: such a row is further out than any other")
    def test_scores_are_finite(self) -> None:
        """Every score is finite, also for rows that are huge, infinite or NaN."""
        score = self.fit()
        for value in (0.0, 1e6, -1e30, float("inf"), float("nan")):
            values = self._call(score, self._inputs(torch.full((2, self._features), value)))
            expect(bool(np.isfinite(values).all()), f"rows of {value:g} score {values[0]}")

    @check("support few and equal rows: give every divisor a lower bound")
    def test_fits_few_rows(self) -> None:
        """It can be fitted to a single row and to equal rows, and gives finite scores after that."""
        equal = self._inputs(torch.ones(30, self._features))
        for name, rows in (("one row", self.rows(1, 0)), ("30 equal rows", equal)):
            values = self._call(self._fit(rows, rows), self.rows(20, 3))
            expect(bool(np.isfinite(values).all()), f"fitted to {name} it gives scores that are not finite")

    @check("return plain JSON values and numeric arrays from `state`; keep no reference to the model")
    def test_state_round_trip(self) -> None:
        """A new score with the state of a fitted one gives the same scores."""
        score, again, rows = self.fit(), self.build(), self.rows(50, 3)
        copy_state(score, again)
        same = np.array_equal(self._call(again, rows), self._call(score, rows))
        expect(same, "the restored score gives other values")

    @check("draw from the `generator` that `fit` is given")
    def test_global_random_numbers_are_left_alone(self) -> None:
        """Its random numbers come from the generator; the same seed gives the same scores."""
        super().test_global_random_numbers_are_left_alone()
        expect(np.array_equal(self._scores(), self._scores()), "the same generator gives other scores")

    @check("make new arrays instead of changing those of the rows in place")
    def test_rows_are_left_alone(self) -> None:
        """Scoring changes no rows and no fitted values."""
        score, rows = self.fit(), self.rows(30, 3)
        tensors = (rows.x, rows.latents.z, rows.log_posterior, rows.log_density)
        before = [tensor.clone() for tensor in tensors]
        first = self._call(score, rows)
        expect(all(map(torch.equal, tensors, before)), "scoring changes the rows in place")
        expect(np.array_equal(self._call(score, rows), first), "scoring again gives other values")
