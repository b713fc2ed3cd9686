"""What commands that go through rows share: where rows come from, and what is said at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowgmm_cli.api import DataContext
    from flowgmm_cli.cli.console import Report
    from flowgmm_cli.data.readers.base import OnError, RowReader
    from flowgmm_cli.inference.predictions import Totals
    from flowgmm_cli.inference.scoring import ScoredRows
    from flowgmm_cli.trained import TrainedModel


def check_words(data: str | None, save: str | None, *, as_json: bool, on_error: str) -> OnError:
    """Refuse flags that do not go together; return what becomes of rows that cannot be scored.

    Raises:
        UsageError: stdout would get two answers, the input would be replaced by the answer, or `--on-error`
            is unknown.
    """
    from flowgmm_cli.errors import UsageError

    if as_json and save == "-":
        raise UsageError(
            "--json and --save - would both write to stdout",
            hint="--save FILE --json, or leave one of them out",
        )
    both = [Path(one) for one in (data, save) if one and one != "-"]
    if len(both) == 2 and all(one.is_file() for one in both) and both[0].samefile(both[1]):
        raise UsageError(
            f"--save {save} would replace the rows that are read", hint="name another file for the answer"
        )
    if on_error not in ("fail", "keep"):
        raise UsageError(f"--on-error is fail or keep, not `{on_error}`", hint="--on-error keep")
    return "fail" if on_error == "fail" else "keep"


def rows_in(
    trained: TrainedModel,
    info: dict[str, Any],
    context: DataContext,
    data: str | None,
    *,
    data_format: str | None,
    on_error: OnError,
    purpose: str,
) -> RowReader:
    """Rows of a file, or of the run's own held-out split where none is named, which is said on stderr."""
    from flowgmm_cli.cli import console

    if data is None:
        from flowgmm_cli.data.readers.base import MemoryReader
        from flowgmm_cli.inference.inputs import held_out_rows, load_run_rows

        rows = load_run_rows(
            trained, context, fingerprint=info.get("fingerprint"), warn=console.warn, purpose=purpose
        )
        split, found = held_out_rows(rows)
        console.note(f"rows    the run's {split} split, {len(found):,} rows; --data FILE names others")
        return MemoryReader(found, f"the run's {split} split")
    from flowgmm_cli.data.readers.open import open_rows
    from flowgmm_cli.data.readers.schema import InputSchema

    preprocessor = trained.preprocessor
    schema = InputSchema.from_config(
        trained.recipe.data, preprocessor.columns, trained.class_names, ranges=preprocessor.ranges
    )
    return open_rows(data, schema, context=context, format=data_format, on_error=on_error)


def watched(
    stream: Iterator[ScoredRows], progress: Report, total: int | None, what: str
) -> Iterator[ScoredRows]:
    """The same rows, with progress told."""
    done = 0
    for scored in stream:
        yield scored
        done += len(scored)
        progress(done, total or 0, what)


def say_totals(totals: Totals, name: str) -> None:
    """Rows without an answer, and the throughput, on stderr.

    Raises:
        DataError: not one row could be scored.
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.errors import DataError

    if totals.unscorable:
        one = totals.unscorable == 1
        rows = "1 row" if one else f"{totals.unscorable:,} rows"
        more = totals.unscorable - len(totals.reasons)
        lines = [*totals.reasons, *([f"and {more:,} more"] if more else [])]
        if totals.unscorable == totals.n:
            raise DataError(
                f"none of the {totals.n:,} rows of {name} could be scored",
                details=lines,
                hint="compare its columns with those of the training data",
            )
        kept = f"{'is' if one else 'are'} kept without an answer"
        console.warn("\n  ".join([f"{rows} of {totals.n:,} could not be scored and {kept}", *lines]))
    console.note(f"{totals.n:,} rows in {totals.seconds:.1f} s, {totals.rows_per_second:,.0f} rows a second")


@contextmanager
def stopped_by_terminate() -> Iterator[None]:
    """Let SIGTERM end the block like an error, so that no half-written file is left behind."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
