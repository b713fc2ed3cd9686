"""A recipe for a table nobody has written one for: commented, valid, and ready to train.

The sections on model and training are those of the bundled recipes `csv` and `text`, comments included; what
comes from the look at the table is the `data` section, with the reason of each choice beside it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from flowgmm_cli.data.table_profile import ColumnProfile, Profile
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.recipe.catalogue import recipe_folder
from flowgmm_cli.recipe.yaml import read_scalar

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[ .-][A-Za-z0-9_]+)*")
_REFERENCE = re.compile(r"\$(\{[^{}]*\})")  # one more `$` before it makes it plain text
_WIDTH = 100
_FEW_LABELS, _FEW_OF_A_CLASS = 30, 5
_SHOWN = 12  # classes listed by name
_UNKNOWN = {
    "na",
    "n/a",
    "nan",
    "null",
    "none",
    "nil",
    "?",
    "-",
    ".",
    "unknown",
    "unlabelled",
    "unlabeled",
    "-1",
}


def starter_recipe(found: Profile, *, path: str, command: str) -> str:
    """The recipe as text.

    Args:
        found: what the table is like.
        path: the file, as the recipe is to name it.
        command: what was typed, for the head of the recipe.
    """
    texts = [one.name for one in found.with_role("text")]
    base = _bundled("text" if texts else "csv")
    lines = [
        *_comment(f"{Path(path).name}: {found.rows:,} rows, class in the column {found.label}.", ""),
        "#",
        *_comment(
            f"Written by `{command}` from a look at the file; change what is not right. "
            "`flowgmm recipes check` says whether it is still valid, `flowgmm train` trains it.",
            "",
        ),
        "#",
        *_labels(found),
        "version: 1",
        "data:",
        "  use: csv",
        f"  path: {quoted(path)}"
        + ("" if Path(path).is_absolute() else "  # seen from where flowgmm is started"),
        f"  label: {quoted(found.label)}  # an empty cell is an unlabelled row",
        *_id(found),
        *(_text(found, texts) if texts else _inputs(found)),
        *_section(base, "transforms"),
        *_rest(base),
    ]
    return "\n".join(lines) + "\n"


def warnings(found: Profile) -> list[str]:
    """What the owner of the table should know before training, one line each."""
    said = []
    if found.labelled < _FEW_LABELS:
        said.append(
            f"{found.labelled:,} labels are few; from about {_FEW_LABELS} on results can be relied on"
        )
    rare = [name for name, rows in found.classes.items() if rows < _FEW_OF_A_CLASS]
    if rare:
        shown = ", ".join(rare[:_SHOWN]) + (", ..." if len(rare) > _SHOWN else "")
        said.append(f"classes with fewer than {_FEW_OF_A_CLASS} labels, hard to learn and to test: {shown}")
    odd = [name for name in found.classes if name.strip().casefold() in _UNKNOWN]
    if odd:
        said.append(f"`{odd[0]}` is taken for a class; if it means that nobody knows, empty these cells")
    if found.labelled == found.rows:
        said.append("every row has a label; data.labels.count=N shows training N of them only")
    given_away = [one.name for one in found.columns if "gives the label away" in one.reason]
    if given_away:
        said.append(f"left out, since they give the label away: {', '.join(given_away)}")
    return said


def quoted(text: str) -> str:
    r"""Text as a YAML scalar that is read back as this very text; `${` does not begin a reference.

    >>> quoted("colour"), quoted("no"), quoted("true"), quoted("a: b"), quoted("2020")
    ('colour', '"no"', '"true"', '"a: b"', '"2020"')
    >>> quoted("${HOME}")
    '"$${HOME}"'
    """
    # what YAML 1.1 reads as a boolean is quoted too, for other programs
    plain = _PLAIN.fullmatch(text) and text.lower() not in ("y", "n", "yes", "no", "on", "off", "null")
    if plain and isinstance(read_scalar(text), str):
        return text
    return '"' + "".join(map(_escaped, _REFERENCE.sub(r"$$\1", text))) + '"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    code = ord(letter)
    if letter.isprintable() and not 0xD800 <= code <= 0xDFFF:
        return letter
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown(text: str, most: int = 60) -> str:
    """Text within a comment: on one line, without what cannot be printed, and not too long."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(line.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _labels(found: Profile) -> list[str]:
    listed = [f"{shown(name, 40)} ({rows:,})" for name, rows in list(found.classes.items())[:_SHOWN]]
    rest = len(found.classes) - len(listed)
    classes = ", ".join(listed) + (f" and {rest:,} more" if rest else "")
    unlabelled = found.rows - found.labelled
    text = f"Labels: {found.labelled:,} rows are labelled, {unlabelled:,} are not. Classes: {classes}."
    lines = _comment(text, "")
    for line in warnings(found):
        lines += _comment(f"Note: {line}.", "")
    return lines


