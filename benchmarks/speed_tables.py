"""Tables of the results of `speed.py`."""

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
    """Name of the other library with the smallest median; None if no other library was measured."""
    peers = [name for name in PEERS if name in seconds]
    return min(peers, key=lambda name: statistics.median(seconds[name]), default=None)


def tables(measured: Sequence[dict[str, Any]], *, markdown: bool) -> list[str]:
    """Format one table for each kind of work at each shape."""
    lines = []
    for result in measured:
        shape, seconds = result["shape"], result["seconds"]
        rows = f"D = {shape['features']:,}, batch {shape['batch']:,}"
        if result["what"] == "step":
            rows += f" + {shape['labelled']:,}"
        title = (
            f"{_PARTS[result['what']]}, {shape['name']}: {rows}, {shape['classes']} classes, "
            f"{shape['couplings']} couplings of {shape['hidden']}, {result['threads']} thread"
            f"{'s' if result['threads'] > 1 else ''}"
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
        body += [[name, why, *[""] * (len(head) - 2)] for name, why in result["left_out"].items()]
        lines += [title, "", *(_markdown if markdown else _plain)([head, *body])]
    return lines


def scaling_table(results: Sequence[dict[str, Any]]) -> list[str]:
    """Format the cost as a function of one size at a time."""
    lines = []
    for result in results:
        names = list(result["seconds"])
        head = [result["what"], *(f"{name}, ms" for name in names), *(f"{name}, growth" for name in names)]
        body = []
        for index, size in enumerate(result["sizes"]):
            times = [result["seconds"][name][index] for name in names]
            growth = []
            for name in names:
                power = result["growth"][name][index]
                growth.append("" if power is None else f"{power:.2f}")
            body.append([f"{size:,}", *(f"{1000 * seconds:.2f}" for seconds in times), *growth])
        lines += [f"{result['what']}; otherwise {result['otherwise']}", "", *_markdown([head, *body]), ""]
    return lines


def footnote(value: dict[str, Any]) -> str:
    """Describe the measurement in one line."""
    environment = value["environment"]
    clock = "processor time" if value["clock"] == "cpu" else "wall time"
    return (
        f"Medians of {value['rounds']} rounds, {clock}; {environment['date']}, "
        f"{environment['cores']} cores of {environment['cpu']}, torch {environment['torch']}."
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
