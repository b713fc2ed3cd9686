"""Training on a folder of files larger than memory, beside the same training on rows in memory.

    python benchmarks/larger_than_memory.py                          20 GB of Parquet in a temporary folder
    python benchmarks/larger_than_memory.py --format csv --gigabytes 2.2     5 GB of text
    python benchmarks/larger_than_memory.py --gigabytes 2 --steps 500
    python benchmarks/larger_than_memory.py --folder /data/scratch   the folder of the files
    python benchmarks/larger_than_memory.py --json results.json      save the results

Each training is a process of its own, `flowgmm train` with the same recipe. The training in memory has some
of the rows and is measured before and after the other, because the speed of a machine varies. The time of a
step is the median over lines of `metrics.jsonl` after the first steps. Memory is the largest resident size
of the process, with mapped files, as the kernel counts it. Set-up is the time before the first step: start
of Python, the passes over all rows, the model. A last training of the same files finds their features in the
cache; only its set-up is of interest. Then one process, and two at once, read an epoch of the features
without training: their rows per second, the processor time, and the bytes that each of them has read. Where
other programs use the processors, the processor time says more than the seconds."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

SCHEMA = "flowgmm/benchmark/larger_than_memory/2"
CLASSES = ("ash", "birch", "yew", "oak")
LABELLED = 0.05
FILE_ROWS = 2**20
GROUP_ROWS = 2**16
WARM_UP_STEPS = 100
READ_ROWS = 2**14  # of a batch, where nothing but reading is measured
ROUNDS = 3  # one process and two alternate; the medians count
RECIPE = """\
version: 1
name: larger
data:
  use: csv
  path: {path}
  label: kind
  labels: {{count: {labels}}}
  memory: {memory}
flow: {{use: realnvp, couplings: 6, hidden: 128}}
prior: {{use: gmm, means: labelled}}
regularisers: [{{use: consistency, weight: 0.3}}]
train: {{epochs: 1000000, max_steps: {steps}, batch_size: {batch}, lr: 1e-3, precision: fp32}}
calibration: {{method: none}}
run: {{device: cpu, log_every: {log_every}}}
"""


@dataclass(frozen=True)
class TrainingResult:
    """Results of one training.

    Attributes:
        what: `files`, `memory` or `again`.
        rows: of the table.
        setup_seconds: before the first step.
        step_ms: median time of a step.
        cpu_ms: processor time of a step, of all threads; other programs hardly change it.
        peak_mib: largest resident size, mapped files included.
        anonymous_mib, mapped_mib: largest sampled size of each of its two parts.
        accuracy: accuracy on the test rows.
    """

    what: str
    rows: int
    setup_seconds: float
    step_ms: float
    cpu_ms: float
    peak_mib: float
    anonymous_mib: float
    mapped_mib: float
    accuracy: float


@dataclass(frozen=True)
class ReadingResult:
    """Results of reading an epoch: rows per second of all processes; bytes and processor time of each."""

    processes: int
    rows_per_second: float
    bytes: list[int]
    cpu_seconds: list[float]


def make_table(
    folder: Path, rows: int, features: int, *, file_rows: int, group_rows: int, format: str = "parquet"
) -> int:
    """Write files of float32 columns around class means, a few rows labelled; returns their bytes.

    Every file has another range of the same noise in each column, which is many times faster than new noise.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((features, 2 * file_rows), dtype=np.float32)
    means = 0.25 * np.random.default_rng(1).standard_normal((len(CLASSES), features), dtype=np.float32)
    names = pa.array(CLASSES)
    size = 0
    for number, start in enumerate(range(0, rows, file_rows)):
        n = min(file_rows, rows - start)
        classes = rng.integers(0, len(CLASSES), n)
        hidden = rng.random(n) >= LABELLED
        columns = {}
        for feature in range(features):
            at = int(rng.integers(file_rows))
            columns[f"x{feature}"] = noise[feature, at : at + n] + means[classes, feature]
        labels = pa.DictionaryArray.from_arrays(pa.array(classes, pa.int8(), mask=hidden), names)
        table = pa.table({**columns, "kind": labels.cast(pa.string())})
        file = folder / f"rows-{number:05d}.{format}"
        if format == "csv":
            pa_csv.write_csv(table, file)
        else:
            pq.write_table(
                table, file, row_group_size=group_rows, compression="none", use_dictionary=["kind"]
            )
        size += file.stat().st_size
    return size


