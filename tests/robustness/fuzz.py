"""A seeded fuzzer of the command line: damaged recipes, overrides, tables, arrays, images and saved runs.

Every case runs in this process. By hand, any number of cases: `python -m tests.robustness.fuzz -n 10000`.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
from PIL import Image

from flowgmm_cli.__main__ import main
from flowgmm_cli.cli import output
from flowgmm_cli.messages import escape_controls

SECONDS = 20  # of a case, and its memory in KiB: far more than any of them needs
KIBIBYTES = 2 * 2**20
CODES = {0, 1, 2, 3, 4, 5, 6, 7}
ROWS = 40
RECIPE = """\
version: 1
data:
  use: csv
  path: t.csv
  label: y
  id: name
  labels: {count: 10, seed: 3}
  split: {val: 0.1, test: 0.2}
  transforms: [{use: standardise}]
flow: {use: realnvp, couplings: 2, hidden: 8, depth: 1}
prior: {use: gmm}
regularisers: [{use: consistency, weight: 1.0}]
train: {epochs: 1, batch_size: 16, lr: 1e-2}
calibration: {method: none}
run: {device: cpu, seed: '${data.labels.seed}'}
"""
IMAGES = """\
version: 1
data: {use: images, path: x.npz, x: x, y: y, transforms: [{use: pca, dim: 4}], views: {weak: [], strong: []}}
flow: {use: realnvp, couplings: 2, hidden: 8, depth: 1}
train: {epochs: 1, batch_size: 16}
calibration: {method: none}
run: {device: cpu}
"""
HOSTILE = (
    "", " ", "\x1b[31m", "\u202e", "\0", "'", '"', "[", "{", "}", ": ", "#", "&a", "*a", "!!x", "${a}", "${",
    "${env:HOME}", "${data.path}", "-1", "0", "nan", "inf", "1e999", "9" * 400, "0x" + "f" * 5000, "null",
    "true", "a" * 3000, "../x", "%s", "{0}", "{}", "<b>", "=1+1", "ü", "漢", "\n", "\r\n", "\t", ",", ";",
    '""', "a.b.c", "\ud800",
)  # fmt: skip
VALUES = (None, True, -1, 0, 2**70, 1.5, float("nan"), "", "x\x1b", [], {}, [[1]], {"a": 1}, "9" * 30)

Random = random.Random


class Hang(BaseException):
    """A case takes too long."""


@dataclass
class Fuzzer:
    """Makes and runs cases in a folder with two trained runs; `failures` describes what went wrong."""

    folder: Path
    failures: list[str] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        os.chdir(self.folder)
        rng = np.random.default_rng(0)
        labels = np.arange(ROWS) % 2
        self.table = pa.table(
            {
                "a": (rng.normal(size=ROWS) + 4 * labels).round(3),
                "b": rng.normal(size=ROWS).round(3),
                "c": [("red", "blue", "")[row % 3] for row in range(ROWS)],
                "y": [("oak", "ash", None, "ash")[row % 4] for row in range(ROWS)],
                "name": [f"r{row}" for row in range(ROWS)],
            }
        )
        self.images = np.where(labels[:, None, None] == 1, 200, 20).astype(np.uint8) + rng.integers(
            0, 20, size=(ROWS, 6, 6), dtype=np.uint8
        )
        Path("t.csv").write_bytes(self.encode("csv"))
        Path("x.npz").write_bytes(self.encode("npz"))
        for name, text in (("table", RECIPE), ("images", IMAGES)):
            Path(f"{name}.yaml").write_text(text, encoding="utf-8")
            code, err = run(["train", f"{name}.yaml", "--run-dir", f"runs/{name}", "--quiet"])
            assert code == 0, err

    def encode(self, format: str) -> bytes:
        """Return the rows in a format of tables, or the images in one of arrays."""
        data, rows = io.BytesIO(), self.table.to_pylist()
        if format in ("csv", "tsv", "csv.gz"):
            mark = "\t" if format == "tsv" else ","
            cells = [self.table.column_names, *([*row.values()] for row in rows)]
            text = "\n".join(mark.join("" if c is None else str(c) for c in line) for line in cells)
            return gzip.compress(text.encode()) if format == "csv.gz" else text.encode()
        if format in ("jsonl", "json"):
            return (json.dumps(rows) if format == "json" else "\n".join(map(json.dumps, rows))).encode()
        if format == "idx":
            return bytes([0, 0, 8, 3, 0, 0, 0, ROWS, 0, 0, 0, 6, 0, 0, 0, 6]) + self.images.tobytes()
        if format == "parquet":
            pyarrow.parquet.write_table(self.table, data)
        elif format == "feather":
            pyarrow.feather.write_feather(self.table, data, compression="zstd")
        elif format == "npy":
            np.save(data, self.images)
        elif format == "npz":
            np.savez(data, x=self.images, y=np.arange(ROWS) % 2)
        else:
            Image.fromarray(self.images[0]).save(data, format)
        return data.getvalue()

    def run_case(self, seed: int) -> None:
        """Make and run the case of a seed."""
        rng = Random(seed)
        words = rng.choice(KINDS)(self, rng)
        if rng.random() < 0.05:
            words[rng.randrange(len(words))] = rng.choice([word for word in HOSTILE if "\0" not in word])
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        code, err = run(words)
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        self.codes[code] += 1
        faults = {
            f"exit code {code}": code not in CODES,
            "a traceback or a bug": "Traceback (most" in err or "this is a bug" in err,
            "control characters": escape_controls(err, keep="\n") != err,
            f"temporary files {[*self.folder.rglob('*.tmp')]}": any(self.folder.rglob("*.tmp")),
            f"{time.monotonic() - start:.0f} s": time.monotonic() - start > SECONDS,
            f"{growth / 2**20:.1f} GiB": growth > KIBIBYTES,
        }
        for fault in (fault for fault, found in faults.items() if found):
            self.failures.append(f"case {seed}: {fault}: {words!r}: {err[-1500:]}")


def run(words: list[str]) -> tuple[int, str]:
    """Run a command; return its exit code and what it writes to stderr."""
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    argv, sys.argv = sys.argv, ["flowgmm", *words]
    handler = signal.signal(signal.SIGALRM, _stop)
    signal.alarm(2 * SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            output.stdout.cache_clear()
            output.stderr.cache_clear()
            main()
    except SystemExit as stop:
        return (stop.code if isinstance(stop.code, int) else 1), err.getvalue()
    except BaseException as error:
        return -1, f"{err.getvalue()}{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        sys.argv = argv
        output.settings.quiet = output.settings.verbose = output.settings.offline = False
    return 0, err.getvalue()


def _stop(number: int, frame: object) -> None:
    raise Hang


# --- damage -----------------------------------------------------------------------------------------------


def damage_bytes(rng: Random, content: bytes) -> bytes:
    """Flip bits, cut, insert or remove bytes, often near the start or the end, where formats have headers."""
    data, kind = bytearray(content), rng.choice(["flip", "flip", "flip", "cut", "set", "insert", "remove"])
    for _ in range(rng.choice([1, 1, 2, 8])):
        if not data:
            break
        near = min(len(data) - 1, int(rng.expovariate(1 / 60)))
        at = rng.choice([rng.randrange(len(data)), near, len(data) - 1 - near])
        if kind == "flip":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "set":
            data[at] = rng.choice([0, 255, 128, 10, 34, 44, 91])
        elif kind == "insert":
            data[at:at] = rng.randbytes(3)
        elif kind == "remove":
            del data[at : at + 4]
        else:
            del data[at:]
    return bytes(data)


def damage_text(rng: Random, text: str) -> str:
    """Put hostile text in, in the place of a line, or in the place of a word, a few times."""
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(text) + 1)
        end = rng.choice([at, at, text.find("\n", at), text.find(" ", at), at + 3])
        text = text[:at] + rng.choice(HOSTILE) * rng.choice([1, 1, 1, 40]) + text[max(at, end) :]
    return text


def damage_json(rng: Random, value: Any) -> Any:
    """Replace a value somewhere in a JSON value by one of another type."""
    places = list(_places(value))
    if places:
        holder, key = rng.choice(places)
        if rng.random() < 0.2 and isinstance(holder, dict):
            del holder[key]
        else:
            holder[key] = rng.choice(VALUES)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _places(item)


# --- kinds of cases ---------------------------------------------------------------------------------------


def _recipe(fuzzer: Fuzzer, rng: Random) -> list[str]:
    Path("f.yaml").write_text(damage_text(rng, RECIPE), encoding="utf-8", errors="replace")
    return ["recipes", "check", "f.yaml"]


def _override(fuzzer: Fuzzer, rng: Random) -> list[str]:
    keys = ["train.epochs", "data.path", "flow", "regularisers.0.weight", "data.labels.count", "run.dir"]
    words = [f"{rng.choice([*keys, 'search'])}={rng.choice(HOSTILE)}" for _ in range(rng.choice([1, 1, 3]))]
    words = [damage_text(rng, word) if rng.random() < 0.5 else word for word in words]
    return ["recipes", "check", "table.yaml", "--", *(word.replace("\0", "") for word in words)]


def _table(fuzzer: Fuzzer, rng: Random) -> list[str]:
    format = rng.choice(["csv", "csv", "tsv", "csv.gz", "jsonl", "jsonl", "json", "parquet", "feather"])
    content = fuzzer.encode(format)
    if format in ("csv", "tsv", "jsonl", "json") and rng.random() < 0.6:
        content = damage_text(rng, content.decode()).encode(errors="replace")
    else:
        content = damage_bytes(rng, content)
    path = f"f.{format}"
    Path(path).write_bytes(content)
    keep = rng.choice([[], ["--on-error", "keep"]])
    save = ["--save", rng.choice(["o.csv", "o.jsonl", "o.parquet", "-"])]
    commands = [
        ["predict", "runs/table", "--data", path, *save, *keep],
        ["predict", "runs/table", "--data", path, "--json", *keep],
        ["eval", "runs/table", "--data", path],
        ["init", path, "--label", "y", "--save", "-"],
        ["init", path, "--save", "i.yaml", "--force"],
    ]
    return rng.choice(commands)


def _array(fuzzer: Fuzzer, rng: Random) -> list[str]:
    format = rng.choice(["npz", "npy", "idx"])
    path = Path(f"f.{format}")
    path.write_bytes(damage_bytes(rng, fuzzer.encode(format)))
    return ["predict", "runs/images", "--data", str(path), "--save", rng.choice(["o.npz", "o.csv"])]


def _pictures(fuzzer: Fuzzer, rng: Random) -> list[str]:
    shutil.rmtree("pictures", ignore_errors=True)
    Path("pictures").mkdir()
    for format in ("png", "jpeg", "gif", "bmp", "webp", "tiff"):
        content = fuzzer.encode(format)
        damaged = damage_bytes(rng, content) if rng.random() < 0.5 else content
        Path(f"pictures/{format}.{format}").write_bytes(damaged)
    keep = rng.choice([[], ["--on-error", "keep"]])
    return ["predict", "runs/images", "--data", "pictures", "--save", "o.csv", *keep]


def _saved_run(fuzzer: Fuzzer, rng: Random) -> list[str]:
    shutil.rmtree("runs/damaged", ignore_errors=True)
    shutil.copytree(f"runs/{rng.choice(['table', 'images'])}", "runs/damaged")
    names = ["run.json", "model.json", "model.safetensors", "resolved.yaml", "metrics.jsonl", "eval/test.npz"]
    file = Path("runs/damaged", rng.choice(names))
    content = file.read_bytes()
    if file.suffix == ".json" and rng.random() < 0.7:
        file.write_text(json.dumps(damage_json(rng, json.loads(content))), encoding="utf-8")
    elif file.suffix == ".yaml" and rng.random() < 0.7:
        text = damage_text(rng, content.decode())
        file.write_text(text, encoding="utf-8", errors="replace")
    else:
        file.write_bytes(damage_bytes(rng, content))
    rows = ["--data", "t.csv"] if rng.random() < 0.5 else ["--data", "x.npz"]
    commands = [
        ["predict", "runs/damaged", *rows, "--save", "o.csv"],
        ["eval", "runs/damaged"],
        ["runs", "show", "runs/damaged"],
        ["runs", "list"],
        ["sample", "runs/damaged", "-n", "3", "--save", "o.npz"],
    ]
    return rng.choice(commands)


KINDS: tuple[Callable[[Fuzzer, Random], list[str]], ...] = (
    _recipe, _recipe, _override, _table, _table, _table, _array, _pictures, _saved_run,
)  # fmt: skip


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000, help="number of cases")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first case")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder))
        for seed in range(arguments.seed, arguments.seed + arguments.n):
            known = len(fuzzer.failures)
            fuzzer.run_case(seed)
            for failure in fuzzer.failures[known:]:
                sys.stdout.write(f"{failure}\n\n")
                sys.stdout.flush()
        codes = dict(sorted(fuzzer.codes.items()))
        sys.stdout.write(f"{arguments.n} cases, {len(fuzzer.failures)} failures, exit codes {codes}\n")
        os.chdir("/")
    return bool(fuzzer.failures)


if __name__ == "__main__":
    sys.exit(_main())
