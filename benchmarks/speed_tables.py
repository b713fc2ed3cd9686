"""The figures of `speed.py` as tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from peers import PEERS
from timing import ratio

_PARTS = {
    "step": "Training step",
    "score": "Scoring of a batch",
    "sample": "Sampling of a batch",
}


def fastest_peer(seconds: dict[str, list[float]]) -> str | None:
    """The other library with the smallest median; None where none was measured."""
    there = [name for name in PEERS if name in seconds]
    return min(there, key=lambda name: statistics.median(seconds[name]), default=None)


def tables(measured: Sequence[dict[str, Any]], *, markdown: bool) -> list[str]:
    """One table for each kind of work at each shape."""
    lines = []
    for one in measured:
        shape, seconds = one["shape"], one["seconds"]
        rows = f"D = {shape['features']:,}, batch {shape['batch']:,}"
        if one["what"] == "step":
            rows += f" + {shape['labelled']:,}"
        title = (
            f"{_PARTS[one['what']]}, {shape['name']}: {rows}, {shape['classes']} classes, "
            f"{shape['couplings']} couplings of {shape['hidden']}, {one['threads']} thread"
            f"{'s' if one['threads'] > 1 else ''}"
        )
        peer = fastest_peer(seconds)
        floor = next((name for name in seconds if name.startswith("matrix products, fp32")), None)
        head = ["", "ms"]
        head += [f"against {peer}"] if peer else []
        head += ["share of the products, fp32"] if floor else []
        body = []
        for name, times in seconds.items():
            cells = [name, f"{1000 * statistics.median(times):.2f}"]
            cells += [f"{ratio(times, seconds[peer]):.2f}"] if peer else []
            cells += [f"{ratio(seconds[floor], times):.2f}"] if floor else []
            body.append(cells)
        body += [[name, why, *[""] * (len(head) - 2)] for name, why in one["left_out"].items()]
        lines += [title, "", *(_markdown if markdown else _plain)([head, *body])]
    return lines


def scaling_table(found: Sequence[dict[str, Any]]) -> list[str]:
    """Cost against one size at a time."""
    lines = []
    for one in found:
        names = list(one["seconds"])
        head = [one["what"], *(f"{name}, ms" for name in names), *(f"{name}, growth" for name in names)]
        body = []
        for index, size in enumerate(one["sizes"]):
            times = [one["seconds"][name][index] for name in names]
            growth = []
            for name in names:
                power = one["growth"][name][index]
                growth.append("" if power is None else f"{power:.2f}")
            body.append([f"{size:,}", *(f"{1000 * seconds:.2f}" for seconds in times), *growth])
        lines += [f"{one['what']}; otherwise {one['otherwise']}", "", *_markdown([head, *body]), ""]
    return lines


def footnote(value: dict[str, Any]) -> str:
    """How the tables were measured, in one line."""
    found = value["environment"]
    clock = "seconds of the processor" if value["clock"] == "cpu" else "seconds of the clock"
    return (
        f"Medians of {value['rounds']} rounds of turns, {clock}; {found['date']}, {found['cores']} cores of "
        f"{found['cpu']}, torch {found['torch']}."
    )


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [head, f"|{' --- |' * len(rows[0])}", *body]


def _plain(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
