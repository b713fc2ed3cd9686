"""`flowgmm plugins`: what is installed and where it comes from, parameters, a scaffold, a conformance run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli.options import Json, Overrides, PluginModule, Quiet, Verbose

if TYPE_CHECKING:
    from flowgmm_cli.plugins.entry import Entry

app = typer.Typer(
    help="List, describe, make and test components, built in and installed.", no_args_is_help=True
)

Kind = Annotated[
    str | None, typer.Option("--kind", "-k", help="Only this kind: flow, data, ...", show_default=False)
]
Name = Annotated[str, typer.Argument(help="A component, bare or as package/name.")]


@app.command("list")
def list_plugins(
    kind: Kind = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Import every plugin to find those that are broken or incompatible."),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """List every component with its package, its state and a summary.

    No plugin is imported without --check: its summary is then that of its package. States: ok, disabled
    (FLOWGMM_DISABLE_PLUGINS), conflict (write package/name) and, with --check, incompatible and broken.
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.plugins.registry import registry

    known = registry()
    entries = [entry.inspect() if check else entry for entry in known.entries(_kind(kind))]
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
    name: Name,
    kind: Kind = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Show a component's parameters (type and limits, default, meaning) and how a recipe chooses it.

    Examples: flowgmm plugins describe realnvp · flowgmm plugins describe flowgmm-nsf/nsf --json
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.plugins.registry import registry

    known = registry()
    found = [known.find(entry.kind, entry.qualified) for entry in _named(name, _kind(kind))]
    described = [_description(entry) for entry in found]
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
        console.print_text(f"\nin a recipe:\n\n{values['recipe']}")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the package, such as flowgmm-mine or my-flow.")],
    kind: Annotated[
        str, typer.Option("--kind", "-k", help="flow, data, regulariser, encoder or score.")
    ] = "flow",
    directory: Annotated[
        Path, typer.Option("--directory", "-d", help="Folder in which the package's folder is made.")
    ] = Path(),
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a package with a small working component of your own, its tests, a recipe and a README.

    Examples: flowgmm plugins new my-flow · flowgmm plugins new flowgmm-rings --kind data --directory ~/code
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.plugins.scaffold import write_package

    made = write_package(name, kind, directory.expanduser())
    files = [str(path.relative_to(made.folder)) for path in made.files]
    if as_json:
        console.print_json(
            {
                "schema": "flowgmm/plugin-new/1",
                "folder": str(made.folder),
                "package": made.package,
                "kind": made.kind,
                "name": made.name,
                "files": files,
            }
        )
        return
    console.print_text(f"{made.folder}: {made.kind} `{made.name}`\n" + "\n".join(f"  {one}" for one in files))
    console.note(
        f"next: pip install -e {made.folder} && python -m pytest {made.folder} && "
        f"flowgmm plugins test {made.package}/{made.name}"
    )


@app.command("test")
def carry_out_checks(
    name: Name,
    overrides: Overrides = None,
    kind: Kind = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Hold a component to its contract with the conformance kit; needs no pytest.

    Words KEY=VALUE are parameters to check it with, as in a recipe. A check that fails ends with exit code 4.

    Examples: flowgmm plugins test my_flow · flowgmm plugins test my_source path=data.csv label=y
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.cli.plugin_tests import carry_out
    from flowgmm_cli.errors import PluginError
    from flowgmm_cli.plugins.registry import registry

    known = registry()
    entries = _named(name, _kind(kind))
    found = known.find(entries[0].kind, entries[0].qualified)
    if len(entries) > 1:
        names = [f"--kind {entry.kind} {entry.qualified}" for entry in entries]
        raise PluginError(f"`{name}` is the name of several components", details=names, hint="say which one")
    failed = carry_out(found, overrides or [], as_json=as_json)
    if failed:
        words = f"{failed} check{'s' if failed > 1 else ''}"
        console.warn(f"{found.kind} `{found.name}` from {found.origin} fails {words}")
        raise typer.Exit(PluginError.exit_code)


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

    known = registry()
    entries = known.entries(kind)
    found = [entry for entry in entries if name in (entry.name, entry.qualified)]
    if found:
        return found
    names = dict.fromkeys(entry.name for entry in entries)
    what = kind or "component"
    raise PluginError(
        f"unknown {what} `{name}`{did_you_mean(name, names)}",
        details=known.problems,
        hint="`flowgmm plugins list` shows them all",
    )


def _row(entry: Entry) -> dict[str, Any]:
    from flowgmm_cli.plugins.discovery import distribution_summary

    summary = entry.summary
    if not summary and not entry.path:
        summary = distribution_summary(entry.package)
    return {
        "kind": entry.kind,
        "name": entry.name,
        "package": entry.package,
        "version": entry.version,
        "state": entry.state,
        "summary": summary,
        "problem": entry.problem,
        **({"path": entry.path} if entry.path else {}),
    }


def _description(entry: Entry) -> dict[str, Any]:
    from flowgmm_cli.plugins.entry import SHARED_CONFIGS
    from flowgmm_cli.recipe.parameters import parameters, snippet

    spec, shared = entry.spec(), SHARED_CONFIGS.get(entry.kind)
    rows = parameters(spec.config, shared)
    inherited = set(shared.model_fields) if shared else set()
    own = [row for row in rows if row.name.split(".")[0] not in inherited]
    bare = [one for one in _named(entry.name, entry.kind) if one.name == entry.name]
    use = entry.name if len(bare) == 1 or entry.builtin else entry.qualified
    return {
        **_row(entry),
        "api": spec.api,
        "build": spec.build,
        "docs": spec.docs,
        "parameters": [row.to_dict() for row in rows],
        "recipe": snippet(entry.kind, use, own),
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

    if "path" in row:
        return str(row["path"])
    return "built in" if row["package"] == CORE else " ".join(filter(None, [row["package"], row["version"]]))


def _shown(values: dict[str, Any]) -> list[dict[str, Any]]:
    import json

    shown = []
    for one in values["parameters"]:
        default = "required" if one["required"] else json.dumps(one["default"], ensure_ascii=False)
        shown.append({**one, "default": default.strip('"')})
    return shown
