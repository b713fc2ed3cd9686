"""Write a starter recipe for a table: commented, valid, and ready to train.

The sections on model and training are those of the bundled recipes `csv` and `text`, including comments; the
`data` section comes from the profile of the table, with the reason of each choice.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from flowgmm_cli.data.table_profile import Profile
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.recipe.catalogue import recipe_folder
from flowgmm_cli.recipe.yaml import read_scalar

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[ .-][A-Za-z0-9_]+)*")
_REFERENCE = re.compile(r"\$(\{[^{}]*\})")  # a second `$` makes it plain text
_LINE_WIDTH = 100
_MIN_LABELLED, _MIN_LABELLED_OF_CLASS = 30, 5
_MAX_LISTED = 12  # class names
_UNKNOWN_CLASSES = ["na", "n/a", "nan", "null", "none", "nil", "?", "-", ".", "-1"]
_UNKNOWN_CLASSES += ["unknown", "unlabelled", "unlabeled"]


def render_recipe(profile: Profile, *, path: str, command: str) -> str:
    """Return the text of a recipe for the table in `path`; its head names the command line."""
    texts = [column.name for column in profile.with_role("text")]
    base = _read_bundled("text" if texts else "csv")
    relative = "" if Path(path).is_absolute() else "  # relative to the folder where flowgmm is started"
    lines = [
        *_comment(f"{Path(path).name}: {profile.rows:,} rows, class in the column {profile.label}."),
        "#",
        *_comment(
            f"Written by `{command}` from a profile of the file; change it as needed. "
            "`flowgmm recipes check` validates it, `flowgmm train` trains it."
        ),
        "#",
        *_label_lines(profile),
        "version: 1",
        "data:",
        "  use: csv",
        f"  path: {quote_yaml(path)}{relative}",
        f"  label: {quote_yaml(profile.label)}  # an empty cell is an unlabelled row",
        *(
            f"  id: {quote_yaml(column.name)}  # {to_line(column.reason)}: not an input"
            for column in profile.with_role("id")
        ),
        *(_text_lines(profile, texts) if texts else _input_lines(profile)),
        *_section(base, "  transforms:"),
        *base[base.index("data:") + len(_section(base, "data:")) :],
    ]
    return "\n".join(lines) + "\n"


def profile_warnings(profile: Profile) -> list[str]:
    """Return warnings for the owner of the table, about labels and leaks."""
    warnings = []
    if profile.labelled < _MIN_LABELLED:
        warnings.append(
            f"{profile.labelled:,} labels are few; results are reliable from about {_MIN_LABELLED} on"
        )
    rare = [name for name, rows in profile.classes.items() if rows < _MIN_LABELLED_OF_CLASS]
    if rare:
        listed = ", ".join(rare[:_MAX_LISTED]) + (", ..." if len(rare) > _MAX_LISTED else "")
        warnings.append(
            f"classes with fewer than {_MIN_LABELLED_OF_CLASS} labels, hard to learn and to test: {listed}"
        )
    unknown = [name for name in profile.classes if name.strip().casefold() in _UNKNOWN_CLASSES]
    if unknown:
        warnings.append(f"`{unknown[0]}` counts as a class; if it means unknown, empty these cells")
    if profile.labelled == profile.rows:
        warnings.append("every row has a label; data.labels.count=N shows training N of them only")
    leaks = [column.name for column in profile.columns if "gives the label away" in column.reason]
    if leaks:
        warnings.append(f"left out, since they give the label away: {', '.join(leaks)}")
    return warnings


def quote_yaml(text: str) -> str:
    r"""Return a YAML scalar that is read back as the text; `${` does not begin a reference.

    >>> quote_yaml("colour"), quote_yaml("no"), quote_yaml("true"), quote_yaml("a: b"), quote_yaml("2020")
    ('colour', '"no"', '"true"', '"a: b"', '"2020"')
    >>> quote_yaml("${HOME}")
    '"$${HOME}"'
    """
    # YAML 1.1 booleans are quoted too, for other programs
    plain = _PLAIN.fullmatch(text) and text.lower() not in ("y", "n", "yes", "no", "on", "off", "null")
    if plain and isinstance(read_scalar(text), str):
        return text
    return '"' + "".join(map(_escape, _REFERENCE.sub(r"$$\1", text))) + '"'


def _escape(letter: str) -> str:
    if letter.isprintable():
        return f"\\{letter}" if letter in '"\\' else letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def to_line(text: str, most: int = 60) -> str:
    """Return text for a comment: a single line of printable characters, shortened to `most` characters."""
    line = " ".join(_printable(text).split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _label_lines(profile: Profile) -> list[str]:
    listed = [f"{to_line(name, 40)} ({rows:,})" for name, rows in list(profile.classes.items())[:_MAX_LISTED]]
    rest = len(profile.classes) - len(listed)
    classes = ", ".join(listed) + (f" and {rest:,} more" if rest else "")
    unlabelled = profile.rows - profile.labelled
    text = f"Labels: {profile.labelled:,} rows are labelled, {unlabelled:,} are not. Classes: {classes}."
    notes = [f"Note: {line}." for line in profile_warnings(profile)]
    return [line for part in (text, *notes) for line in _comment(part)]


def _text_lines(profile: Profile, texts: Sequence[str]) -> list[str]:
    names = ", ".join(quote_yaml(name) for name in texts)
    lines = [f"  text: [{names}]  # joined by a line break" if len(texts) > 1 else f"  text: {names}"]
    others = [column for column in profile.with_role("dropped") if column.reason == "the text alone is used"]
    if others:
        listed = ", ".join(quote_yaml(column.name) for column in others[:_MAX_LISTED])
        lines += _comment(f"The text alone is used; `features: [{listed}]` adds other columns.", "  ")
    if profile.english is False:
        encoder = "tfidf_svd, dim: 256}  # the texts do not look English; it learns their words"
    else:
        encoder = "wordllama, dim: 256}  # static word embeddings, about 8,000 texts a second"
    return [*lines, f"  encoder: {{use: {encoder}"]


def _input_lines(profile: Profile) -> list[str]:
    inputs, dropped = profile.with_role("input"), profile.with_role("dropped")
    counts = {
        kind: sum(column.kind == kind for column in inputs) for kind in ("numbers", "categories", "vectors")
    }
    counted = ", ".join(
        f"{count:,} column{'s' if count > 1 else ''} of {kind}" for kind, count in counts.items() if count
    )
    lines = _comment(f"Inputs: {counted or 'none'}; all columns but the label and those dropped.", "  ")
    categorical = [column for column in inputs if column.categorical]
    for key, columns in (
        ("drop:  # remove a line to use the column", dropped),
        ("categorical:", categorical),
    ):
        if columns:
            lines.append(f"  {key}")
            lines += [f"    - {quote_yaml(item.name)}  # {to_line(item.reason, 90)}" for item in columns]
    numeric = [column for column in inputs if column.kind == "numbers"]
    incomplete = [column for column in numeric if column.missing]
    if incomplete:
        listed = ", ".join(
            f"{to_line(column.name, 30)} {100 * column.missing / max(profile.rows, 1):.0f} %"
            for column in incomplete[:6]
        )
        more = f" and {len(incomplete) - 6:,} more columns" if len(incomplete) > 6 else ""
        lines += _comment(f"Empty cells take the median of their column: {listed}{more}.", "  ")
        lines.append("  missing: median")
    codes = [to_line(column.name, 30) for column in numeric if 2 < column.distinct <= 10]
    if codes:
        lines += _comment(
            f"Numbers with few different values ({', '.join(codes[:6])}): if they are codes and not amounts, "
            "list them under `categorical:`.",
            "  ",
        )
    return lines


def _comment(text: str, indent: str = "") -> list[str]:
    width = _LINE_WIDTH - len(indent)
    wrapped = textwrap.wrap(_printable(text), width, break_long_words=False, break_on_hyphens=False)
    return [f"{indent}# {part}" for part in wrapped]


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _read_bundled(name: str) -> list[str]:
    folder = recipe_folder()
    if folder is None:
        raise RecipeError("the bundled recipes are missing", hint="install flowgmm-cli again")
    return (folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines()


def _section(lines: Sequence[str], key: str) -> list[str]:
    """Return the lines of a recipe from a key to the next key at the left margin."""
    start = next(index for index, line in enumerate(lines) if line.startswith(key))
    end = next(index for index in range(start + 1, len(lines)) if re.match(r"\w", lines[index]))
    return list(lines[start:end])
