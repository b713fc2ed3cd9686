"""Test density of neural spline couplings against RealNVP, in the same number of epochs.

    python benchmarks/spline.py --seeds 0 1 2

Trains the bundled recipes `two_circles` and `miniboone` with other flows, in float32 and without calibration,
which no density depends on: once for likelihood alone (objective `joint`, no regulariser), once with the
recipe's own losses, whose first concern is the classes. Prints `-log p(x)` of test rows, in
nats a row, as a table.
MiniBooNE is read from `miniboone/miniboone_5044.csv` in the folder FLOWGMM_SHARED_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

COMMON = ("train.precision=fp32", "calibration.method=none")
NOT_MEASURED = "-16.6376,-16.639,"
LOSSES = {"likelihood": ("objective={use: joint}", "regularisers=[]"), "the recipe's": ()}
FLOWS = {
    "two_circles": {
        "`realnvp`, as in the recipe": "{use: realnvp, couplings: 8, hidden: 64}",
        "`realnvp`, 6 couplings, lu": "{use: realnvp, couplings: 6, hidden: 64, mixing: lu}",
        "`zuko_nsf_coupling`, 6 couplings": "{use: zuko_nsf_coupling, transforms: 6, hidden: 64}",
    },
    "miniboone": {
        "`realnvp`, as in the recipe": "{use: realnvp, couplings: 2, hidden: 256}",
        "`realnvp`, 6 couplings, lu": "{use: realnvp, couplings: 6, hidden: 128, mixing: lu}",
        "`zuko_nsf_coupling`, 6 couplings": "{use: zuko_nsf_coupling, transforms: 6, hidden: 128}",
    },
}


def measure(recipe: str, flow: str, seed: int, *words: str) -> dict[str, float]:
    """Train and evaluate once."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = [f"run.seed={seed}", f"data.labels.seed={seed}"]
        seeds += [f"data.split.seed={seed}"] if recipe == "miniboone" else [f"data.seed={seed}"]
        command("train", recipe, f"flow={flow}", *COMMON, *seeds, *words, "--run-dir", f"{folder}/run")
        shown = command("eval", f"{folder}/run")
        seconds = json.loads(Path(folder, "run", "run.json").read_text(encoding="utf-8")).get("seconds", 0.0)
    metrics = shown["metrics"]
    return {"nll": metrics["density_nll"], "accuracy": metrics["accuracy"], "seconds": seconds}


def command(*words: str) -> dict[str, Any]:
    """Run flowgmm and read its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "flowgmm_cli", *words, "--json", "--quiet"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def data_words(recipe: str, folder: Path) -> list[str]:
    """What a recipe needs to find its data; of MiniBooNE a copy without the 17 rows that were not measured.

    All of these are one row, the code for "no value" in every column (-999, here standardised). Three of them
    in a test decide its mean. Papamakarios et al. (2017) leave them out, too.
    """
    if recipe != "miniboone":
        return []
    shared = Path(os.environ.get("FLOWGMM_SHARED_DATA", "../shared/data")).expanduser().resolve()
    lines = (shared / "miniboone" / "miniboone_5044.csv").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(NOT_MEASURED)]
    clean = folder / "miniboone.csv"
    clean.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return [f"data.path={clean}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=[*FLOWS], nargs="+", default=[*FLOWS])
    parser.add_argument("--losses", choices=[*LOSSES], nargs="+", default=[*LOSSES])
    parser.add_argument("--words", nargs="*", default=[], help="further overrides, such as train.epochs=5")
    arguments = parser.parse_args()
    print("| data | losses | flow | test -log p(x), nats | worst to best | accuracy |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for losses in arguments.losses:
            for recipe in arguments.only:
                words = [*data_words(recipe, Path(folder)), *LOSSES[losses], *arguments.words]
                for name, flow in FLOWS[recipe].items():
                    found = [measure(recipe, flow, seed, *words) for seed in arguments.seeds]
                    print(f"| {recipe} | {losses} | {name} | {summary(found)} |", flush=True)


def summary(found: list[dict[str, float]]) -> str:
    nll = [one["nll"] for one in found]
    accuracy = statistics.mean(one["accuracy"] for one in found)
    return f"{statistics.mean(nll):.2f} | {max(nll):.2f} to {min(nll):.2f} | {accuracy:.3f}"


if __name__ == "__main__":
    main()
