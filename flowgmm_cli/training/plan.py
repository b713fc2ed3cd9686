"""The trainings of a run: how many there are, how far they are, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from flowgmm_cli.recipe.schema import TrainConfig
from flowgmm_cli.training.callbacks import Callbacks

_ALMOST = 0.999  # share that is done before `finish`
# the rest is estimated after some seconds, once a share of the work is done or these are many
_FIRST_SECONDS, _FIRST_SHARE, _MANY_SECONDS = 3.0, 0.01, 20.0


@dataclass(frozen=True)
class Stage:
    """Trainings with one purpose.

    Attributes:
        name: its name while it runs, such as `search`.
        unit: noun of its trainings in the plural, such as `folds`.
        title: its name before and after, such as `2 models`.
        epochs: expected length of each training.
    """

    name: str
    unit: str
    title: str
    epochs: tuple[float, ...]


class TrainingPlan:
    """Progress over all trainings of a run, which are counted in the order of the stages.

    Each batch of trainings is announced by `start`. `callbacks.overall` receives the share that is done, a
    description such as `search 7/16 folds, then 2 models`, and the seconds left, estimated from the mean time
    of an epoch so far. A plan of one training reports nothing, since its own progress is that of the run.

    Args:
        stages: stages in the order in which they run; those without trainings are only named.
        callbacks: functions of the run; `self.callbacks` has those for the trainings.
        clock: a clock in seconds.
    """

    def __init__(
        self,
        stages: Sequence[Stage] = (),
        callbacks: Callbacks | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stages, self.clock = tuple(stages), clock
        self._report = callbacks or Callbacks()
        self.callbacks = replace(self._report, progress=self._progress)
        self._epochs = self._list_epochs()
        self._begin: float | None = None  # time of the first report
        self._finished = self._running = 0  # trainings
        self._share: float | None = None  # of the running batch; None before its first report
        self._measured = 0.0  # epochs that were trained since `_begin`

    def start(self, fits: int) -> None:
        """Begin the next trainings, which run at once; those before are finished."""
        self._finished += self._running
        self._running, self._share = fits, None
        self._update()

    def shorten(self, name: str, trainings: int, title: str) -> None:
        """Leave only the first trainings of a stage that has not begun, and give it a new title."""
        self.stages = tuple(
            replace(stage, title=title, epochs=stage.epochs[:trainings]) if stage.name == name else stage
            for stage in self.stages
        )
        self._epochs = self._list_epochs()

    def finish(self) -> None:
        """Report the end of all trainings."""
        if len(self._epochs) > 1:
            self._report.overall(1.0, ", ".join(stage.title for stage in self.stages), 0.0)

    def _progress(self, done: int, total: int, title: str, detail: str) -> None:
        if self._share is None:  # a resumed training does not begin at 0, and the first step of all is slow
            self._share = max(done - (self._begin is not None), 0) / max(total, 1)
        if self._begin is None:
            self._begin = self.clock()
        share = done / max(total, 1)
        self._measured += (share - self._share) * self._batch_epochs()
        self._share = share
        self._update()
        self._report.progress(done, total, title, detail)

    def _update(self) -> None:
        total = sum(self._epochs)
        if len(self._epochs) < 2 or not self._running:
            return
        done = sum(self._epochs[: self._finished]) + (self._share or 0.0) * self._batch_epochs()
        self._report.overall(min(done / total, _ALMOST), self.describe(), self._seconds_left(total - done))

    def describe(self) -> str:
        """Name the present stage with the number of its finished trainings, then the stages that follow."""
        before = 0
        for index, stage in enumerate(self.stages):
            fits = len(stage.epochs)
            if self._finished < before + fits:
                present = f"{stage.name} {self._finished - before}/{fits} {stage.unit}"
                later = ", ".join(stage.title for stage in self.stages[index + 1 :])
                return present + (f", then {later}" if later else "")
            before += fits
        return self.stages[-1].title if self.stages else ""

    def _seconds_left(self, epochs: float) -> float | None:
        if self._begin is None:
            return None
        seconds, measured = self.clock() - self._begin, self._measured
        is_early = measured < _FIRST_SHARE * sum(self._epochs) and seconds < _MANY_SECONDS
        if measured <= 0 or seconds < _FIRST_SECONDS or is_early:
            return None
        return max(epochs, 0.0) * seconds / measured

    def _list_epochs(self) -> list[float]:
        return [epochs for stage in self.stages for epochs in stage.epochs]

    def _batch_epochs(self) -> float:
        return sum(self._epochs[self._finished : self._finished + self._running])


def count_epochs(train: TrainConfig, rows: int) -> float:
    """Number of epochs over `rows` training rows unless training stops early; the last may be a part."""
    if not train.max_steps:
        return float(train.epochs)
    return min(float(train.epochs), train.max_steps * min(train.batch_size, rows) / max(rows, 1))
