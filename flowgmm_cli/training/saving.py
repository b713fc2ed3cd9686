"""When the state of a training is saved, and the time it has taken."""

from __future__ import annotations

import time

from flowgmm_cli.recipe.schema import CheckpointConfig


class Clock:
    """Training time over all sittings.

    Args:
        before: seconds of earlier ones.
    """

    def __init__(self, before: float) -> None:
        self.before = before
        self.start = time.monotonic()

    def seconds(self) -> float:
        """All of it so far."""
        return self.before + time.monotonic() - self.start


class Saver:
    """Decides after which steps the state is saved.

    Args:
        config: how often.
        per_epoch: steps of an epoch.
    """

    def __init__(self, config: CheckpointConfig, per_epoch: int) -> None:
        self.config = config
        self.per_epoch = per_epoch
        self.last = time.monotonic()

    def late(self) -> bool:
        """Whether the clock says that it is time, which several processes do not see alike."""
        minutes = self.config.every_minutes
        return bool(minutes and time.monotonic() - self.last >= 60 * minutes)

    def due(self, done: int, *, late: bool | None = None) -> bool:
        """Whether it is time after `done` steps.

        Args:
            done: steps taken.
            late: what the processes have agreed on about the clock; None = what `late` says.
        """
        config = self.config
        due = bool(
            (config.every_epochs and done % (config.every_epochs * self.per_epoch) == 0)
            or (config.every_steps and done % config.every_steps == 0)
            or (self.late() if late is None else late)
        )
        if due:
            self.last = time.monotonic()
        return due
