"""Pages of the site that are generated: the command line from the commands, the keys from the schema.

Formulas become MathML, which browsers show without a script.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import typer
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from flowgmm_cli.cli.app import app
from flowgmm_cli.plugins.entry import SHARED_CONFIGS
from flowgmm_cli.plugins.registry import registry
from flowgmm_cli.recipe.fields import Parameter, inner_model, parameters
from flowgmm_cli.recipe.schema import RecipeModel

_FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\w\\`$])\$(?! )([^$\n]+?)(?<! )\$(?!\w)", re.S)
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.S | re.M)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {"reference/commands.md": _commands_page(), "reference/recipe.md": _recipe_page()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace formulas outside of code."""
    parts = _CODE.split(markdown)
    return "".join(part if _CODE.fullmatch(part) else _FORMULA.sub(_mathml, part) for part in parts)


def _mathml(match: re.Match[str]) -> str:
    if match[1] is None:
        return f"<span>{convert(match[2])}</span>"  # a line that began with <math> would be a paragraph
    return f'<div style="overflow-x: auto">{convert(match[1], display="block")}</div>'


def _commands_page() -> str:
    group: Any = typer.main.get_command(app)
    parts = ["# Command line", "Every command, with its arguments and options, as `--help` shows them."]
    for name, placeholder in group.commands.items():
        parts += _command(f"flowgmm {name}", placeholder.load(), level=2)
    return "\n\n".join(parts) + "\n"


def _command(path: str, command: Any, level: int) -> Iterable[str]:
    context = typer.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"{'#' * level} `{path}`"
    yield from _help(command.help)
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from _command(f"{path} {name}", child, level + 1)
        return
    yield f"```text\n{path} {usage}\n```"
    records = [param.get_help_record(context) for param in command.get_params(context)]
    rows = [(f"`{names.strip()}`", _cell(help or "")) for names, help in filter(None, records)]
    yield _table(("option", "meaning"), rows)


def _recipe_page() -> str:
    parts = ["# Recipe keys", "The keys of a recipe in their order, with defaults and limits."]
    for name, field in RecipeModel.model_fields.items():
        parts += [f"## `{name}`", f"{_capital(field.description or '')}."]
        kind = (field.json_schema_extra or {}).get("component") if field.json_schema_extra else None  # type: ignore[union-attr]
        if kind is not None:
            for entry in registry().entries(str(kind)):
                if entry.builtin:
                    spec = entry.spec()
                    rows = parameters(spec.config, SHARED_CONFIGS.get(entry.kind))
                    parts += [f"### `{name}: {{use: {entry.name}}}`", f"{spec.summary}.", _parameters(rows)]
        elif (model := inner_model(field)) is not None:
            parts.append(_parameters(parameters(model)))
    return "\n\n".join(parts) + "\n"


def _parameters(rows: Iterable[Parameter]) -> str:
    cells = [
        (
            f"`{row['name']}`",
            "required" if row["required"] else f"`{json.dumps(row['default'], ensure_ascii=False)}`",
            _cell(row["expected"]),
            _cell(row["description"]),
        )
        for row in (parameter.to_dict() for parameter in rows)
    ]
    return _table(("key", "default", "value", "meaning"), cells) if cells else "No parameters."


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return _text(text).replace("|", r"\|").replace("\n", " ")


def _text(text: str) -> str:
    """Escape plain text outside of code."""
    escapes = {"<": "&lt;", ">": "&gt;", "$": "&#36;", "*": r"\*", "_": r"\_", "[": r"\[", "]": r"\]"}
    table = str.maketrans(escapes)
    parts = _CODE.split(text.strip())
    return "".join(part if _CODE.fullmatch(part) else part.translate(table) for part in parts)


def _help(text: str) -> Iterable[str]:
    """Yield the paragraphs of a help text, and its examples as code."""
    for paragraph in text.split("\n\n"):
        head, _, examples = paragraph.partition("Examples:")
        if head.strip():
            yield _text(head)
        if examples:
            lines = re.split(r"\s*·\s*|\n", examples.strip())
            yield "```sh\n" + "\n".join(line.strip() for line in lines) + "\n```"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
