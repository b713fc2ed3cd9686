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

    def due(self, done: int) -> bool:
        """Whether it is time after `done` steps."""
        config = self.config
        due = bool(
            (config.every_epochs and done % (config.every_epochs * self.per_epoch) == 0)
            or (config.every_steps and done % config.every_steps == 0)
            or (config.every_minutes and time.monotonic() - self.last >= 60 * config.every_minutes)
        )
        if due:
            self.last = time.monotonic()
        return due
