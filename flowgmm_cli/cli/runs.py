"""`flowgmm runs`: list, show and compare training runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import select_run
from flowgmm_cli.cli.validation import check_output
from flowgmm_cli.errors import UsageError
from flowgmm_cli.formatting import format_number
from flowgmm_cli.messages import quote
from flowgmm_cli.user_files import explain_write_errors

app = typer.Typer(help="List, show and compare training runs.", no_args_is_help=True)
_SUMMARY = ("run", "status", "recipe", "created", "seconds", "seed", "rows", "best", "test", "cross_fitted")


@app.command("list", cls=options.Command)
def list_all(
    root: Annotated[Path, typer.Argument(help="The folder of the runs.")] = Path("runs"),
    as_json: options.Json = False,
) -> None:
    """List the runs, newest first."""
    from flowgmm_cli.runs import list_runs

    infos = [
        {**run.info(), "run": str(run.path), "status": run.status()} for run in list_runs(root, output.note)
    ]
    infos.sort(key=lambda info: str(info.get("created", "")), reverse=True)
    if as_json:
        rows = [{key: info.get(key) for key in _SUMMARY} for info in infos]
        output.print_json({"schema": "flowgmm/runs/1", "runs": rows})
        return
    output.print_table(
        ["run", "status", "created", "seconds", "labels", "accuracy", "rows", "ECE"],
        [
            [
                info["run"],
                info["status"],
                str(info.get("created", ""))[:16].replace("T", " "),
                f"{info.get('seconds') or 0:.0f}",
                (info.get("rows") or {}).get("labelled"),
                _number(info, "accuracy"),
                "test" if info.get("test") else "cross-fitted" if info.get("cross_fitted") else "",
                _number(info, "ece"),
            ]
            for info in infos
        ],
        right=["seconds", "labels", "accuracy", "ECE"],
        optional=["ECE", "seconds", "created", "rows"],
    )
    if not infos:
        output.note(f"there are no runs in {root}; train one: flowgmm train digits")


@app.command(cls=options.Command)
def show(run: options.Run = None, run_flag: options.RunFlag = None, as_json: options.Json = False) -> None:
    """Show a run: status, data, settings, versions, results."""

    selected = select_run(run, run_flag)
    info = selected.info()
    if as_json:
        output.print_json({**info, "run": str(selected.path), "status": selected.status()})
        return
    rows: list[list[Any]] = [["run", selected.path], ["status", selected.status()]]
    for key in ("error", "created", "seconds", "device", "precision", "seed", "epochs", "steps"):
        if (value := info.get(key)) is not None:
            rows.append([key, format_number(value) if isinstance(value, float) else value])
    for key in ("rows", "best", "calibration", "unknown", "test", "cross_fitted", "versions"):
        for name, value in (info.get(key) or {}).items():
            if value is not None:
                cell = f"{value:.4f}" if isinstance(value, float) else value
                rows.append([f"{key.replace('_', '-')} {name}", cell])
    earlier = info.get("from")
    while earlier:
        rows.append(["from", f"{earlier['run']} (data {str(earlier.get('fingerprint'))[:12]})"])
        earlier = earlier.get("from")
    rows.append(["overlays", ", ".join(info.get("overlays") or []) or "none"])
    rows.append(["changes", " ".join(info.get("overrides") or []) or "none"])
    output.print_table(["", ""], rows)
    if selected.status() not in ("done", "running"):
        output.note(f"next: flowgmm train --resume {quote(selected.path)}")


@app.command("compare", cls=options.Command)
def compare_runs(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN", help="Two or more runs; all are compared with the first.")
    ],
    save: Annotated[
        Path | None, options.option("--save FILE.html", "Write a page with overlaid learning curves too.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compare runs: results with intervals, settings that differ, data, versions, time.

    Differences are taken row by row if both runs were tested on the same rows; a note says if they were not.

    Examples: flowgmm runs compare runs/digits/A runs/digits/B ·
    flowgmm runs compare runs/csv/* --save compared.html
    """
    from flowgmm_cli.runs import find_run

    if len(runs) < 2:
        raise UsageError("a comparison takes two runs or more", hint="flowgmm runs compare RUN RUN")
    check_output("--save", save, (".html", ".htm"), "a comparison is an HTML file")
    folders = {Path(word).resolve() for word in runs if not Path(word).is_symlink()}
    # `runs/csv/*` names the newest run and the link to it
    words = [word for word in runs if not Path(word).is_symlink() or Path(word).resolve() not in folders]
    selected = [find_run(word, note=output.note, offline=output.settings.offline)[0] for word in words]
    counts = Counter(str(run.path) for run in selected)
    if repeated := sorted(path for path, count in counts.items() if count > 1):
        raise UsageError(f"a run is named twice: {repeated[0]}", hint="name each run once")

    from flowgmm_cli.report.compare import compare, write_comparison

    comparison = compare(selected)
    if save is not None:
        with explain_write_errors(save):
            write_comparison(comparison, save.expanduser())
        output.note(f"written {save}")
    if as_json:
        output.print_json(comparison.to_dict())
        return
    for key, table in comparison.tables().items():
        title = "results, with 95 % intervals" if key == "results" else None
        if table.rows:
            if title is None:
                output.print_text("")
            output.print_table(table.columns, table.rows, title=title)
        if key == "differences":
            for name, difference in zip(comparison.names[1:], comparison.differences, strict=True):
                output.print_text(f"{name}: {difference.summary}")


def _number(info: dict[str, Any], name: str) -> str:
    value = (info.get("test") or info.get("cross_fitted") or {}).get(name)
    return f"{value:.4f}" if isinstance(value, float) else ""
