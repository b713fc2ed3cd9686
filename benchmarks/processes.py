"""Training throughput of several processes beside one, all with one thread each.

    python benchmarks/processes.py                      two processes beside one, rows as of AG-News
    python benchmarks/processes.py --processes 4 --pairs 5
    python benchmarks/processes.py --hidden 1024        wider networks, with a smaller share of repeated work
    python benchmarks/processes.py --features 784 --hidden 1024
    python benchmarks/processes.py --json results.json  save the results

Both train the same recipe in alternation, so that other programs disturb both alike. A rate is the number of
unlabelled rows per second between the first and the last line of metrics. Run it on an idle machine:
processes that wait for each other lose more time to other programs than a single one. The CPU time of a
step, the difference between a long and a short training, does not depend on other programs; its ratio is the
speed-up without waiting."""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from flowgmm_cli.metrics_log import read_metrics

SCHEMA = "flowgmm/benchmark/processes/1"
ROWS, CLASSES, LABELLED = 40_960, 4, 200
RECIPE = """\
version: 1
name: rows
data:
  use: arrays
  path: {path}
  split: {{val: 0.0}}
  views: {{strong: [{{use: noise, scale: 0.5}}, {{use: drop, rate: 0.2}}]}}
flow: {{use: realnvp, couplings: 6, hidden: {hidden}}}
prior: {{use: gmm, means: logistic_regression}}
train: {{epochs: 10, batch_size: {batch}, lr: 1e-3, precision: {precision}}}
calibration: {{method: none}}
run: {{device: cpu, log_every: 5}}
"""


def make_rows(path: Path, features: int, *, seed: int = 0) -> None:
    """Write rows around class means, few of them labelled."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=ROWS + 500)
    means = 1.5 * rng.normal(size=(CLASSES, features))
    rows = (means[labels] + rng.normal(size=(len(labels), features))).astype(np.float32)
    shown_labels = np.where(np.arange(ROWS) < LABELLED, labels[:ROWS], -1)
    np.savez(path, train=rows[:ROWS], train_label=shown_labels, test=rows[ROWS:], test_label=labels[ROWS:])


def measure(recipe: Path, run: Path, processes: int, batch: int, steps: int) -> tuple[float, float]:
    """Train; returns unlabelled rows per second and the CPU seconds of one process, start-up included."""
    words = [sys.executable, "-m", "flowgmm_cli", "train", str(recipe), "--run-dir", str(run), "--quiet"]
    words += [f"train.max_steps={steps}"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*words, "--processes", str(processes)], env=environ, check=True, stdout=subprocess.DEVNULL
    )
    lines = [line for line in read_metrics(run / "metrics.jsonl") if line["split"] == "train"]
    first, last = lines[0], lines[-1]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    work = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return batch * (last["step"] - first["step"]) / (last["seconds"] - first["seconds"]), work / processes


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rates: dict[int, list[float]] = {1: [], options.processes: []}
    works: dict[int, list[float]] = {1: [], options.processes: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_rows(folder / "rows.npz", options.features)
        recipe = folder / "rows.yaml"
        recipe.write_text(
            RECIPE.format(
                path=folder / "rows.npz",
                hidden=options.hidden,
                batch=options.batch,
                precision=options.precision,
            )
        )
        for pair in range(options.pairs):
            for processes in rates:
                runs = (folder / f"{pair}-{processes}-{length}" for length in ("short", "long"))
                steps = (10, 10 + options.steps)
                (_, short), (speed, long) = (
                    measure(recipe, run, processes, options.batch, length)
                    for run, length in zip(runs, steps, strict=True)
                )
                rates[processes].append(speed)
                works[processes].append((long - short) / options.steps)
            single, several = (values[-1] for values in rates.values())
            print(f"pair {pair + 1}: {single:,.0f} and {several:,.0f} rows/s,", end=" ")
            print(f"{several / single:.2f} times", end="; ")
            single, several = (1000 * values[-1] for values in works.values())
            print(
                f"{single:.1f} and {several:.1f} ms of CPU time per step, {single / several:.2f} times less"
            )
    ratios = [several / single for single, several in zip(*rates.values(), strict=True)]
    possible = [single / several for single, several in zip(*works.values(), strict=True)]
    print(f"{options.processes} processes: {statistics.median(ratios):.2f} times one (median)", end="; ")
    print(f"{statistics.median(possible):.2f} without waiting")
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key != "json"}
        result = {"schema": SCHEMA, **settings, "rows_per_second": rates, "ratios": ratios}
        result |= {"seconds_of_work_a_step": works, "possible": possible}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
