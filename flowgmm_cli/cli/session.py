"""A trained run while a command uses it, with its own rows or those of a file."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgmm_cli.cli import output
from flowgmm_cli.cli.progress import Progress
from flowgmm_cli.cli.validation import check_absent, check_input_kept, check_stdout
from flowgmm_cli.data.readers.byte_source import ENCODING_HINT, FOREIGN_MARKS, MARKS_HINT, NOT_UTF8
from flowgmm_cli.errors import DataError, UsageError
from flowgmm_cli.formatting import pluralise

if TYPE_CHECKING:
    from flowgmm_cli.api import DataContext, Rows
    from flowgmm_cli.data.readers.base import RowReader
    from flowgmm_cli.data.readers.row_errors import OnError
    from flowgmm_cli.data.splits import SplitData
    from flowgmm_cli.data.writers.base import Writer
    from flowgmm_cli.evaluation.result_warnings import ResultWarning
    from flowgmm_cli.inference.scores import OODRule, Scores, Totals
    from flowgmm_cli.runs import Run
    from flowgmm_cli.trained_model import TrainedModel


def data_context(progress: Progress) -> DataContext:
    """Return the context of data sources and encoders: caches, network access, progress and notes."""
    from flowgmm_cli.api import DataContext
    from flowgmm_cli.data.cache import user_cache_dir

    offline, cache = output.settings.offline, str(user_cache_dir())
    return DataContext(offline=offline, cache_dir=cache, progress=progress, note=output.note)


def select_run(argument: str | None, flag: str | None) -> Run:
    """Return the run that a command line names, or the default one; a note says which."""
    from flowgmm_cli.runs import find_run

    if argument and flag and argument != flag:
        raise UsageError(f"two runs were named: {argument} and {flag}", hint="name one of them")
    run, how = find_run(argument or flag, note=output.note, offline=output.settings.offline)
    output.note(f"run     {run.path} ({how})")
    return run


def write_model_card(run: Run, context: DataContext) -> None:
    """Write the model card; an error here is only a warning, since the results are saved."""
    from flowgmm_cli.report.card import FILE, write_card
    from flowgmm_cli.report.context import ReportContext

    try:
        if write_card(ReportContext(run, context)) is None:
            output.note(f"{run.path / FILE} was edited and stays as it is")
    except Exception as error:
        output.warn(f"the model card cannot be written ({type(error).__name__}: {error})")


@dataclass(frozen=True)
class Session:
    """A loaded run, with its model, the context of data sources and the progress of work."""

    run: Run
    trained: TrainedModel
    context: DataContext
    progress: Progress

    def own_rows(self, purpose: str) -> SplitData:
        """Read the rows of the run's recipe, split as in training; `purpose` is for error messages."""
        from flowgmm_cli.inference.inputs import load_run_rows

        return load_run_rows(self.run, self.trained, self.context, warn=output.warn, purpose=purpose)

    def check_target(self, target: Path, *, force: bool) -> None:
        """Raise `UsageError` if a recipe or a table of the run's rows beside it exists."""
        from flowgmm_cli.inference.new_classes import table_suffix

        suffix = table_suffix(self.trained.preprocessor.columns)
        for file in (target, target.with_suffix(suffix), target.with_name(f"{target.stem}_test{suffix}")):
            check_absent(file, "name another recipe with --recipe, or replace it with --force", force=force)

    def open_rows(
        self,
        data: str | None,
        *,
        purpose: str,
        data_format: str | None = None,
        on_error: OnError = "fail",
        flag: str = "--data",
        keep: Sequence[str] | None = None,
    ) -> RowReader:
        """Open rows of `data`, or the run's held-out rows; `purpose` and the flag are for messages.

        `keep` names columns of the input that the rows pass on.
        """
        if data is None:
            if keep:
                raise UsageError(f"--with keeps columns of {flag}", hint=f"name the rows: {flag} FILE")
            from flowgmm_cli.data.readers.base import MemoryReader
            from flowgmm_cli.inference.inputs import select_held_out

            split, rows = select_held_out(self.own_rows(purpose))
            output.note(f"rows    the run's {split} split, {len(rows):,} rows; {flag} FILE names others")
            if split == "train":
                output.warn("this run has no held-out rows, so its training rows are used")
            return MemoryReader(rows, f"the run's {split} split")
        from flowgmm_cli.data.readers.open import open_rows
        from flowgmm_cli.inference.inputs import input_schema

        schema = input_schema(self.trained)
        work: dict[str, Any] = {"context": self.context, "format": data_format, "on_error": on_error}
        return open_rows(data, schema, keep=keep or (), **work)

    def score(self, reader: RowReader, task: str, **options: Any) -> Iterator[Scores]:
        """Score rows and report the progress of `task`; options are those of `inference.scoring.score`."""
        from flowgmm_cli.inference.scoring import score

        stream = score(self.trained, reader, context=self.context, folder=self.run.path, **options)
        count = 0
        for scores in stream:
            yield scores
            count += len(scores)
            self.progress(count, reader.total or 0, task)

    def score_pile(
        self, data: str | None, data_format: str | None, rule: OODRule | None, *, purpose: str
    ) -> tuple[SplitData, Rows, Scores, int]:
        """Score the training and validation rows of a run, and the rows of `data`; `purpose` is for messages.

        Returns:
            The run's rows by split; the rows of the pile, those of `data` last; their scores, which have the
            inputs of the flow as vectors; and the number of these rows that are the run's own.
        """
        from flowgmm_cli.inference.discovery import CollectingReader, score_in_memory
        from flowgmm_cli.inference.inputs import concatenate_rows, training_rows
        from flowgmm_cli.inference.scores import Scores

        own = self.own_rows(purpose)
        if own.chunked is not None and data is None:
            output.note(f"rows    the {len(own.train):,} rows of the run that are in memory are searched")
        pile = training_rows(own)
        parts = [("the run", pile, score_in_memory(self.trained, pile, self.context, rule))]
        if data is not None:
            rows = self.open_rows(data, purpose=purpose, data_format=data_format, on_error="keep")
            reader = CollectingReader(rows)
            scored = list(self.score(reader, "score", space="input", rule=rule))
            if not scored:
                raise DataError(f"{reader.name} has no rows")
            parts.append((reader.name, concatenate_rows(reader.rows), Scores.concatenate(scored)))
        for name, _, scores in parts:
            if (bad := int((~scores.scorable).sum())) == len(scores):
                raise DataError(f"none of the {bad:,} rows of {name} could be scored")
            if bad:
                output.warn(f"{bad:,} of the {len(scores):,} rows of {name} could not be scored")
        columns = [column.name for column in self.trained.preprocessor.columns]
        inputs = [
            replace(part, columns={name: part.columns[name] for name in columns}, extras={})
            for _, part, _ in parts
        ]
        starts = (0, len(pile))[: len(parts)]
        scored = [replace(part, start=start) for (*_, part), start in zip(parts, starts, strict=True)]
        return own, concatenate_rows(inputs), Scores.concatenate(scored), len(pile)


