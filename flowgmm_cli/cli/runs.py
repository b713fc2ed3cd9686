"""`flowgmm runs`: what has been trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli.options import Json, PluginModule, Quiet, Run, RunFlag, Verbose

if TYPE_CHECKING:
    from flowgmm_cli.report.compare import Comparison

app = typer.Typer(help="List, show and compare training runs.", no_args_is_help=True)


@app.command("list")
def list_all(
    root: Annotated[Path, typer.Argument(help="The folder of the runs.")] = Path("runs"),
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
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
    plugin_module: PluginModule = None,
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
    rows.append(["overlays", ", ".join(info.get("overlays", [])) or "none"])
    rows.append(["changes", " ".join(info.get("overrides", [])) or "none"])
    console.print_table(["", ""], rows)
    if found.status() not in ("done", "running"):
        console.note(f"next: flowgmm train --resume {found.path}")


@app.command("compare")
def compare_runs(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN RUN...", help="Two or more runs; all are held against the first."),
    ],
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            metavar="FILE.html",
            help="Write a page with overlaid learning curves too.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Hold runs against each other: results with intervals, settings that differ, data, versions, time.

    Differences are taken row by row where both runs were tested on the same rows; it is said where not.

    Examples: flowgmm runs compare runs/digits/A runs/digits/B ·
    flowgmm runs compare runs/csv/* --save compared.html
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.cli.work import writing
    from flowgmm_cli.errors import UsageError
    from flowgmm_cli.runs import find_run

    if len(runs) < 2:
        raise UsageError("a comparison takes two runs or more", hint="flowgmm runs compare RUN RUN")
    if save is not None and save.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--save {save}: a comparison is an HTML file", hint=f"--save {save}.html")
    found = [find_run(word)[0] for word in runs]
    twice = sorted({str(run.path) for run in found if sum(one.path == run.path for one in found) > 1})
    if twice:
        raise UsageError(f"a run is named twice: {twice[0]}", hint="name each run once")

    from flowgmm_cli.report.compare import compare
    from flowgmm_cli.report.compare_page import write_comparison

    comparison = compare(found)
    if save is not None:
        with writing(save):
            write_comparison(comparison, save.expanduser())
        console.note(f"written {save}")
    if as_json:
        console.print_json(comparison.to_dict())
    else:
        _show_comparison(comparison)


def _show_comparison(comparison: Comparison) -> None:
    from flowgmm_cli.cli import console
    from flowgmm_cli.report import compare_page as page

    names = page.short_names(comparison)
    columns = ["", *names]
    console.print_table(columns, page.result_rows(comparison), title="test rows, with 95 % intervals")
    console.print_text("")
    headings = [f"difference from {names[0]}", *page.DIFFERENCE_COLUMNS]
    console.print_table(headings, page.difference_rows(comparison, names))
    for name, difference in zip(names[1:], comparison.differences, strict=True):
        console.print_text(f"{name}: {difference.summary}")
    console.print_text("")
    console.print_table(columns, page.fact_rows(comparison))
    for title, values in (("setting", comparison.settings), ("version", comparison.versions)):
        if values:
            console.print_text("")
            console.print_table([title, *names], page.setting_rows(values))


def _summary(info: dict[str, Any], status: str) -> dict[str, Any]:
    keys = ("recipe", "created", "seconds", "seed", "rows", "best", "test")
    return {"status": status, **{key: info.get(key) for key in keys}}


def _number(info: dict[str, Any], name: str) -> str:
    value = (info.get("test") or {}).get(name)
    return f"{value:.4f}" if isinstance(value, float) else ""
