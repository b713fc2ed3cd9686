"""Whole processes: imports, set-up, training and scoring, each library in its own process."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

SIZE = "text"
OWN = ("flowgmm, fp32", "flowgmm, bf16", "flowgmm, default losses, bf16")
STEPS = 40


def end_to_end(
    shape: str, *, rounds: int, steps: int = STEPS, names: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Measure whole processes with one thread each, in alternation, with the seconds of each part.

    Args:
        shape: name of a shape.
        rounds: processes of each contender.
        steps: optimiser steps of each.
        names: contenders; None for all that are installed.
    """
    from peers import available_peers

    names = list(names or [*available_peers(), *OWN])
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, __file__, name, shape, str(steps)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            start = time.perf_counter()
            process = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            parts = json.loads(process.stdout.splitlines()[-1])
            results[name].append({"all": time.perf_counter() - start, **parts})
    return [
        {
            "name": name,
            "shape": shape,
            "steps": steps,
            "seconds": {part: statistics.median(parts[part] for parts in times) for part in times[0]},
        }
        for name, times in results.items()
    ]


def end_to_end_table(results: Sequence[dict[str, Any]]) -> list[str]:
    """The medians as a Markdown table."""
    parts = list(results[0]["seconds"])
    lines = [
        f"{results[0]['steps']} steps and scoring of a batch, {results[0]['shape']}; whole processes, s",
        "",
    ]
    lines += [f"| | {' | '.join(parts)} |", f"| --- |{' --- |' * len(parts)}"]
    for contender in results:
        cells = [f"{contender['seconds'][part]:.2f}" for part in parts]
        lines.append(f"| {contender['name']} | {' | '.join(cells)} |")
    return lines


def run_contender(name: str, shape_name: str, steps: int) -> dict[str, float]:
    """Train and score in this process; returns the seconds of each part."""
    start = time.perf_counter()
    import torch
    from shapes import SHAPES, TINY, Rows

    shape = next(shape for shape in (*SHAPES, *TINY) if shape.name == shape_name)
    rows = Rows.draw(shape)
    torch.set_num_threads(1)
    if name.startswith("flowgmm"):
        from library import Library

        loss = "default" if "default" in name else "likelihood"
        library = Library(shape, rows, loss, "bf16" if name.endswith("bf16") else "fp32")  # type: ignore[arg-type]
        imported = time.perf_counter()
        contender, scores = library.steps(), library.scores(rows.unlabelled)
        ready = time.perf_counter()
        contender.turn(steps - 2, time.perf_counter)  # a turn takes two steps more
        trained = time.perf_counter()
        scores.turn(0, time.perf_counter)
    else:
        from peers import PEERS, create_step

        model = PEERS[name](shape, rows)  # imports the library, too
        imported = time.perf_counter()
        step = create_step(model, lambda: model.loss(rows))
        ready = time.perf_counter()
        for _ in range(steps):
            step()
        trained = time.perf_counter()
        with torch.no_grad():
            model.score(rows.unlabelled)
    return {
        "imports": imported - start,
        "set-up": ready - imported,
        "training": trained - ready,
        "scoring": time.perf_counter() - trained,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("shape")
    parser.add_argument("steps", type=int)
    given = parser.parse_args()
    print(json.dumps(run_contender(given.name, given.shape, given.steps)))