def train(what: str, path: Path, rows: int, folder: Path, words: dict[str, object]) -> TrainingResult:
    """Train in a process of its own, and sample its memory and time."""
    run = folder / f"run-{what}-{time.monotonic_ns()}"
    recipe = folder / f"{what}.yaml"
    recipe.write_text(RECIPE.format(path=path, **words), encoding="utf-8")
    command = [sys.executable, "-m", "flowgmm_cli", "train", str(recipe), "--run-dir", str(run), "--json"]
    environ = {**os.environ, "FLOWGMM_CACHE_DIR": str(folder / "cache")}
    metrics = run / "metrics.jsonl"
    peak = {"VmHWM": 0, "RssAnon": 0, "RssFile": 0}
    first, size = 0.0, 0
    spent: list[tuple[int, float]] = []  # step, processor time
    start = time.monotonic()
    with (
        tempfile.TemporaryFile() as answer,
        subprocess.Popen([*command, "--quiet"], stdout=answer, env=environ) as process,
    ):
        while process.poll() is None:
            for name, value in _memory(process.pid).items():
                peak[name] = max(peak[name], value)
            if metrics.exists() and metrics.stat().st_size > size:
                first, size = first or time.monotonic() - start, metrics.stat().st_size
                spent.append((_last_step(metrics), _processor_time(process.pid)))
            time.sleep(0.02)
        if process.returncode:
            raise SystemExit(f"{what} ended with {process.returncode}: {' '.join(command)}")
        answer.seek(0)
        test = json.load(answer)["test"]
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line["split"] == "train"]
    warm = min(WARM_UP_STEPS, lines[-1]["step"] // 2)
    times = [
        1000 * (after["seconds"] - before["seconds"]) / (after["step"] - before["step"])
        for before, after in pairwise(lines)
        if before["step"] >= warm
    ]
    spent = [(step, seconds) for step, seconds in spent if step >= warm]
    mib = {name: value / 1024 for name, value in peak.items()}
    return TrainingResult(
        what=what,
        rows=rows,
        setup_seconds=first - lines[0]["seconds"],
        step_ms=median(times),
        cpu_ms=1000 * (spent[-1][1] - spent[0][1]) / max(1, spent[-1][0] - spent[0][0]),
        peak_mib=mib["VmHWM"],
        anonymous_mib=mib["RssAnon"],
        mapped_mib=mib["RssFile"],
        accuracy=test["accuracy"] if test else float("nan"),
    )


def _memory(process: int) -> dict[str, int]:
    """Resident sizes in KiB; nothing once the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except (OSError, ProcessLookupError):
        return {}
    sizes = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: int(sizes[name].split()[0]) for name in ("VmHWM", "RssAnon", "RssFile") if name in sizes}


def _last_step(metrics: Path) -> int:
    whole = metrics.read_text(encoding="utf-8").rpartition("\n")[0]  # the last line may still be written
    return int(json.loads(whole.splitlines()[-1])["step"]) if whole else 0


def _processor_time(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_epoch(path: str, memory: float, rank: int, size: int, barrier: Any, results: Any) -> None:
    """Read the share of a process in an epoch; put seconds, rows, bytes and processor time into a queue."""
    from flowgmm_cli.data.block_shuffle import BlockShuffle
    from flowgmm_cli.data.feature_file import FeatureFile
    from flowgmm_cli.data.tensors import Store

    file, none = FeatureFile(Path(path)), np.empty(0, dtype=np.int64)
    sizes = {"left_out": none, "resident": none, "memory": int(memory * 2**30), "dim": file.width}
    read: list[int] = []

    def count(start: int, stop: int) -> Any:
        read.append((stop - start) * file.width * file.dtype.itemsize)
        return file.read(start, stop)

    store = Store(rows=file.rows, width=file.width, dtype=file.dtype, read=count, **sizes)
    shuffle = BlockShuffle(store, none, seed=0, rank=rank, world_size=size)
    rows = 0
    barrier.wait()
    start, cpu = time.monotonic(), time.process_time()
    for position in range(0, len(shuffle) - READ_ROWS, READ_ROWS):
        rows += len(shuffle.batch(0, position, READ_ROWS))
    results.put((time.monotonic() - start, rows, sum(read), time.process_time() - cpu))
    shuffle.close()


def measure_reading(path: Path, memory: float, processes: int) -> ReadingResult:
    """Read an epoch of a feature file in some processes at once."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=read_epoch, args=(str(path), memory, rank, processes, barrier, results))
        for rank in range(processes)
    ]
    for worker in workers:
        worker.start()
    answers = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    rows, seconds = sum(answer[1] for answer in answers), max(answer[0] for answer in answers)
    return ReadingResult(
        processes, rows / seconds, [answer[2] for answer in answers], [answer[3] for answer in answers]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20.0, help="10^9 bytes of float32 cells")
    parser.add_argument("--format", choices=["parquet", "csv"], default="parquet")
    parser.add_argument("--features", type=int, default=50)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--subset", type=int, default=300_000, help="rows of the training in memory")
    parser.add_argument("--memory", type=float, default=2.0, help="data.memory, in GiB")
    parser.add_argument("--group-rows", type=int, default=GROUP_ROWS, help="rows of a row group")
    parser.add_argument("--file-rows", type=int, default=FILE_ROWS, help="rows of a file")
    parser.add_argument("--folder", type=Path, help="folder of the files; by default a temporary one")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    if not Path("/proc/self/status").exists():
        raise SystemExit("memory is read from /proc, which only Linux has")
    rows = int(args.gigabytes * 1e9 / (4 * args.features))
    subset = min(args.subset, rows)
    words = {"labels": args.labels, "steps": args.steps, "batch": args.batch}
    words["log_every"] = max(1, min(20, args.steps // 10))
    with tempfile.TemporaryDirectory(prefix="flowgmm-rows-", dir=args.folder) as name:
        folder = Path(name)
        start = time.monotonic()
        shape = {"file_rows": min(args.file_rows, rows), "group_rows": args.group_rows}
        size = make_table(folder / "all", rows, args.features, **shape, format=args.format)
        make_table(folder / "some", subset, args.features, **{**shape, "file_rows": subset})
        print(f"{rows:,} rows, {size / 1e9:.2f} GB, made in {time.monotonic() - start:.0f} s", flush=True)

        def in_memory() -> TrainingResult:
            return train("memory", folder / "some", subset, folder, {**words, "memory": 64})

        def in_files(what: str) -> TrainingResult:
            return train(what, folder / "all", rows, folder, {**words, "memory": args.memory})

        measured = [in_memory(), in_files("files"), in_memory(), in_files("again")]
        (features,) = (folder / "cache").rglob("*.features")
        measure_reading(features, args.memory, 1)  # the file is in memory then
        pairs = [[measure_reading(features, args.memory, count) for count in (1, 2)] for _ in range(ROUNDS)]
        reading = [
            sorted(rounds, key=lambda result: result.rows_per_second)[ROUNDS // 2]
            for rounds in zip(*pairs, strict=True)
        ]
    print(
        f"{'':8}{'rows':>14}{'set-up s':>10}{'ms/step':>9}{'cpu ms':>8}"
        f"{'peak MiB':>10}{'anon':>8}{'mapped':>8}{'accuracy':>10}"
    )
    for result in measured:
        print(
            f"{result.what:8}{result.rows:14,}{result.setup_seconds:10.1f}{result.step_ms:9.2f}{result.cpu_ms:8.2f}"
            f"{result.peak_mib:10,.0f}{result.anonymous_mib:8,.0f}{result.mapped_mib:8,.0f}{result.accuracy:10.4f}"
        )
    ratio, cpu_ratio = (
        2 * getattr(measured[1], name) / (getattr(measured[0], name) + getattr(measured[2], name))
        for name in ("step_ms", "cpu_ms")
    )
    print(
        f"a step takes {ratio:.3f} of its time in memory, {cpu_ratio:.3f} of the CPU time; "
        f"peak {measured[1].peak_mib:,.0f} MiB"
    )
    single, pair = reading
    print(
        f"one process reads {single.rows_per_second:,.0f} rows a second, two {pair.rows_per_second:,.0f}, "
        f"{pair.rows_per_second / single.rows_per_second:.2f} times as many; of the bytes of one they read "
        + " and ".join(f"{count / single.bytes[0]:.2f}" for count in pair.bytes)
        + ", of its processor time they took "
        + " and ".join(f"{seconds / single.cpu_seconds[0]:.2f}" for seconds in pair.cpu_seconds)
    )
    if args.json:
        figures = {
            "schema": SCHEMA,
            "bytes": size,
            "ratio": ratio,
            "cpu_ratio": cpu_ratio,
            "measured": [asdict(result) for result in measured],
            "reading": [asdict(result) for result in reading],
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
