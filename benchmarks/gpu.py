"""All figures of a machine with one GPU in one command, in less than 8 minutes.

    python benchmarks/gpu.py                                  all parts, tables, and gpu.json
    python benchmarks/gpu.py --parts agreement,steps --json results.json
    MNIST_PATH=... CIFAR10_PATH=... python benchmarks/gpu.py  real images in the place of random ones

agreement  every built-in flow on the GPU beside the CPU: latents, log-determinants, inverses, in float32
steps      a training step in fp32, TF32, bf16 and with `reduce-overhead`, the peers', the matrix products
rows       rows a second of training and of densities, and the memory of a step
resume     weights of a run that was stopped and resumed beside those of one that was not
recipes    one epoch of `mnist` and `cifar10`, of random images unless the variables name real ones

A part that would begin after the time is up is left out, and the table says so.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from library import Library
from peers import PEERS, available_peers, create_step
from shapes import SHAPES, TINY, Rows, Shape, products
from timing import Contender, repeat, time_in_rounds
from torch import nn

from flowgmm_cli.api import FlowSpec
from flowgmm_cli.errors import InterruptedRunError
from flowgmm_cli.files import read_tensors, write_json
from flowgmm_cli.metrics_log import read_metrics
from flowgmm_cli.plugins.entry import CORE
from flowgmm_cli.plugins.registry import registry
from flowgmm_cli.recipe.load import load_recipe, parse_resolved
from flowgmm_cli.runs import create_run
from flowgmm_cli.trained_model import build_flow
from flowgmm_cli.training.callbacks import Interrupt
from flowgmm_cli.training.pipeline import train

SCHEMA = "flowgmm/benchmark/gpu/1"
TOLERANCE = 1e-4  # relative
MINUTES = 6.0  # no part begins later
_STEP_WORDS = ("train.compile=reduce-overhead",)
_IMAGES = {"mnist": ("MNIST_PATH", (60_000, 28, 28)), "cifar10": ("CIFAR10_PATH", (50_000, 32, 32, 3))}


def wall_clock(device: torch.device) -> float:
    """Seconds of the wall clock after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


# --- agreement ----------------------------------------------------------------------------------------------


def list_core_flows() -> list[str]:
    """Names of the flows that come with flowgmm."""
    return sorted(entry.name for entry in registry().entries("flow") if entry.package == CORE)


