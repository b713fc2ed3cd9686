"""Time of a training step, of scoring and of sampling: flowgmm beside zuko, nflows and normflows.

    pip install zuko nflows normflows                  any of them
    python benchmarks/speed.py                         all shapes, one thread, then two
    python benchmarks/speed.py --shapes text,table --threads 1 --rounds 20
    python benchmarks/speed.py --scaling               cost against rows, features, classes and depth
    python benchmarks/speed.py --end-to-end            from the start of a process to trained and scored
    python benchmarks/speed.py --markdown --json results.json

All libraries train the same architecture, six affine couplings with two hidden layers, for the same
likelihood with the same optimiser; flowgmm does so with its own trainer, and a second time with its default
losses (two views, averaged teacher, consistency). The libraries alternate within one process, and ratios are
medians of ratios within a round, so they hold on a slightly busy machine. `--clock cpu` measures processor
time, which is fair for one thread even on a busy machine. The matrix products of a step alone are measured
in the same rounds."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from library import Library
from peers import PEERS, Peer, available_peers, create_step
from reference import Reference, fits
from shapes import SHAPES, TINY, Rows, Shape, floors, operations
from speed_tables import footnote, scaling_table, tables
from timing import CLOCKS, Contender, repeat, time_in_rounds

from flowgmm_cli.files import write_json

SCHEMA = "flowgmm/benchmark/speed/1"
REFERENCE = "plain port of the paper's program"
Work = Literal["step", "score", "sample"]
WORKS: tuple[Work, ...] = ("step", "score", "sample")


@dataclass(frozen=True)
class SpeedResult:
    """Results of one kind of work at one shape.

    Attributes:
        what: `step`, `score` or `sample`.
        shape: sizes.
        threads: threads of torch.
        seconds: seconds of each round, by contender.
        left_out: reasons why a contender was not measured, by contender.
    """

    what: Work
    shape: Shape
    threads: int
    seconds: dict[str, list[float]]
    left_out: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = asdict(self)
        if self.what == "step":
            values["operations"] = operations(self.shape)
        return values


def create_contenders(what: Work, shape: Shape) -> tuple[list[Contender], dict[str, str]]:
    """Create the contenders; returns them and, for those that cannot be measured, the reasons by name."""
    rows = Rows.draw(shape)
    contenders = floors(shape) if what == "step" else []
    available, left_out = available_peers(), {}
    for name, build in PEERS.items():
        if name in available:
            contenders.append(_contender(name, build(shape, rows), what, rows))
        else:
            left_out[name] = "not installed"
    if fits(shape):
        contenders.append(_contender(REFERENCE, Reference(shape, rows), what, rows))
    else:
        left_out[REFERENCE] = "dense covariances of this size take too long"
    for precision in ("fp32", "bf16"):
        plain = Library(shape, rows, "likelihood", precision)
        if what == "step":
            contenders += [plain.steps(), Library(shape, rows, "default", precision).steps()]
        else:
            contenders.append(
                plain.scores(rows.unlabelled) if what == "score" else plain.samples(shape.batch)
            )
    return contenders, left_out


def _contender(name: str, model: Peer | Reference, what: Work, rows: Rows) -> Contender:
    if what == "step":
        return repeat(name, create_step(model, lambda: model.loss(rows)))
    model.eval()

    @torch.no_grad()
    def work() -> None:
        if what == "score":
            model.score(rows.unlabelled)
        else:
            model.sample(len(rows.unlabelled))

    return repeat(name, work)


def measure(what: Work, shape: Shape, *, threads: int, rounds: int, clock: str) -> SpeedResult:
    """Time all contenders in alternation."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        contenders, left_out = create_contenders(what, shape)
        seconds = time_in_rounds(contenders, rounds=rounds, clock=CLOCKS[clock])
    finally:
        torch.set_num_threads(before)
    return SpeedResult(what, shape, threads, seconds, left_out)


def main() -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shapes", help="names, separated by commas")
    parser.add_argument("--what", default=",".join(WORKS), help="some of step, score, sample")
    parser.add_argument("--threads", default="1,2", help="numbers, separated by commas")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--scaling", action="store_true", help="flowgmm alone, one size at a time")
    parser.add_argument("--end-to-end", action="store_true", help="whole processes")
    parser.add_argument("--markdown", action="store_true", help="tables for the documentation")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    from accuracy import environment

    value: dict[str, Any] = {
        "schema": SCHEMA,
        "environment": environment(),
        "rounds": options.rounds,
        "clock": options.clock,
    }
    threads = [int(number) for number in options.threads.split(",")]
    if options.scaling:
        from scaling import scaling

        value["scaling"] = scaling(threads=threads[0], rounds=options.rounds, clock=options.clock)
        print("\n".join([*scaling_table(value["scaling"]), "", footnote(value)]))
    elif options.end_to_end:
        from whole import SIZE, end_to_end, end_to_end_table

        value["end_to_end"] = end_to_end(SIZE, rounds=options.rounds)
        print("\n".join([*end_to_end_table(value["end_to_end"]), "", footnote(value)]))
    else:
        shapes = [_find_shape(name) for name in options.shapes.split(",")] if options.shapes else list(SHAPES)
        works = [cast(Work, name) for name in options.what.split(",") if name in WORKS]
        measured = []
        for count in threads:
            for shape in shapes:
                for what in works:
                    result = measure(what, shape, threads=count, rounds=options.rounds, clock=options.clock)
                    measured.append(result.to_dict())
                    print("\n".join(["", *tables(measured[-1:], markdown=options.markdown)]), flush=True)
        value["measured"] = measured
        print(f"\n{footnote(value)}")
    if options.json:
        write_json(options.json, value)


def _find_shape(name: str) -> Shape:
    shapes = {shape.name: shape for shape in (*SHAPES, *TINY)}
    if name not in shapes:
        raise SystemExit(f"there is no shape `{name}`; choose one of {', '.join(shapes)}")
    return shapes[name]


if __name__ == "__main__":
    main()
