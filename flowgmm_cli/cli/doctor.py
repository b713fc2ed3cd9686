"""`flowgmm doctor`: what this machine offers, and what is wrong with it."""

from __future__ import annotations

from typing import Annotated

import typer

from flowgmm_cli.cli.options import Json, Quiet, Verbose


def doctor(
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 7 if there is a problem.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Report versions, devices, folders and plugin problems, to read or to paste into an issue."""
    from flowgmm_cli.cli import console
    from flowgmm_cli.doctor import examine
    from flowgmm_cli.errors import GateError

    found = examine()
    if as_json:
        console.print_json({"schema": "flowgmm/doctor/1", **found.to_dict()})
    else:
        console.print_table(["what", "found"], list(found.facts.items()))
        if found.problems:
            console.print_text("")
            console.print_table(["problem"], [[problem] for problem in found.problems])
        else:
            console.note("no problems")
    if strict and found.problems:
        count = "1 problem" if len(found.problems) == 1 else f"{len(found.problems)} problems"
        raise GateError(count, details=found.problems)