def _id(found: Profile) -> list[str]:
    return [f"  id: {quoted(one.name)}  # {shown(one.reason)}: no input" for one in found.with_role("id")]


def _text(found: Profile, texts: Sequence[str]) -> list[str]:
    names = ", ".join(quoted(name) for name in texts)
    lines = [f"  text: [{names}]  # joined by a line break" if len(texts) > 1 else f"  text: {names}"]
    others = [one for one in found.with_role("dropped") if one.reason == "the text alone is used"]
    if others:
        listed = ", ".join(quoted(one.name) for one in others[:_SHOWN])
        lines += _comment(f"The text alone is used; `features: [{listed}]` adds other columns.", "  ")
    if found.english is False:
        lines += [
            "  encoder: {use: tfidf_svd, dim: 256}  # the texts do not look English; it learns their words",
        ]
    else:
        lines += [
            "  encoder: {use: wordllama, dim: 256}  # static word embeddings, about 8,000 texts a second"
        ]
    return lines


def _inputs(found: Profile) -> list[str]:
    inputs, dropped = found.with_role("input"), found.with_role("dropped")
    kinds = {kind: sum(one.kind == kind for one in inputs) for kind in ("numbers", "categories", "vectors")}
    counted = ", ".join(
        f"{number:,} column{'s' if number > 1 else ''} of {kind}" for kind, number in kinds.items() if number
    )
    lines = _comment(f"Inputs: {counted or 'none'}; all columns but the label and those dropped.", "  ")
    if dropped:
        lines.append("  drop:  # take a line out to use the column after all")
        lines += [f"    - {quoted(one.name)}  # {shown(one.reason, 90)}" for one in dropped]
    categorical = [one for one in inputs if one.categorical]
    if categorical:
        lines.append("  categorical:")
        lines += [f"    - {quoted(one.name)}  # {shown(one.reason, 90)}" for one in categorical]
    gaps = [one for one in inputs if one.missing and one.kind == "numbers"]
    if gaps:
        listed = ", ".join(f"{shown(one.name, 30)} {_share(one, found.rows)}" for one in gaps[:6])
        more = f" and {len(gaps) - 6:,} more columns" if len(gaps) > 6 else ""
        lines += _comment(f"Empty cells take the median of their column: {listed}{more}.", "  ")
        lines.append("  missing: median")
    codes = [one for one in inputs if one.kind == "numbers" and 2 < one.distinct <= 10]
    if codes:
        listed = ", ".join(shown(one.name, 30) for one in codes[:6])
        lines += _comment(
            f"Numbers with few different values ({listed}): if they are codes and not amounts, list them "
            "under `categorical:`.",
            "  ",
        )
    return lines


def _share(one: ColumnProfile, rows: int) -> str:
    return f"{100 * one.missing / max(rows, 1):.0f} %"


def _comment(text: str, indent: str) -> list[str]:
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    wrapped = textwrap.wrap(line, _WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
    return [f"{indent}# {part}" for part in wrapped]


def _bundled(name: str) -> list[str]:
    folder = recipe_folder()
    if folder is None:
        raise RecipeError("the bundled recipes are not there", hint="install flowgmm-cli again")
    return (folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines()


def _section(lines: Sequence[str], key: str) -> list[str]:
    """What a bundled recipe's `data` section says from `key` on."""
    start = next(place for place, line in enumerate(lines) if line.startswith(f"  {key}:"))
    stop = next(place for place in range(start, len(lines)) if re.match(r"\w", lines[place]))
    return list(lines[start:stop])


def _rest(lines: Sequence[str]) -> list[str]:
    """The sections after `data`."""
    start = next(place for place, line in enumerate(lines) if line.startswith("data:")) + 1
    return list(lines[next(place for place in range(start, len(lines)) if re.match(r"\w", lines[place])) :])