@contextmanager
def open_session(run: str | None, run_flag: str | None) -> Iterator[Session]:
    """Find and load a run, with progress on stderr while it is used."""
    selected = select_run(run, run_flag)
    output.note("loading torch…")
    _import_arrow()
    from flowgmm_cli.trained_model import TrainedModel

    with output.progress() as progress:
        context = data_context(progress)
        yield Session(selected, TrainedModel.load(selected.path, context=context), context, progress)


class _NoPandas:
    """Finder of modules that finds no pandas."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _import_arrow() -> None:
    """Import pyarrow without pandas, which it loads for the first conversion of Python objects if it can."""
    import pyarrow as pa

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(_NoPandas)


def open_table(
    data: str | None, save: str | None, format_: str | None, *, as_json: bool
) -> AbstractContextManager[Writer | None]:
    """Check `--data` and `--save` and return the writer of the table; `--json` alone needs no table."""
    _import_arrow()
    from flowgmm_cli.data.writers.base import open_writer

    check_stdout(save, as_json=as_json)
    check_input_kept(data, save)
    return nullcontext() if as_json and save is None else open_writer(save or "-", format=format_)


def write_table(
    table: AbstractContextManager[Writer | None],
    rows: Iterable[tuple[Scores, Mapping[str, Any]]],
    names: Sequence[str],
) -> Totals:
    """Write some columns of scored rows and the kept ones of the input, and return their totals."""
    from flowgmm_cli.inference.scores import Totals, rename_kept

    totals = Totals()
    with table as writer:
        for scores, columns in rows:
            totals.add(scores)
            if writer:
                kept = rename_kept(scores, columns)
                writer.write({name: columns[name] for name in names} | kept)
    return totals


def print_warnings(warnings: Sequence[ResultWarning]) -> list[dict[str, Any]]:
    """Print warnings about results or rows, and return them for JSON."""
    for warning in warnings:
        output.warn(warning.text)
    return [warning.to_dict() for warning in warnings]


def totals_to_dict(
    schema: str, session: Session, totals: Totals, save: str | None, **values: Any
) -> dict[str, Any]:
    """Return the JSON values of a command that writes a table, with its own `values` in their place."""
    return {
        "schema": schema,
        "run": str(session.run.path),
        "n": totals.n,
        "unscorable": totals.unscorable,
        "reasons": totals.reasons,
        "saved": save,
        **values,
        "seconds": round(totals.seconds, 3),
        "rows_per_second": round(totals.n / max(totals.seconds, 1e-9), 1),
    }


def file_stem(data: str) -> str:
    """Return a file name for rows: the stem of their file, or words of their data spec."""
    if data == "-":
        return "stdin"
    if data.lstrip().startswith("{"):
        words = re.findall(r"[\w.-]+", data)
        return "_".join(words[1:])[:60] or "spec"
    return re.sub(r"[^\w.-]", "_", Path(data).expanduser().resolve().name.split(".")[0]) or "rows"


def note_totals(name: str, totals: Totals, *, labels: bool = False) -> None:
    """Print notes on the rows of an input, on their labels if these are used, and the throughput.

    Raises:
        DataError: no row could be scored.
    """
    if labels and totals.unknown:
        (label, _), *others = totals.unknown.most_common()
        more = f" and {len(others):,} more {'class' if len(others) == 1 else 'classes'}" if others else ""
        output.note(
            f"labels  {totals.unknown.total():,} of the {totals.labelled:,} labels of {name} are "
            f"`{label}`{more}: no class of the model, so they count as wrong"
        )
    warn_unscorable(name, totals)
    note_throughput(totals.n, totals.seconds)


def warn_unscorable(name: str, totals: Totals) -> None:
    """Warn of rows that could not be scored, with the first reasons; raise `DataError` if none could."""
    more = totals.unscorable - len(totals.reasons)
    details = [*totals.reasons, *([f"and {more:,} more"] if more else [])]
    if totals.unscorable and not totals.scored:
        hint = "compare its columns with those of the training data"
        if any(FOREIGN_MARKS in reason for reason in totals.reasons):
            hint = f"name the marks of its numbers: {MARKS_HINT}"
        elif any(NOT_UTF8 in reason for reason in totals.reasons):
            hint = ENCODING_HINT
        raise DataError(
            f"none of the {totals.n:,} rows of {name} could be scored", details=details, hint=hint
        )
    if totals.unscorable:
        rows = f"{totals.unscorable:,} of the {totals.n:,} rows of {name}"
        output.warn(f"{rows} could not be scored and have no result", details)


def note_throughput(n: int, seconds: float) -> None:
    """Print the number of rows and the rate at which they were scored."""
    output.note(f"{pluralise(n, 'row')} in {seconds:.1f} s, {n / max(seconds, 1e-9):,.0f} rows a second")
