"""`flowgmm-runtime predict FOLDER --data new.csv --save out.csv`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from flowgmm_runtime.cells import InputError
from flowgmm_runtime.files import find_format, open_writer, read_batches
from flowgmm_runtime.model import FolderError, load

_MAX_REASONS = 3


def predict(arguments: argparse.Namespace) -> None:
    """Predict the rows of a file, one row for each row of the input, in order."""
    model = load(arguments.folder, threads=arguments.threads)
    form = find_format(arguments.data, arguments.data_format)
    target = find_format(arguments.save, arguments.format)
    count, unscorable, reasons = 0, 0, list[str]()
    with open_writer(arguments.save, target) as write:
        for table, problems in read_batches(arguments.data, form, model.settings):
            results = model.score_table(table, start=count, problems=problems)
            if results.problems and arguments.on_error == "fail":
                row, reason = next(iter(results.problems.items()))
                raise InputError(f"{arguments.data}, row {results.ids[row]}: {reason}")
            write(model.table(results))
            count += len(results.ids)
            unscorable += len(results.problems)
            reasons += [f"row {results.ids[row]}: {text}" for row, text in results.problems.items()]
            del reasons[_MAX_REASONS:]
        if unscorable == count:
            raise InputError(f"none of the {count:,} rows of {arguments.data} could be scored: {reasons[0]}")
    if unscorable:
        _print(f"warning: {unscorable:,} of the {count:,} rows could not be scored and have no result")
        for reason in reasons:
            _print(f"  {reason}")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code, which is that of flowgmm for such an error."""
    parser = argparse.ArgumentParser(
        prog="flowgmm-runtime", description="Predictions of models that `flowgmm export` has written."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "predict",
        help="predict classes: one row for each row of the input, in order",
        description="Columns: id, prediction, confidence, ood_score (higher = further out), is_ood, "
        "p_<class>, and p_unknown for a model with unknown kinds.",
    )
    command.add_argument("folder", metavar="FOLDER", help="folder that `flowgmm export` has written")
    command.add_argument(
        "--data", required=True, metavar="FILE|-", help="csv, tsv or JSON lines; - for stdin"
    )
    command.add_argument("--save", default="-", metavar="FILE|-", help="csv, tsv or jsonl; default: stdout")
    for flag, file in (("--data-format", "read"), ("--format", "write")):
        command.add_argument(flag, choices=["csv", "tsv", "jsonl"], help=f"format of the file to {file}")
    command.add_argument(
        "--on-error", choices=["keep", "fail"], default="keep", help="empty cells for a bad row, or stop"
    )
    command.add_argument("--threads", type=int, metavar="N", help="threads; default: one a core")
    command.set_defaults(run=predict)
    arguments = parser.parse_args(words)
    try:
        arguments.run(arguments)
    except FolderError as error:
        _print(f"error: {error}")
        return 6
    except BrokenPipeError:
        return 0
    except OSError as error:
        _print(f"error: {error.filename}: {error.strerror}")
        return 5
    except (InputError, ImportError) as error:
        _print(f"error: {error}")
        return 5
    return 0


def _print(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
