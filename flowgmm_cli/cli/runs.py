"""`flowgmm runs`: what has been trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flowgmm_cli.cli.options import Json, Quiet, Run, RunFlag, Verbose

app = typer.Typer(help="List and show training runs.", no_args_is_help=True)


@app.command("list")
def list_all(
    root: Annotated[Path, typer.Argument(help="The folder of the runs.")] = Path("runs"),
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List the runs, newest first."""
    from flowgmm_cli.cli import console
    from flowgmm_cli.runs import list_runs

    found = sorted(list_runs(root), key=lambda run: str(run.info().get("created", "")), reverse=True)
    if as_json:
        rows = [{"run": str(run.path), **_summary(run.info(), run.status())} for run in found]
        console.print_json({"schema": "flowgmm/runs/1", "runs": rows})
        return
    console.print_table(
        ["run", "status", "created", "seconds", "labels", "accuracy", "ECE"],
        [
            [
                run.path,
                run.status(),
                str(info.get("created", ""))[:16].replace("T", " "),
                f"{info.get('seconds', 0):.0f}",
                (info.get("rows") or {}).get("labelled"),
                _number(info, "accuracy"),
                _number(info, "ece"),
            ]
            for run in found
            for info in [run.info()]
        ],
        right=["seconds", "labels", "accuracy", "ECE"],
    )
    if not found:
        console.note(f"there are no runs in {root}; train one: flowgmm train digits")


@app.command()
def show(
    run: Run = None,
    run_flag: RunFlag = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show what is known of a run: status, data, settings, versions, results."""
    from flowgmm_cli.cli import console
    from flowgmm_cli.cli.work import chosen_run

    found = chosen_run(run, run_flag)
    info = found.info()
    if as_json:
        console.print_json({**info, "run": str(found.path), "status": found.status()})
        return
    rows: list[list[Any]] = [["run", found.path], ["status", found.status()]]
    for key in ("error", "created", "seconds", "device", "precision", "seed", "epochs", "steps"):
        if info.get(key) is not None:
            rows.append([key, info[key]])
    for key in ("rows", "best", "calibration", "test", "versions"):
        for name, value in (info.get(key) or {}).items():
            if value is not None:
                rows.append([f"{key} {name}", f"{value:.4f}" if isinstance(value, float) else value])
    rows.append(["changes", " ".join(info.get("overrides", [])) or "none"])
    console.print_table(["", ""], rows)
    if found.status() not in ("done", "running"):
        console.note(f"next: flowgmm train --resume {found.path}")


def _summary(info: dict[str, Any], status: str) -> dict[str, Any]:
    keys = ("recipe", "created", "seconds", "seed", "rows", "best", "test")
    return {"status": status, **{key: info.get(key) for key in keys}}


def _number(info: dict[str, Any], name: str) -> str:
    value = (info.get("test") or {}).get(name)
    return f"{value:.4f}" if isinstance(value, float) else ""
