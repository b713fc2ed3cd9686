"""What `curve` and `sweep` share: carrying out the points of an experiment one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowgmm_cli.experiments.experiment import Experiment
    from flowgmm_cli.experiments.points import Point
    from flowgmm_cli.experiments.results import Result

Write = Callable[["Experiment", Sequence["Result"]], dict[str, Any]]


def carry_out(
    experiment: Experiment, points: Sequence[Point], write: Write, *, baselines: bool, offline: bool
) -> dict[str, Any]:
    """Do what is left to do and write the results after each point; returns the last that was written.

    Raises:
        InterruptedRunError: stopped; what is done is kept.
        RunFailedError: one or more runs failed; the others were carried out.
    """
    import sys

    from flowgmm_cli.cli import console
    from flowgmm_cli.cli.work import data_context
    from flowgmm_cli.errors import InterruptedRunError, RunFailedError
    from flowgmm_cli.experiments.experiment import RunOptions
    from flowgmm_cli.experiments.points import check_data
    from flowgmm_cli.training.fitting import Talk
    from flowgmm_cli.training.interrupt import Interrupt

    experiment.open(points)
    left = [point for point in points if not experiment.is_finished(point, baselines=baselines)]
    if len(left) < len(points):
        console.note(f"{len(points) - len(left):,} of {len(points):,} points are there already")
    failed: list[str] = []
    again = command_line()
    try:
        with Interrupt() as interrupt, console.progress() as progress:
            context = data_context(progress, offline=offline)
            check_data(left, context)
            options = RunOptions(
                context=context,
                talk=Talk(progress=progress, note=console.debug),
                interrupt=interrupt,
                baselines=baselines,
                argv=sys.argv[1:],
            )
            for done, point in enumerate(left):
                progress(done, len(left), "points", point.describe())
                try:
                    result = experiment.run_point(point, options)
                except RunFailedError as error:
                    failed.append(f"{point.describe()}: {error.message}")
                    console.warn(failed[-1])
                    continue
                write(experiment, experiment.read_results())
                ours = result.methods["flowgmm"]
                console.note(f"{point.describe()}: accuracy {ours['accuracy']:.4f} ({ours['seconds']:.0f} s)")
            progress(len(left), len(left), "points", "")
    except InterruptedRunError as error:
        raise InterruptedRunError(f"{error.message}; what is done is kept", hint=again) from error
    except KeyboardInterrupt:
        raise InterruptedRunError("stopped by you; what is done is kept", hint=again) from None
    value = write(experiment, experiment.read_results())
    if failed:
        raise RunFailedError(
            f"{len(failed):,} of {len(points):,} runs failed; the others are in {experiment.folder}",
            details=failed,
            hint=f"to try them again: {again}",
        )
    return value


def command_line() -> str:
    """This command as it would be typed again."""
    import shlex
    import sys

    return shlex.join(["flowgmm", *sys.argv[1:]])