def create_flow(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A small flow of a name, with weights that are not those of its start, and rows for it."""
    image = "image" in registry().spec(FlowSpec, name).accepts
    shape = (1, 8, 8) if image else (16,)
    data = {"use": "sklearn", "name": "two_moons"}
    recipe = parse_resolved({"version": 1, "name": "gpu", "data": data, "flow": {"use": name}}, "gpu")
    generator = torch.Generator().manual_seed(0)
    flow = build_flow(recipe.flow, shape, generator).eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return flow, torch.randn(256, int(np.prod(shape)), generator=generator)


@torch.no_grad()
def agreement(device: torch.device) -> dict[str, float]:
    """Largest difference of a flow on the device from that on the CPU, relative to the largest value."""
    before, errors = torch.get_float32_matmul_precision(), {}
    torch.set_float32_matmul_precision("highest")
    try:
        for name in list_core_flows():
            flow, x = create_flow(name)
            z, log_det = flow(x)
            expected = [z, log_det, flow.inverse(z)]  # type: ignore[operator]
            flow.to(device)
            z_there, log_det_there = flow(x.to(device))
            values = [z_there, log_det_there, flow.inverse(z.to(device))]  # type: ignore[operator]
            errors[name] = max(
                float((b.cpu() - a).abs().max() / a.abs().max())
                for a, b in zip(expected, values, strict=True)
            )
    finally:
        torch.set_float32_matmul_precision(before)
    return errors


# --- times --------------------------------------------------------------------------------------------------


def step_contenders(shape: Shape, device: torch.device) -> list[Contender]:
    """Training steps of flowgmm and of the peers, and the matrix products alone."""
    rows = Rows.draw(shape)
    there = rows.to(device)
    contenders = []
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with device:
            contenders.append(repeat(f"matrix products, {name}", products(shape, dtype)))
    for loss in ("likelihood", "default"):
        plain = Library(shape, rows, loss, "fp32", device=device)  # type: ignore[arg-type]
        bf16 = replace(plain, precision="bf16")
        contenders += [_rename(plain.steps(), plain.name), _rename(bf16.steps(), bf16.name)]
        if device.type == "cuda":
            tf32 = replace(plain, words=("train.tf32=true",))
            fast = replace(bf16, words=_STEP_WORDS)
            contenders.append(_rename(tf32.steps(), f"{plain.name}, TF32"))
            contenders.append(_rename(fast.steps(), f"{bf16.name}, reduce-overhead"))
    for name in available_peers():
        model = PEERS[name](shape, rows).to(device)
        contenders.append(repeat(name, create_step(model, lambda model=model: model.loss(there))))  # type: ignore[misc]
    return contenders


def _rename(contender: Contender, name: str) -> Contender:
    return replace(contender, name=name)


def step_times(device: torch.device, shapes: tuple[Shape, ...], *, rounds: int = 5) -> dict[str, Any]:
    """Median seconds of a step by shape and contender."""
    return {
        shape.name: {
            name: statistics.median(seconds)
            for name, seconds in time_in_rounds(
                step_contenders(shape, device), rounds=rounds, clock=lambda: wall_clock(device)
            ).items()
        }
        for shape in shapes
    }


def row_rates(device: torch.device, shape: Shape, *, rounds: int = 5) -> dict[str, float]:
    """Rows a second of training with the default losses and of scoring, and the largest memory of a step."""
    rows = Rows.draw(shape)
    library = Library(shape, rows, "default", "bf16", device=device)
    scores = library.scores(rows.to(device).unlabelled)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    work = [replace(library.steps(), name="train"), replace(scores, name="predict")]
    seconds = time_in_rounds(work, rounds=rounds, clock=lambda: wall_clock(device))
    rates = {f"{name}, rows/s": shape.batch / statistics.median(values) for name, values in seconds.items()}
    if device.type == "cuda":
        rates["memory, MiB"] = torch.cuda.max_memory_allocated(device) / 2**20
    return rates


# --- whole runs ---------------------------------------------------------------------------------------------


class _StopAfter(Interrupt):
    """Asks a training to stop after a number of steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def is_requested(self) -> bool:
        self.left -= 1
        return self.left <= 0


def resume_difference(device: torch.device, folder: Path, *, epochs: int = 6) -> float:
    """Largest difference of the weights of a resumed run from those of a run without a stop."""
    words = [f"train.epochs={epochs}", f"run.device={device.type}", "calibration.method=none", "data.n=400"]
    recipe = load_recipe("two_moons", words)
    whole, parts = (create_run(recipe, argv=[], directory=folder / name) for name in ("whole", "parts"))
    train(recipe, whole)
    try:
        train(recipe, parts, interrupt=_StopAfter(epochs // 2 + 1))
    except InterruptedRunError:
        train(recipe, parts)
    first, second = (read_tensors(run.path / "model.safetensors", "model")[0] for run in (whole, parts))
    names = [name for name in first if name.startswith("model.")]
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in names)


def recipe_epoch(
    name: str, device: torch.device, folder: Path, words: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Seconds of one epoch of a recipe of images, from its log; the first steps compile the model."""
    variable, shape = _IMAGES[name]
    path = os.environ.get(variable)
    if path is None:
        rng = np.random.default_rng(0)
        path = str(folder / f"{name}.npz")
        images = rng.integers(0, 256, size=shape, dtype=np.uint8)
        np.savez(path, x=images, y=rng.integers(0, 10, size=shape[0]))
    fixed = [f"data.path={path}", "train.epochs=1", f"run.device={device.type}", "calibration.method=none"]
    recipe = load_recipe(name, [*fixed, "run.log_every=1", "ood.scores=[{use: nll}]", *words])
    run = create_run(recipe, argv=[], directory=folder / name)
    start = time.perf_counter()
    train(recipe, run)
    lines = [line for line in read_metrics(run.metrics) if line["split"] == "train"]
    steps = [b["seconds"] - a["seconds"] for a, b in pairwise(lines)]
    return {
        "data": "given" if os.environ.get(variable) else "random",
        "steps": lines[-1]["step"],
        "step, s": statistics.median(steps) if steps else None,
        "epoch, s": lines[-1]["seconds"],
        "whole run, s": time.perf_counter() - start,
    }


# --- the command --------------------------------------------------------------------------------------------


def parts_of(device: torch.device, folder: Path, *, tiny: bool = False) -> dict[str, Callable[[], Any]]:
    """The parts of the benchmark by name; `tiny` ones are for tests on a CPU."""
    shapes = TINY if tiny else tuple(shape for shape in SHAPES if shape.name in ("text", "table"))
    rounds = 1 if tiny else 5
    return {
        "agreement": lambda: agreement(device),
        "steps": lambda: step_times(device, shapes, rounds=rounds),
        "rows": lambda: row_rates(device, shapes[0], rounds=rounds),
        "resume": lambda: {"largest difference": resume_difference(device, folder)},
        "recipes": lambda: {name: recipe_epoch(name, device, folder) for name in _IMAGES},
    }


def run_parts(parts: dict[str, Callable[[], Any]], *, minutes: float) -> dict[str, Any]:
    """Carry out the parts in their order; one that fails or comes too late has a text in place of figures."""
    end, results = time.monotonic() + 60 * minutes, {}
    for name, work in parts.items():
        start = time.monotonic()
        if start > end:
            results[name] = {"figures": f"left out after {minutes:g} minutes"}
            continue
        try:
            figures = work()
        except Exception as error:  # the other parts are worth having
            figures = f"{type(error).__name__}: {error}"
        results[name] = {"figures": figures, "seconds": round(time.monotonic() - start, 1)}
    return results


def table(results: dict[str, Any]) -> list[str]:
    """Lines of a table of all figures."""
    lines = []
    for name, result in results.items():
        lines += ["", f"{name} ({result.get('seconds', 0):.0f} s)"]
        figures = result["figures"]
        lines += [f"  {figures}"] if isinstance(figures, str) else _lines(figures, "  ")
    return lines[1:]


def _lines(figures: dict[str, Any], indent: str) -> list[str]:
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", *_lines(value, f"{indent}  ")]
        else:
            lines.append(f"{indent}{name:<48} {f'{value:.4g}' if isinstance(value, float) else value}")
    return lines


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", help="some of agreement, steps, rows, resume, recipes")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="no part begins later")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="file for the figures")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU on this machine; `flowgmm doctor` shows its devices")
    from accuracy import environment

    device = torch.device("cuda")
    with tempfile.TemporaryDirectory() as folder:
        parts = parts_of(device, Path(folder))
        names = options.parts.split(",") if options.parts else list(parts)
        if unknown := [name for name in names if name not in parts]:
            raise SystemExit(f"there is no part `{unknown[0]}`; choose some of {', '.join(parts)}")
        results = run_parts({name: parts[name] for name in names}, minutes=options.minutes)
    where = {**environment(), "gpu": torch.cuda.get_device_name(device)}
    print("\n".join(table(results)))
    write_json(options.json, {"schema": SCHEMA, "environment": where, "parts": results})


if __name__ == "__main__":
    main()
