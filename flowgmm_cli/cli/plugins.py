"""`flowgmm plugins`: list, describe and test components, and write a package with a new one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.errors import PluginError, UsageError, did_you_mean
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.messages import quote

if TYPE_CHECKING:
    from flowgmm_cli.plugins.entry import Entry
    from flowgmm_cli.testing import CheckResult

app = typer.Typer(
    help="List, describe, make and test components, built in and installed.", no_args_is_help=True
)

Kind = Annotated[str | None, options.option("--kind -k", "Only this kind: flow, data, ...")]
Name = Annotated[str, typer.Argument(help="A component, bare or as package/name.")]


@app.command("list", cls=options.Command)
def list_plugins(
    kind: Kind = None,
    check: Annotated[
        bool, options.option("--check", "Import every plugin to find those that are broken or incompatible.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """List every component with its package, its state and a summary.

    Without --check no plugin is imported and its summary is that of its package. States: ok, disabled
    (FLOWGMM_DISABLE_PLUGINS), conflict (write package/name) and, with --check, incompatible and broken.
    """
    from dataclasses import replace

    from flowgmm_cli.plugins.registry import registry

    known = registry()
    entries = [entry.inspect() if check else entry for entry in known.entries(_check_kind(kind))]
    for entry in known.recipes if kind in (None, "recipe") else ():
        entries.append(replace(entry, summary=f"recipes in {entry.target}; see `flowgmm recipes list`"))
    rows = [_row(entry) for entry in entries]
    if as_json:
        output.print_json({"schema": "flowgmm/plugins/1", "plugins": rows, "problems": list(known.problems)})
    else:
        cells = [
            [entry.kind, entry.name, entry.path or entry.origin, entry.state, entry.problem or row["summary"]]
            for entry, row in zip(entries, rows, strict=True)
        ]
        output.print_table(["kind", "name", "package", "state", "summary"], cells)
    for problem in known.problems:
        output.warn(problem)


@app.command(cls=options.Command)
def describe(name: Name, kind: Kind = None, as_json: options.Json = False) -> None:
    """Show a component's parameters (type and limits, default, meaning) and how a recipe chooses it.

    Examples: flowgmm plugins describe realnvp · flowgmm plugins describe flowgmm-nsf/nsf --json
    """
    from flowgmm_cli.plugins.registry import registry

    known = registry()
    entries = [known.find(entry.kind, entry.qualified) for entry in _find_entries(name, _check_kind(kind))]
    descriptions = [_describe(entry) for entry in entries]
    if as_json:
        output.print_json({"schema": "flowgmm/plugin/1", "plugins": descriptions})
        return
    for number, (entry, values) in enumerate(zip(entries, descriptions, strict=True)):
        lines = [f"{entry.kind} {entry.name}   {entry.origin}", entry.summary, *values["docs"].splitlines()]
        output.print_text(*([""] if number else []), *filter(None, lines), "")
        rows = values["parameters"]
        cells = [[row["name"], _default(row), row["expected"], row["description"]] for row in rows]
        if cells:
            output.print_table(["parameter", "default", "value", "meaning"], cells)
        else:
            output.print_text("no parameters")
        if values["recipe"]:
            output.print_text("", "in a recipe:", "")
            output.print_yaml(values["recipe"])
        else:
            output.print_text("", "used by: flowgmm eval --baselines")


@app.command(cls=options.Command)
def new(
    name: Annotated[str, typer.Argument(help="Name of the package, such as flowgmm-mine or my-flow.")],
    kind: Annotated[
        str, options.option("--kind -k", "flow, data, regulariser, encoder, score or baseline.")
    ] = "flow",
    directory: Annotated[
        Path, options.option("--directory -d", "Folder in which the package's folder is created.")
    ] = Path(),
    as_json: options.Json = False,
) -> None:
    """Write a package with a small working component of your own, its tests, a recipe and a README.

    Examples: flowgmm plugins new my-flow · flowgmm plugins new flowgmm-rings --kind data --directory ~/code
    """
    from flowgmm_cli.plugins.scaffold import write_package

    package = write_package(name, kind, directory.expanduser())
    files = [str(path.relative_to(package.folder)) for path in package.files]
    if as_json:
        values = {**vars(package), "folder": str(package.folder), "files": files}
        output.print_json({"schema": "flowgmm/plugin-new/1", **values})
        return
    output.print_text(f"{package.folder}: {package.kind} `{package.name}`", *(f"  {file}" for file in files))
    output.note(
        f"next: pip install -e {quote(package.folder)} && python -m pytest {quote(package.folder)} && "
        f"flowgmm plugins test {package.package}/{package.name}"
    )


@app.command("test", cls=options.Command)
def run_tests(
    name: Name, overrides: options.Overrides = None, kind: Kind = None, as_json: options.Json = False
) -> None:
    """Test that a component keeps its contract, with the conformance tests; needs no pytest.

    KEY=VALUE sets a parameter of the component, as in a recipe. A failed check ends with exit code 4.

    Examples: flowgmm plugins test my_flow · flowgmm plugins test my_source path=data.csv label=y
    """
    from flowgmm_cli.plugins.registry import registry
    from flowgmm_cli.testing.checks import check_names, run_checks
    from flowgmm_cli.testing.component import suite_for

    entries = _find_entries(name, _check_kind(kind))
    if len(entries) > 1:
        names = [f"--kind {entry.kind} {entry.qualified}" for entry in entries]
        raise PluginError(f"`{name}` is the name of several components", details=names, hint="say which one")
    entry = registry().find(entries[0].kind, entries[0].qualified)
    suite = suite_for(entry, _parse_parameters(entry, overrides or []))
    total = len(check_names(suite))
    results: list[CheckResult] = []
    with output.progress() as progress:
        progress(0, total, "checks")
        for result in run_checks(suite):
            results.append(result)
            progress(len(results), total, "checks", result.check.removeprefix("test_"))
    outcomes = [result.outcome for result in results]
    counts = {outcome: outcomes.count(outcome) for outcome in ("passed", "failed", "skipped")}
    verdict = "failed" if counts["failed"] else "passed"
    if as_json:
        values = {key: getattr(entry, key) for key in ("kind", "name", "package", "version")}
        checks = [result.to_dict() for result in results]
        schema = "flowgmm/plugin-test/1"
        output.print_json({"schema": schema, **values, "verdict": verdict, **counts, "checks": checks})
    else:
        _print_results(f"{entry.kind} {entry.name}   {entry.origin}", results)
        parts = [f"{count} {outcome}" for outcome, count in counts.items() if count]
        output.print_text("", f"{verdict}: {', '.join(parts)}")
    if counts["failed"]:
        output.warn(f"{entry.label} fails {pluralise(counts['failed'], 'check')}")
        raise typer.Exit(PluginError.exit_code)


def _print_results(title: str, results: Sequence[CheckResult]) -> None:
    cells = []
    for result in results:
        subject = f"skipped: {result.problem}" if result.outcome == "skipped" else result.description
        cells.append([result.check.removeprefix("test_"), result.outcome, f"{result.seconds:.2f}", subject])
    columns = ["check", "outcome", "seconds", "subject"]
    output.print_table(columns, cells, right=["seconds"], title=title)
    for result in results:
        if result.outcome == "failed":
            fix = [f"  fix: {result.fix}"] if result.fix else []
            output.print_text("", result.check, *(f"  {line}" for line in result.problem.splitlines()), *fix)


def _parse_parameters(entry: Entry, words: Sequence[str]) -> dict[str, Any]:
    """Read words `key=value` or `key.path=value`; the component validates the values."""
    from flowgmm_cli.recipe.yaml import read_yaml

    parameters: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            hint = f"flowgmm plugins describe {entry.qualified}"
            raise UsageError(f"`{word}` is no parameter of the form KEY=VALUE", hint=hint)
        inner = parameters
        *outer, last = key.split(".")
        for part in outer:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise UsageError(f"`{word}`: {part} has a value already")
        inner[last] = read_yaml(text, word).plain()
    return parameters


def _check_kind(kind: str | None) -> str | None:
    from flowgmm_cli.plugins.entry import SPEC_TYPES

    kinds = [*SPEC_TYPES, "recipe"]
    if kind is not None and kind not in kinds:
        details = [f"kinds: {', '.join(kinds)}"]
        raise UsageError(f"unknown kind `{kind}`{did_you_mean(kind, kinds)}", details=details)
    return kind


def _find_entries(name: str, kind: str | None) -> list[Entry]:
    """Return all entries with a name, of any kind or of one; at least one."""
    from flowgmm_cli.plugins.registry import registry

    known = registry()
    entries = known.entries(kind)
    matches = [entry for entry in entries if name in (entry.name, entry.qualified)]
    if matches:
        return matches
    names = dict.fromkeys(entry.name for entry in entries)
    raise PluginError(
        f"unknown {kind or 'component'} `{name}`{did_you_mean(name, names)}",
        details=known.problems,
        hint="`flowgmm plugins list` shows them all",
    )


def _row(entry: Entry) -> dict[str, Any]:
    from flowgmm_cli.plugins.discovery import distribution_summary

    keys = ("kind", "name", "package", "version", "state", "summary", "problem")
    row = {key: getattr(entry, key) for key in keys}
    if entry.path:
        return {**row, "path": entry.path}
    return {**row, "summary": entry.summary or distribution_summary(entry.package)}


def _describe(entry: Entry) -> dict[str, Any]:
    from flowgmm_cli.plugins.entry import SHARED_CONFIGS
    from flowgmm_cli.recipe.fields import parameters, snippet

    spec, shared = entry.spec(), SHARED_CONFIGS.get(entry.kind)
    rows = parameters(spec.config, shared)
    inherited = set(shared.model_fields) if shared and entry.kind == "data" else set()  # labels, split, ...
    own = [row for row in rows if row.name.split(".")[0] not in inherited]
    same_name = [match for match in _find_entries(entry.name, entry.kind) if match.name == entry.name]
    use = entry.name if len(same_name) == 1 or entry.builtin else entry.qualified
    return {
        **_row(entry),
        "api": spec.api,
        "build": spec.build,
        "docs": spec.docs,
        "parameters": [row.to_dict() for row in rows],
        "recipe": snippet(entry.kind, use, own),
    }


def _default(row: dict[str, Any]) -> str:
    import json

    return "required" if row["required"] else json.dumps(row["default"], ensure_ascii=False).strip('"')
