"""Memory and throughput of predict, embed and ood on a large table, beside the bare model on the same rows.

    python benchmarks/inference.py                         5 million rows in a temporary folder
    python benchmarks/inference.py --rows 200000 --verbs predict,ood
    python benchmarks/inference.py --run runs/csv/latest --data rows.csv      a run and rows of your own
    python benchmarks/inference.py --json results.json     save the results

The bare model is a process of its own with the same threads: it reads and preprocesses the same rows, but
only the time inside the model (latents, densities and calibrated probabilities) counts. The rate of a
command includes reading, preprocessing, the model, scores and writing of all rows. Memory is the largest
resident size of the process. Run it on an idle machine."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

SCHEMA = "flowgmm/benchmark/inference/1"
VERBS = ("predict", "embed", "ood")
TRAINED = 4000  # rows of the run that is made for the benchmark
CLASSES = ("ash", "birch", "yew")
WORDS = ["calibration.folds=2", "train.max_steps=300"]


@dataclass(frozen=True)
class ProcessResult:
    """Results of one process.

    Attributes:
        what: the verb, or `bare model`.
        rows: rows of the input.
        seconds: from start to end, imports included.
        rows_per_second: see the module.
        peak_mib: largest resident size.
    """

    what: str
    rows: int
    seconds: float
    rows_per_second: float
    peak_mib: float


def make_table(path: Path, rows: int, *, labels: bool, seed: int = 0) -> None:
    """Write a csv file: eight numbers, two of them with gaps, a category and, if asked, a few labels."""
    rng = np.random.default_rng(seed)
    writer: pa_csv.CSVWriter | None = None
    for start in range(0, rows, 100_000):
        n = min(100_000, rows - start)
        classes = rng.integers(0, len(CLASSES), n)
        centres = np.array([[0, 0], [2, 2], [4, 0]])[classes]
        columns: dict[str, Any] = {"name": pa.array(np.arange(start, start + n)).cast(pa.string())}
        for index in range(8):
            values = rng.normal(centres[:, index % 2] * (index < 4), 1).round(4)
            gaps = rng.random(n) < (0.05 if index in (3, 5) else 0)
            columns[f"x{index}"] = pa.array(values, mask=gaps)
        columns["colour"] = pa.array(np.array(["red", "green", "blue", "grey"])[rng.integers(0, 4, n)])
        if labels:
            shown = rng.random(n) < 0.1
            columns["kind"] = pa.array(np.array(CLASSES)[classes], mask=~shown)
        table = pa.table(columns)
        writer = writer or pa_csv.CSVWriter(str(path), table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def make_run(folder: Path) -> Path:
    """Train a run on rows of the same kind, as `flowgmm train csv` does."""
    make_table(folder / "train.csv", TRAINED, labels=True, seed=1)
    words = [f"data.path={folder / 'train.csv'}", "data.label=kind", "data.id=name", *WORDS]
    run = folder / "run"
    command = [
        sys.executable,
        "-m",
        "flowgmm_cli",
        "train",
        "csv",
        *words,
        "--no-auto",
        "--run-dir",
        str(run),
    ]
    subprocess.run([*command, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return run


def measure(what: str, command: list[str], rows: int) -> ProcessResult:
    """Carry out a command that prints a JSON object with `rows_per_second`."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as answer, subprocess.Popen(command, stdout=answer) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        if process.returncode:
            raise SystemExit(f"{what} ended with {process.returncode}: {' '.join(command)}")
        answer.seek(0)
        value = json.load(answer)
    scale = 1024 if sys.platform == "linux" else 1 << 20  # kilobytes on Linux, bytes on macOS
    return ProcessResult(what, rows, seconds, value["rows_per_second"], usage.ru_maxrss / scale)


def command_of(verb: str, run: Path, data: Path, folder: Path) -> list[str]:
    """The command line of a verb, writing its answer beside the rows."""
    words = [sys.executable, "-m", "flowgmm_cli", verb, str(run), "--json", "--quiet"]
    words += ["--save", str(folder / f"{verb}.csv")]
    return [*words, *(["--out", str(data), "--alone"] if verb == "ood" else ["--data", str(data)])]


def bare(run: Path, data: Path) -> dict[str, float]:
    """The model alone: time spent inside it, on all rows."""
    import torch

    from flowgmm_cli.api import DataContext
    from flowgmm_cli.data.readers.open import open_rows
    from flowgmm_cli.data.readers.schema import InputSchema
    from flowgmm_cli.trained_model import TrainedModel

    context = DataContext(streaming=True)
    trained = TrainedModel.load(run, context=context)
    columns = trained.preprocessor.columns
    schema = InputSchema.from_config(trained.recipe.data, columns, trained.class_names)
    rows, seconds = 0, 0.0
    with torch.no_grad():
        for chunk in open_rows(str(data), schema, context=context, on_error="keep"):
            split, _ = trained.preprocessor.apply_valid(chunk, context, skip=chunk.problems)
            start = time.perf_counter()
            trained.encode_rows(split)
            seconds += time.perf_counter() - start
            rows += len(split)
    return {"rows": rows, "rows_per_second": rows / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--verbs", default=",".join(VERBS))
    parser.add_argument("--run", type=Path, help="a run; made if left out")
    parser.add_argument("--data", type=Path, help="rows; made if left out")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        print(json.dumps(bare(options.run, options.data)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = options.run or make_run(folder)
        data, rows = options.data, options.rows
        if data is None:
            data = folder / "rows.csv"
            make_table(data, rows, labels=False)
        else:
            with data.open("rb") as stream:
                rows = sum(1 for _ in stream) - 1
        own = [sys.executable, __file__, "--bare", "--run", str(run), "--data", str(data)]
        results = [measure("bare model", own, rows)]
        for verb in options.verbs.split(","):
            results.append(measure(verb, command_of(verb, run, data, folder), rows))
    print(f"{rows:,} rows, {os.cpu_count()} processors")
    print(f"{'':12} {'rows/s':>10} {'of the bare model':>18} {'seconds':>9} {'peak MiB':>9}")
    for result in results:
        ratio = result.rows_per_second / results[0].rows_per_second
        figures = f"{result.rows_per_second:>10,.0f} {ratio:>17.2f}x {result.seconds:>9.1f}"
        print(f"{result.what:12} {figures} {result.peak_mib:>9,.0f}")
    if options.json:
        options.json.write_text(
            json.dumps({"schema": SCHEMA, "measured": [asdict(result) for result in results]}, indent=2)
        )


if __name__ == "__main__":
    main()
