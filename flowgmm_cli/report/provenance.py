"""Sections on how to repeat the run: settings, versions, where every component comes from."""

from __future__ import annotations

import shlex
from typing import Any

from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.page import Code, Part, Prose, Table


def settings(found: ReportContext) -> list[Part]:
    """The recipe and the words on the command line."""
    info = found.info
    argv = [str(word) for word in info.get("argv") or ()]
    overrides = [str(word) for word in info.get("overrides") or ()]
    parts: list[Part] = []
    if argv and argv[0] == "train":
        parts.append(Prose(f"Trained with: flowgmm {shlex.join(argv)}"))
    overlays = [str(name) for name in info.get("overlays") or ()]
    if overlays:
        parts.append(Prose(f"Overlays of the recipe that were applied: {', '.join(overlays)}", "note"))
    if overrides:
        parts.append(Prose(f"Changes to the recipe on the command line: {shlex.join(overrides)}", "note"))
    recipe = found.run.path / "recipe.yaml"
    if recipe.is_file():
        text = recipe.read_text(encoding="utf-8", errors="replace")
        parts.append(Code(text, "the recipe as it was given"))
    parts.append(Code(found.recipe.to_yaml(), "every setting, defaults included"))
    return parts


def versions(found: ReportContext) -> list[Part]:
    """When, where and with what the run was made."""
    info = found.info
    facts: list[list[Any]] = [
        ["run", found.run.path],
        ["begun", str(info.get("created", ""))[:19].replace("T", " ") + " UTC"],
        ["duration", f"{float(info.get('seconds') or 0):.0f} s"],
        ["status", found.status],
        ["seed", info.get("seed")],
        ["device", info.get("device")],
        ["precision", info.get("precision")],
        ["epochs", info.get("epochs")],
        ["optimiser steps", info.get("steps")],
        ["fingerprint of the data", info.get("fingerprint")],
    ]
    packages = [[name, version] for name, version in (info.get("versions") or {}).items()]
    seen: list[list[Any]] = []
    for one in info.get("components") or ():
        row = [one.get("kind"), one.get("name"), one.get("package"), one.get("version")]
        if row not in seen:
            seen.append(row)
    return [
        Table(["what", "value"], [row for row in facts if row[1] is not None]),
        Table(["package", "version"], packages, folded="versions of packages"),
        Table(["kind", "component", "package", "version"], seen, folded="where each component comes from"),
    ]
