"""Carries out the conformance kit for `flowgmm plugins test` and shows its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowgmm_cli.plugins.entry import Entry
    from flowgmm_cli.testing import CheckResult

SCHEMA = "flowgmm/plugin-test/1"


def carry_out(entry: Entry, words: Sequence[str], *, as_json: bool) -> int:
    """Check a component and print the verdict; return the number of checks that failed."""
    from flowgmm_cli.cli import console
    from flowgmm_cli.testing.check import check_names, run_checks
    from flowgmm_cli.testing.suites import suite_for

    suite = suite_for(entry, _config(entry, words))
    total = len(check_names(suite))
    results: list[CheckResult] = []
    with console.progress() as progress:
        progress(0, total, "checks")
        for result in run_checks(suite):
            results.append(result)
            progress(len(results), total, "checks", result.check.removeprefix("test_"))
    counts = {outcome: sum(one.outcome == outcome for one in results) for outcome in _OUTCOMES}
    verdict = "failed" if counts["failed"] else "passed"
    if as_json:
        console.print_json(
            {
                "schema": SCHEMA,
                "kind": entry.kind,
                "name": entry.name,
                "package": entry.package,
                "version": entry.version,
                "verdict": verdict,
                **counts,
                "checks": [one.to_dict() for one in results],
            }
        )
        return counts["failed"]
    console.print_table(
        ["check", "outcome", "seconds", "what"],
        [
            [one.check.removeprefix("test_"), one.outcome, f"{one.seconds:.2f}", _words(one)]
            for one in results
        ],
        right=["seconds"],
        title=f"{entry.kind} {entry.name}   {entry.origin}",
    )
    for one in results:
        if one.outcome == "failed":
            console.print_text(f"\n{one.check}\n  {one.found}" + (f"\n  fix: {one.fix}" if one.fix else ""))
    parts = [f"{counts[outcome]} {outcome}" for outcome in _OUTCOMES if counts[outcome]]
    console.print_text(f"\n{verdict}: {', '.join(parts)}")
    return counts["failed"]


_OUTCOMES = ("passed", "failed", "skipped")


def _words(result: CheckResult) -> str:
    return f"skipped: {result.found}" if result.outcome == "skipped" else result.about


def _config(entry: Entry, words: Sequence[str]) -> dict[str, Any]:
    """Parameters from words `key=value` or `key.path=value`; they are validated with the component."""
    from flowgmm_cli.errors import UsageError
    from flowgmm_cli.recipe.yaml import read_yaml

    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(
                f"`{word}` is no parameter of the form KEY=VALUE",
                hint=f"flowgmm plugins describe {entry.qualified}",
            )
        inner = found
        *outer, last = key.split(".")
        for part in outer:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise UsageError(f"`{word}`: {part} has a value already")
        inner[last] = read_yaml(text, word).plain()
    return found
