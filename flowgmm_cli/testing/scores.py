"""Checks of out-of-distribution scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.api import Kind, ScoreInputs, ScoreSpec
from flowgmm_cli.testing.check import check, expect
from flowgmm_cli.testing.component import Conformance
from flowgmm_cli.testing.surroundings import random_numbers_left_alone, shared_seed
from flowgmm_cli.testing.toys import seen_rows, toy_model, toy_seen

Floats = npt.NDArray[np.float64]


class ScoreConformance(Conformance):
    """What holds for every score; it is fitted to rows of a mixture of Gaussians.

        class TestMyScore(ScoreConformance):
            name = "my_score"

    Attributes:
        out: which rows it should take for out-of-distribution: those `far` from all training rows, or those
            `between` two classes, as a score of doubt does.
        separation: smallest probability that such a row scores higher than an ordinary one (the AUROC).
        rank_stability: smallest rank correlation between the scores of one row fitted to two different
            samples of training rows.
        tolerance: largest relative difference between scores that should be equal.
    """

    kind: ClassVar[Kind] = "score"
    out: ClassVar[Literal["far", "between"]] = "far"
    separation: ClassVar[float] = 0.9
    rank_stability: ClassVar[float] = 0.7
    tolerance: ClassVar[float] = 1e-6

    @property
    def _features(self) -> int:
        return 16 if self._images else 4

    @property
    def _images(self) -> bool:
        return cast(ScoreSpec, self.checked).reads == "images"

    def rows(self, n: int, seed: int) -> ScoreInputs:
        """Rows of the model itself."""
        model = toy_model(self._features)
        with torch.no_grad():
            x, _ = model.sample(n, torch.Generator().manual_seed(seed))
        return toy_seen(model, x, images=self._images)

    def out_rows(self, n: int = 120) -> ScoreInputs:
        """Rows that the score should take for out-of-distribution."""
        model, numbers = toy_model(self._features), torch.Generator().manual_seed(9)
        x = self.rows(n, 9).x
        if self.out == "far":
            x = x + 8 * torch.randn(x.shape, generator=numbers).sign() * torch.ones_like(x)
        else:
            with torch.no_grad():
                z = torch.zeros(n, self._features)
                z[:, 0] = 2.0 * torch.randn(n, generator=numbers).sign()  # halfway between two class means
                x = model.flow.inverse(z)  # type: ignore[operator]
        return toy_seen(model, x, images=self._images)

    def fitted(self, *, seed: int = 0, rows: int = 400) -> Any:
        """A fresh score, fitted."""
        score = self.build()
        model = toy_model(self._features)
        score.fit(self.rows(rows, seed), self.rows(rows // 2, seed + 100), model, np.random.default_rng(0))
        return score

    def _ask(self, score: Any, rows: ScoreInputs) -> Floats:
        with torch.no_grad():
            found: Floats = score(rows)
        return found

    @check("higher is further out: turn the sign, or set `out = 'between'` for a score of doubt")
    def test_higher_is_further_out(self) -> None:
        """Out-of-distribution rows score higher than ordinary ones."""
        score = self.fitted()
        ordinary, out = self._ask(score, self.rows(200, 3)), self._ask(score, self.out_rows())
        higher = (out[:, None] > ordinary[None]).mean() + 0.5 * (out[:, None] == ordinary[None]).mean()
        expect(
            higher >= self.separation,
            f"a row that is {self.out} scores higher than an ordinary one with probability {higher:.2f}, "
            f"not {self.separation:g}",
        )

    @check("return a float64 array `(N,)`, one value a row")
    def test_shapes(self) -> None:
        """Scores are float64 (N,), for no rows and for one as well."""
        score = self.fitted()
        rows = self.rows(5, 3)
        for size in (5, 1, 0):
            found = self._ask(score, seen_rows(rows, slice(size)))
            expect(isinstance(found, np.ndarray), f"it gives a `{type(found).__name__}`, not an array")
            expect(found.shape == (size,), f"{size} rows give the shape {found.shape}")
            expect(found.dtype == np.float64, f"scores are {found.dtype}, not float64")

    @check("learn scales and centres in `fit`; in a call look at each row by itself")
    def test_rows_are_independent(self) -> None:
        """A row's score does not depend on the rows scored with it."""
        score, rows = self.fitted(), self.rows(80, 3)
        together = self._ask(score, rows)
        for index in ([0], [79, 3], list(range(20, 30))):
            alone = self._ask(score, seen_rows(rows, torch.tensor(index)))
            same = np.allclose(alone, together[index], rtol=self.tolerance, atol=self.tolerance)
            expect(
                same,
                f"row {index[0]} scores {alone[0]:.6g} by itself and {together[index[0]]:.6g} among others",
            )

    @check("rest on what all training rows have in common, not on single ones")
    def test_ranks_are_stable(self) -> None:
        """Fitted to another sample of rows, it puts rows into nearly the same order."""
        rows = self.rows(300, 3)
        one, two = (self._ask(self.fitted(seed=seed), rows) for seed in (0, 50))
        ranks = [values.argsort(kind="stable").argsort(kind="stable") for values in (one, two)]
        table: Any = np.corrcoef(np.stack(ranks).astype(np.float64))
        correlation = float(table[0, 1])
        expect(
            correlation >= self.rank_stability,
            f"the rank correlation between two fits is {correlation:.2f}, not {self.rank_stability:g}",
        )

    @check("clip, and replace NaN by a very high score: such a row is further out than any other")
    def test_scores_are_finite(self) -> None:
        """Every score is finite, of rows that are huge, infinite or not numbers too."""
        score, model = self.fitted(), toy_model(self._features)
        for value in (0.0, 1e6, -1e30, float("inf"), float("nan")):
            x = torch.full((2, self._features), value)
            found = self._ask(score, toy_seen(model, x, images=self._images))
            expect(bool(np.isfinite(found).all()), f"rows of {value:g} score {found[0]}")

    @check("cope with few and with equal rows: add a floor to what is divided by")
    def test_fits_few_rows(self) -> None:
        """It can be fitted to one row and to equal rows, and is finite after that."""
        model, few = toy_model(self._features), self.rows(1, 0)
        equal = toy_seen(model, torch.ones(30, self._features), images=self._images)
        for what, rows in (("one row", few), ("30 equal rows", equal)):
            score = self.build()
            score.fit(rows, rows, model, np.random.default_rng(0))
            found = self._ask(score, self.rows(20, 3))
            expect(bool(np.isfinite(found).all()), f"fitted to {what} it gives scores that are not finite")

    @check("return plain JSON values and numeric arrays from `state`; keep no model: it is not there later")
    def test_state_round_trip(self) -> None:
        """A fresh score that is given the state of a fitted one gives the same scores."""
        score, rows = self.fitted(), self.rows(50, 3)
        values, arrays = score.state()
        expect(isinstance(values, Mapping) and isinstance(arrays, Mapping), "`state` gives no two mappings")
        plain = json.loads(json.dumps(dict(values), allow_nan=False))
        wrong = [name for name, one in arrays.items() if np.asarray(one).dtype.kind not in "fiub"]
        expect(not wrong, f"the array `{wrong[0] if wrong else ''}` holds no numbers")
        again = self.build()
        again.load_state(plain, {name: np.array(one) for name, one in arrays.items()})
        same = np.array_equal(self._ask(again, rows), self._ask(score, rows))
        expect(same, "the restored score gives other values")

    @check("draw from the `generator` that `fit` is given")
    def test_global_random_numbers_are_left_alone(self) -> None:
        """Its random numbers are those of the generator; the same one gives the same scores."""
        rows = self.rows(50, 3)
        self._ask(self.fitted(), rows)  # what is imported only now may do what it likes
        with random_numbers_left_alone("fitting and scoring"):
            first = self._ask(self.fitted(), rows)
        with shared_seed(5):
            second = self._ask(self.fitted(), rows)
        expect(np.array_equal(first, second), "the same generator gives other scores")

    @check("make new arrays instead of changing those of the rows in place")
    def test_rows_are_left_alone(self) -> None:
        """Scoring changes no rows and no fitted values."""
        score, rows = self.fitted(), self.rows(30, 3)
        tensors = (rows.x, rows.latents.z, rows.log_posterior, rows.log_density)
        before = [one.clone() for one in tensors]
        first = self._ask(score, rows)
        same = all(torch.equal(one, two) for one, two in zip(tensors, before, strict=True))
        expect(same, "scoring changes the rows in place")
        expect(np.array_equal(self._ask(score, rows), first), "scoring again gives other values")
