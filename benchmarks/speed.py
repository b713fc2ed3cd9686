"""Time of a training step, of scoring and of sampling: flowgmm beside zuko, nflows and normflows.

    pip install zuko nflows normflows                  as many of them as you like
    python benchmarks/speed.py                         all shapes, one thread, then two
    python benchmarks/speed.py --shapes text,table --threads 1 --rounds 20
    python benchmarks/speed.py --scaling               cost against rows, features, classes and depth
    python benchmarks/speed.py --end-to-end            from the start of a process to trained and scored
    python benchmarks/speed.py --markdown --json results.json

All libraries train the same architecture, six affine couplings with two hidden layers, for the same
likelihood with the same optimiser; flowgmm does so in its own loop, and once more with the losses that
`flowgmm train` uses unless told otherwise (two views, averaged teacher, consistency). They take turns in one
process, and ratios are medians of ratios within a round, so that they hold on a machine that is not quite
quiet. `--clock cpu` counts the seconds of the processor instead, which is fair for one thread even on a busy
machine. The floor is the time of a step's matrix products alone, measured in the same rounds.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from library import Library
from peers import PEERS, Peer, installed, stepper
from reference import Reference, fits
from shapes import SHAPES, TINY, Rows, Shape, floors, operations
from speed_tables import footnote, scaling_table, tables
from timing import CLOCKS, Contender, by_turns, repeated

from flowgmm_cli.files import write_json

SCHEMA = "flowgmm/benchmark/speed/1"
REFERENCE = "plain port of the paper's program"
What = Literal["step", "score", "sample"]
WHATS: tuple[What, ...] = ("step", "score", "sample")


@dataclass(frozen=True)
class Measured:
    """One kind of work at one shape.

    Attributes:
        what: `step`, `score` or `sample`.
        shape: sizes.
        threads: of torch.
        seconds: by contender, a figure for each round.
        left_out: contender -> why it was not measured.
    """

    what: What
    shape: Shape
    threads: int
    seconds: dict[str, list[float]]
    left_out: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = asdict(self)
        if self.what == "step":
            found["operations"] = operations(self.shape)
        return found


def contenders(what: What, shape: Shape) -> tuple[list[Contender], dict[str, str]]:
    """Who can be measured, and who cannot."""
    rows = Rows.of(shape)
    found = floors(shape) if what == "step" else []
    there, left_out = installed(), {}
    for name, build in PEERS.items():
        if name in there:
            found.append(_other(name, build(shape, rows), what, rows))
        else:
            left_out[name] = "not installed"
    if fits(shape):
        found.append(_other(REFERENCE, Reference(shape, rows), what, rows))
    else:
        left_out[REFERENCE] = "dense covariances of this size take too long"
    for precision in ("fp32", "bf16"):
        plain = Library(shape, rows, "likelihood", precision)
        if what == "step":
            found += [plain.steps(), Library(shape, rows, "default", precision).steps()]
        else:
            found.append(plain.scores(rows.unlabelled) if what == "score" else plain.samples(shape.batch))
    return found, left_out


def _other(name: str, model: Peer | Reference, what: What, rows: Rows) -> Contender:
    if what == "step":
        return repeated(name, stepper(model, lambda: model.loss(rows)))
    model.eval()

    @torch.no_grad()
    def work() -> None:
        if what == "score":
            model.score(rows.unlabelled)
        else:
            model.sample(len(rows.unlabelled))

    return repeated(name, work)


def measure(what: What, shape: Shape, *, threads: int, rounds: int, clock: str) -> Measured:
    """Let all contenders take turns."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found, left_out = contenders(what, shape)
        seconds = by_turns(found, rounds=rounds, clock=CLOCKS[clock])
    finally:
        torch.set_num_threads(before)
    return Measured(what, shape, threads, seconds, left_out)


def main() -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shapes", help="names, separated by commas")
    parser.add_argument("--what", default=",".join(WHATS), help="of step, score, sample")
    parser.add_argument("--threads", default="1,2", help="numbers, separated by commas")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--scaling", action="store_true", help="flowgmm alone, one size at a time")
    parser.add_argument("--end-to-end", action="store_true", help="whole processes")
    parser.add_argument("--markdown", action="store_true", help="tables for the documentation")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    from accuracy import environment

    value: dict[str, Any] = {
        "schema": SCHEMA,
        "environment": environment(),
        "rounds": given.rounds,
        "clock": given.clock,
    }
    threads = [int(one) for one in given.threads.split(",")]
    if given.scaling:
        from scaling import scaling

        value["scaling"] = scaling(threads=threads[0], rounds=given.rounds, clock=given.clock)
        print("\n".join([*scaling_table(value["scaling"]), "", footnote(value)]))
    elif given.end_to_end:
        from whole import SIZE, end_to_end, whole_table

        value["end_to_end"] = end_to_end(SIZE, rounds=given.rounds)
        print("\n".join([*whole_table(value["end_to_end"]), "", footnote(value)]))
    else:
        shapes = [_known(name) for name in given.shapes.split(",")] if given.shapes else list(SHAPES)
        whats = [cast(What, one) for one in given.what.split(",") if one in WHATS]
        measured = []
        for count in threads:
            for shape in shapes:
                for what in whats:
                    one = measure(what, shape, threads=count, rounds=given.rounds, clock=given.clock)
                    measured.append(one.to_dict())
                    print("\n".join(["", *tables(measured[-1:], markdown=given.markdown)]), flush=True)
        value["measured"] = measured
        print(f"\n{footnote(value)}")
    if given.json:
        write_json(given.json, value)


def _known(name: str) -> Shape:
    every = {one.name: one for one in (*SHAPES, *TINY)}
    if name not in every:
        raise SystemExit(f"there is no shape `{name}`; one of {', '.join(every)}")
    return every[name]


if __name__ == "__main__":
    main()
