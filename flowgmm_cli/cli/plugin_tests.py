"""Run the conformance tests of `flowgmm plugins test` and print their verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flowgmm_cli.cli import output
from flowgmm_cli.errors import UsageError

if TYPE_CHECKING:
    from flowgmm_cli.plugins.entry import Entry
    from flowgmm_cli.testing import CheckResult

SCHEMA = "flowgmm/plugin-test/1"
_OUTCOMES = ("passed", "failed", "skipped")


def run_tests(entry: Entry, words: Sequence[str], *, as_json: bool) -> int:
    """Check a component with parameters `KEY=VALUE`, print the verdict and return the number of failures."""
    from flowgmm_cli.testing.checks import check_names, run_checks
    from flowgmm_cli.testing.component import suite_for

    suite = suite_for(entry, _parse_parameters(entry, words))
    total = len(check_names(suite))
    results: list[CheckResult] = []
    with output.progress() as progress:
        progress(0, total, "checks")
        for result in run_checks(suite):
            results.append(result)
            progress(len(results), total, "checks", result.check.removeprefix("test_"))
    counts = {outcome: sum(result.outcome == outcome for result in results) for outcome in _OUTCOMES}
    verdict = "failed" if counts["failed"] else "passed"
    if as_json:
        values = {key: getattr(entry, key) for key in ("kind", "name", "package", "version")}
        checks = [result.to_dict() for result in results]
        output.print_json({"schema": SCHEMA, **values, "verdict": verdict, **counts, "checks": checks})
        return counts["failed"]
    output.print_table(
        ["check", "outcome", "seconds", "subject"],
        [
            [result.check.removeprefix("test_"), result.outcome, f"{result.seconds:.2f}", _subject(result)]
            for result in results
        ],
        right=["seconds"],
        title=f"{entry.kind} {entry.name}   {entry.origin}",
    )
    for result in results:
        if result.outcome == "failed":
            fix = f"\n  fix: {result.fix}" if result.fix else ""
            output.print_text(f"\n{result.check}\n  {result.problem}{fix}")
    parts = [f"{counts[outcome]} {outcome}" for outcome in _OUTCOMES if counts[outcome]]
    output.print_text(f"\n{verdict}: {', '.join(parts)}")
    return counts["failed"]


def _subject(result: CheckResult) -> str:
    return f"skipped: {result.problem}" if result.outcome == "skipped" else result.description


def _parse_parameters(entry: Entry, words: Sequence[str]) -> dict[str, Any]:
    """Read words `key=value` or `key.path=value`; the component validates the values."""
    from flowgmm_cli.recipe.yaml import read_yaml

    parameters: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(
                f"`{word}` is no parameter of the form KEY=VALUE",
                hint=f"flowgmm plugins describe {entry.qualified}",
            )
        inner = parameters
        *outer, last = key.split(".")
        for part in outer:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise UsageError(f"`{word}`: {part} has a value already")
        inner[last] = read_yaml(text, word).plain()
    return parameters
