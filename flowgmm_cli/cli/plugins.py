"""`flowgmm plugins`: what is installed, where it comes from, and its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli.options import Json, Quiet, Verbose

if TYPE_CHECKING:
    from flowgmm_cli.plugins.entry import Entry

app = typer.Typer(help="List and describe components, built in and installed.", no_args_is_help=True)

Kind = Annotated[
    str | None, typer.Option("--kind", "-k", help="Only this kind: flow, data, ...", show_default=False)
]


@app.command("list")
def list_plugins(
    kind: Kind = None, as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """List every component with its package, its state and a summary."""
    from flowgmm_cli.cli import console
    from flowgmm_cli.plugins.registry import registry

    known = registry()
    entries = [entry.inspect() for entry in known.entries(_kind(kind))]
    rows = [_row(entry) for entry in entries] + (_recipe_rows() if kind in (None, "recipe") else [])
    if as_json:
        console.print_json({"schema": "flowgmm/plugins/1", "plugins": rows, "problems": list(known.problems)})
    else:
        cells = [
            [row["kind"], row["name"], _origin(row), row["state"], row["problem"] or row["summary"]]
            for row in rows
        ]
        console.print_table(["kind", "name", "package", "state", "summary"], cells)
    for problem in known.problems:
        console.warn(problem)


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="A component, bare or as package/name.")],
    kind: Kind = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show a component's parameters: type and limits, default, meaning."""
    from flowgmm_cli.cli import console
    from flowgmm_cli.plugins.entry import SHARED_CONFIGS
    from flowgmm_cli.plugins.registry import registry
    from flowgmm_cli.recipe.describe import parameters

    known = registry()
    found = [known.find(entry.kind, entry.qualified) for entry in _named(name, _kind(kind))]
    described = [
        {**_row(entry), "api": entry.spec().api, "build": entry.spec().build, "docs": entry.spec().docs}
        | {
            "parameters": [
                one.to_dict() for one in parameters(entry.spec().config, SHARED_CONFIGS.get(entry.kind))
            ]
        }
        for entry in found
    ]
    if as_json:
        console.print_json({"schema": "flowgmm/plugin/1", "plugins": described})
        return
    for number, (entry, values) in enumerate(zip(found, described, strict=True)):
        lines = [f"{entry.kind} {entry.name}   {entry.origin}", entry.summary, values["docs"]]
        console.print_text(("\n" if number else "") + "\n".join(line for line in lines if line) + "\n")
        cells = [[one["name"], one["default"], one["expected"], one["description"]] for one in _shown(values)]
        if cells:
            console.print_table(["parameter", "default", "value", "meaning"], cells)
        else:
            console.print_text("no parameters")


def _kind(kind: str | None) -> str | None:
    from flowgmm_cli.errors import UsageError, did_you_mean
    from flowgmm_cli.plugins.entry import SPEC_TYPES

    if kind in (None, *SPEC_TYPES):
        return kind
    if kind == "recipe":
        return "recipe"
    kinds = [*SPEC_TYPES, "recipe"]
    raise UsageError(
        f"unknown kind `{kind}`{did_you_mean(str(kind), kinds)}", details=[f"kinds: {', '.join(kinds)}"]
    )


def _named(name: str, kind: str | None) -> list[Entry]:
    """All entries that a name can mean, of any kind; at least one."""
    from flowgmm_cli.errors import PluginError, did_you_mean
    from flowgmm_cli.plugins.registry import registry

    entries = registry().entries(kind)
    found = [entry for entry in entries if name in (entry.name, entry.qualified)]
    if found:
        return found
    names = dict.fromkeys(entry.name for entry in entries)
    what = kind or "component"
    raise PluginError(
        f"unknown {what} `{name}`{did_you_mean(name, names)}", hint="`flowgmm plugins list` shows them all"
    )


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "name": entry.name,
        "package": entry.package,
        "version": entry.version,
        "state": entry.state,
        "summary": entry.summary,
        "problem": entry.problem,
    }


def _recipe_rows() -> list[dict[str, Any]]:
    """Packages that bring recipes."""
    from flowgmm_cli.plugins.registry import registry

    return [
        {
            "kind": "recipe",
            "name": one.name,
            "package": one.package,
            "version": one.version,
            "state": "disabled" if registry().is_disabled(one.package) else "ok",
            "summary": f"recipes in {one.target}; see `flowgmm recipes list`",
            "problem": "",
        }
        for one in registry().recipes
    ]


def _origin(row: dict[str, Any]) -> str:
    from flowgmm_cli.plugins.entry import CORE

    return "built in" if row["package"] == CORE else " ".join(filter(None, [row["package"], row["version"]]))


def _shown(values: dict[str, Any]) -> list[dict[str, Any]]:
    import json

    shown = []
    for one in values["parameters"]:
        default = "required" if one["required"] else json.dumps(one["default"], ensure_ascii=False)
        shown.append({**one, "default": default.strip('"')})
    return shown
