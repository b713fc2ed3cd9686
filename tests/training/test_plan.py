from __future__ import annotations

from typing import Any

import pytest

from flowgmm_cli.training import search
from flowgmm_cli.training.callbacks import Callbacks
from flowgmm_cli.training.plan import Stage, TrainingPlan

STAGES = (
    Stage("search", "folds", "4 folds", (1.0,) * 4),
    Stage("train", "models", "2 models", (4.0, 4.0)),
    Stage("calibrate", "folds", "calibration", ()),
)


class Watch:
    """A plan with a clock and a list of its reports."""

    def __init__(self, stages: tuple[Stage, ...] = STAGES) -> None:
        self.now = 0.0
        self.reports: list[tuple[float, str, float | None]] = []
        callbacks = Callbacks(overall=lambda *report: self.reports.append(report))
        self.plan = TrainingPlan(stages, callbacks, clock=lambda: self.now)

    def train(self, fits: int, *, seconds: float, first: int = 1) -> None:
        self.plan.start(fits)
        for step in range(first, 11):
            self.now += seconds / (11 - first)
            self.plan.callbacks.progress(step, 10, "title", "")


def test_a_stage_may_have_fewer_trainings_than_were_expected() -> None:
    watch = Watch()
    for _ in range(2):
        watch.train(2, seconds=20.0)
    watch.plan.shorten("train", 1, "1 model")
    watch.train(1, seconds=40.0)
    share, text, left = watch.reports[-1]
    assert (share, text) == (pytest.approx(1, abs=0.01), "train 0/1 models, then calibration")
    assert left == pytest.approx(0, abs=1)


def test_the_time_left_follows_the_time_of_an_epoch() -> None:
    watch = Watch()
    watch.train(2, seconds=20.0)  # 2 of 12 epochs
    share, text, left = watch.reports[-1]
    assert (share, text) == (pytest.approx(2 / 12), "search 0/4 folds, then 2 models, calibration")
    assert left == pytest.approx(100, rel=0.01)
    watch.train(2, seconds=20.0)
    watch.train(1, seconds=20.0)  # the members are twice as fast
    share, text, left = watch.reports[-1]
    assert (share, text) == (pytest.approx(8 / 12), "train 0/2 models, then calibration")
    assert left == pytest.approx(4 * 60 / 8, rel=0.01)
    watch.plan.finish()
    assert watch.reports[-1] == (1.0, "4 folds, 2 models, calibration", 0.0)


def test_work_of_an_earlier_session_does_not_shorten_the_estimate() -> None:
    watch = Watch()
    watch.plan.start(4)  # the search is there
    watch.train(1, seconds=20.0, first=6)  # the second half of a member
    share, _, left = watch.reports[-1]
    assert share == pytest.approx(8 / 12)
    assert left == pytest.approx(4 * 20 / 2, rel=0.01)


def test_the_first_seconds_have_no_estimate() -> None:
    watch = Watch()
    watch.train(1, seconds=1.0)
    assert {left for _, _, left in watch.reports} == {None}


def test_a_slow_start_does_not_count_as_a_rate() -> None:
    watch = Watch()
    watch.plan.start(1)
    watch.now = 60.0  # until the first step is done
    for step in range(1, 5):
        watch.plan.callbacks.progress(step, 1000, "title", "")
        watch.now += 1
    assert watch.reports[-1][2] is None  # too few of the steps
    for step in range(5, 500):
        watch.plan.callbacks.progress(step, 1000, "title", "")
        watch.now += 1
    assert watch.reports[-1][2] == pytest.approx(12 * 1000 - 499, rel=0.01)


def test_a_single_training_reports_itself_only() -> None:
    watch = Watch((Stage("train", "models", "1 model", (20.0,)), STAGES[2]))
    watch.train(1, seconds=9.0)
    watch.plan.finish()
    assert watch.reports == []


@pytest.mark.parametrize(
    ("words", "first", "last"),
    [
        (
            ("search={keep: 2, folds: 2, candidates: {plain: {}, wide: {flow.hidden: 24}}}",),
            "search 0/4 folds, then 2 models, calibration",
            "4 folds, 2 models, calibration",
        ),
        ((), "train 0/1 models, then calibration", "1 model, calibration"),
    ],
)
def test_a_run_counts_its_trainings(
    train_run: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], first: str, last: str
) -> None:
    monkeypatch.setattr(search, "keep_candidates", lambda ranked, most, without=None: tuple(ranked[:most]))
    reports: list[tuple[float, str]] = []

    def overall(share: float, text: str, seconds_left: float | None) -> None:
        reports.append((share, text))

    train_run("run", "run.jobs=1", *words, callbacks=Callbacks(overall=overall))
    shares = [share for share, _ in reports]
    assert reports[0] == (0.0, first)
    assert reports[-1] == (1.0, last)
    assert shares == sorted(shares)
    assert shares[-2] == 0.999
