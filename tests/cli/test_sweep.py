"""`flowgmm sweep`: its grid, its files, its note, and that all mistakes come first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from own_files import read_rows

WORDS = ["train.epochs=1", "calibration.method=none"]


def test_every_combination_is_trained_and_ranked(flowgmm: Any, moons_file: Path) -> None:
    words = ["flow.couplings=2,4", "data.views.strong=[],[{use: noise, scale: 0.1}]", *WORDS, "--seeds", "0"]
    value = flowgmm("sweep", str(moons_file), *words, "--json").json
    assert value["schema"] == "flowgmm/sweep/1"
    assert value["runs"] == 4
    combinations = value["combinations"]
    assert {tuple(row["settings"].items()) for row in combinations} == {
        (("flow.couplings", couplings), ("data.views.strong", view))
        for couplings in ("2", "4")
        for view in ("[]", "[{use: noise, scale: 0.1}]")
    }
    accuracies = [row["accuracy"]["mean"] for row in combinations]
    assert accuracies == sorted(accuracies, reverse=True)
    folder = Path("sweeps", "moons")
    rows = read_rows(folder / "sweep.csv")
    assert list(rows[0])[:4] == ["flow.couplings", "data.views.strong", "seed", "method"]
    for row in rows:
        resolved = (folder / row["run"] / "resolved.yaml").read_text(encoding="utf-8")
        assert f"couplings: {row['flow.couplings']}\n" in resolved
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")

    again = flowgmm("sweep", str(moons_file), *words)
    assert "4 of 4 points are there already" in again.err
    lines = again.out.splitlines()
    assert "looks better on these rows than it is" in lines[0]
    assert lines[1].split()[:3] == ["flow.couplings", "data.views.strong", "seeds"]
    assert len(lines) == 6

    other = flowgmm("sweep", str(moons_file), "flow.couplings=2,4", *WORDS, "--seeds", "0", code=6)
    assert "keys: stored data.views.strong flow.couplings, now flow.couplings" in other.err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["flow.couplings=2,none", "train.lr=1e-3,-1"], 3, "3 of 4 combinations are invalid"),
        (["train.epochs=3"], 2, "varies at least one key"),
        (["flow.couplings=2,"], 2, "empty value"),
        (["run.seed=1,2"], 2, "use --seeds instead"),
        (["flow.couplings=2,4", "--seeds", "x"], 2, "--seeds x"),
        (["flow.use=realnpv,realnvq"], 4, "realnpv"),
        ([], 2, "Missing argument"),
    ],
)
def test_mistakes_are_reported_before_training(
    flowgmm: Any, moons_file: Path, words: list[str], code: int, text: str
) -> None:
    outcome = flowgmm("sweep", str(moons_file), *words, code=code)
    assert text in outcome.err
    assert not Path("sweeps").exists()


def test_a_run_that_fails_does_not_stop_the_others(
    flowgmm: Any, moons_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flowgmm_cli.errors import RunFailedError
    from flowgmm_cli.training import pipeline

    whole = pipeline.train

    def train(recipe: Any, *words: Any, **options: Any) -> Any:
        if recipe.flow.config.couplings == 4:
            raise RunFailedError("the loss is NaN")
        return whole(recipe, *words, **options)

    monkeypatch.setattr(pipeline, "train", train)
    outcome = flowgmm("sweep", str(moons_file), "flow.couplings=4,2", *WORDS, "--seeds", "0", code=1)
    assert "1 of 2 runs failed" in outcome.err
    assert "flow.couplings=4 seed=0: the loss is NaN" in outcome.err
    assert "hint: to try them again: flowgmm sweep" in outcome.err
    rows = read_rows("sweeps/moons/sweep.csv")
    assert [row["flow.couplings"] for row in rows] == ["2"]
