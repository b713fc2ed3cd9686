"""Overrides: the words `key.path=value` and `key.path!` after the recipe, and the changes of an overlay.

A value is read as in the file. The order of the words does not matter: keys are set level by level from the
top, `use` before the other keys of its level, since it chooses the component whose parameters they are.
Removals come last, from the bottom and from the end of lists, so that list positions are those of the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowgmm_cli.errors import RecipeError, did_you_mean
from flowgmm_cli.plugins.entry import SHARED_CONFIGS
from flowgmm_cli.recipe.layout import Layout
from flowgmm_cli.recipe.node import DEFAULT, Mark, Node, Path, format_path, make_node, parse_index
from flowgmm_cli.recipe.yaml import read_scalar, read_yaml

_FORM = "an override is `key.path=value`, or `key.path!` to remove a key; for example train.epochs=5"


@dataclass(frozen=True)
class Override:
    """One change.

    Attributes:
        word: the word on the command line, or the key in the overlay.
        path: the key it sets.
        value: the new value; None to remove the key.
        mark: the place of the change.
        merges: a mapping without `use` changes the keys it has and leaves the others of its section.
    """

    word: str
    path: Path
    value: Node | None
    mark: Mark = DEFAULT
    merges: bool = False


Failures = list[tuple[Override, RecipeError]]


# --- reading ----------------------------------------------------------------------------------------------


def parse_override(word: str) -> Override:
    """Read a word of the command line."""
    key, equals, text = word.partition("=")
    removes = not equals and key.endswith("!")
    path = _split_key(key[:-1] if removes else key)
    if path is None or not (equals or removes):
        raise RecipeError(f"cannot read the override `{word}`", hint=_FORM)
    value = None if removes else _read_value(word, text.strip())
    return Override(word, path, value, Mark(word=word))


def _split_key(key: str) -> Path | None:
    """Split a key at its dots; None if a part is empty."""
    parts = key.strip().split(".")
    return tuple(parts) if all(parts) else None


def _read_value(word: str, text: str) -> Node:
    mark = Mark(word=word)
    if text[:1] not in ("'", '"', "[", "{"):
        return Node(read_scalar(text), mark, raw=text)
    try:
        return read_yaml(text, "value").copy(mark)
    except RecipeError as error:
        reason = error.message.partition("  ")[2] or error.message
        raise RecipeError(f"cannot read the value of `{word}`: {reason}", hint=_FORM) from error


def parse_overlay_entry(key: str, value: Node, section: Path = ()) -> Override:
    """Read an entry of an overlay: `key.path: value`, or `key.path!:` to remove a key."""
    path = format_path((*section, key))
    parts = key.removesuffix("!").split(".")
    if not all(part.strip() for part in parts):
        raise RecipeError(f"cannot read the key `{key}`; a key is `section.key`, such as train.epochs")
    if not key.endswith("!"):
        return Override(path, (*section, *parts), value, value.mark, merges=True)
    if value.value is not None:
        raise RecipeError(f"`{path}` removes a key, so it takes no value")
    return Override(path, (*section, *parts), None, value.mark, merges=True)


def make_overrides(values: Mapping[str, Any]) -> list[Override]:
    """Make overrides of Python values by `key.path`; they act like words of the command line."""
    overrides = []
    for key, value in values.items():
        text = json.dumps(value, ensure_ascii=False)
        word, path = f"{key}={text}", _split_key(key)
        if path is None:
            raise RecipeError(f"cannot read the override `{word}`", hint=_FORM)
        node = make_node(value, Mark(word=word))
        node.raw = None if isinstance(value, str | list | tuple | Mapping) else text
        overrides.append(Override(word, path, node, node.mark))
    return overrides


# --- applying ---------------------------------------------------------------------------------------------


def apply_overrides(root: Node, words: Sequence[str | Override], layout: Layout) -> list[str]:
    """Apply overrides, in any order, to a tree, in place; return notes for the user, one line each.

    Of two that set the same key the later one wins. One `RecipeError` names all that cannot be applied.
    """
    overrides: list[Override] = []
    problems: list[RecipeError] = []
    for word in words:
        try:
            overrides.append(parse_override(word) if isinstance(word, str) else word)
        except RecipeError as error:
            problems.append(error)
    notes, failures = apply_changes(root, overrides, layout)
    problems += [error for _, error in failures]
    if len(problems) == 1:
        raise problems[0]
    if problems:
        details = [": ".join([error.message, *error.details]) for error in problems]
        raise RecipeError(f"the command line has {len(problems)} problems", details=details, hint=_FORM)
    return notes


def apply_changes(root: Node, changes: Sequence[Override], layout: Layout) -> tuple[list[str], Failures]:
    """Apply changes to a tree, in place; return notes for the user, and the changes that failed."""
    notes: list[str] = []
    failures: Failures = []
    lines: dict[Path, int] = {}
    sets = [change for change in changes if change.value is not None]
    removals = [change for change in changes if change.value is None]
    while sets:
        depth = min(len(change.path) for change in sets)
        level = [change for change in sets if len(change.path) == depth]
        sets = [change for change in sets if len(change.path) > depth]
        for change in sorted(level, key=lambda change: change.path[-1] != "use"):
            try:
                entries = _expand(root, change, layout)
                if entries is None:
                    _refuse_second(change, lines)
                    _set(root, change, layout, notes)
                    continue
                sets += [entry for entry in entries if entry.value is not None]
                removals += [entry for entry in entries if entry.value is None]
            except RecipeError as error:
                failures.append((change, error))
    for change in sorted(removals, key=_removal_order):
        try:
            _refuse_second(change, lines)
            _remove(root, change, layout)
        except RecipeError as error:
            failures.append((change, error))
    return notes, failures


def _expand(root: Node, change: Override, layout: Layout) -> list[Override] | None:
    """Return the single changes in a mapping that merges; None for a change of one value."""
    value = change.value.value if change.value is not None else None
    if not change.merges or not isinstance(value, dict) or "use" in value or not layout.has_keys(change.path):
        return None
    _descend(root, change.path, change, layout)
    return [parse_overlay_entry(key, child, change.path) for key, child in value.items()]


def _removal_order(change: Override) -> tuple[int, tuple[int, ...]]:
    return -len(change.path), tuple(-(parse_index(key) or 0) for key in change.path)


def _refuse_second(change: Override, lines: dict[Path, int]) -> None:
    """Raise `RecipeError` if an overlay gives a key twice."""
    if change.merges and change.path in lines:
        path = format_path(change.path)
        raise RecipeError(f"`{path}` is given twice; the first is at line {lines[change.path]}")
    lines[change.path] = change.mark.line


def _set(root: Node, change: Override, layout: Layout, notes: list[str]) -> None:
    *parents, last = change.path
    value = change.value
    if value is None:
        return
    holder = _descend(root, tuple(parents), change, layout)
    if last == "use":
        _drop_parameters(holder, tuple(parents), value, layout, notes)
    value.replaced = holder.child(last)
    _put(holder, last, value, change, tuple(parents))


def _put(holder: Node, key: str | int, value: Node, change: Override, path: Path) -> None:
    """Set an entry of the mapping or list at `path`; a list can grow by one."""
    if isinstance(holder.value, dict):
        holder.value[str(key)] = value
        return
    if not isinstance(holder.value, list):
        message = f"`{change.word}`: `{format_path(path)}` holds a single value, so it has no keys of its own"
        raise RecipeError(message)
    index = parse_index(key)
    if index is None or index > len(holder.value):
        raise _no_such_item(change, path, len(holder.value))
    holder.value[index : index + 1] = [value]


def _drop_parameters(holder: Node, path: Path, new: Node, layout: Layout, notes: list[str]) -> None:
    """Remove the old component's parameters when another component is chosen."""
    kind = layout.kind_at(path)
    old = holder.child("use")
    if kind is None or old is None or old.value == new.value or not isinstance(holder.value, dict):
        return
    shared = SHARED_CONFIGS.get(kind)
    dropped = [key for key in holder.value if key != "use" and not (shared and key in shared.model_fields)]
    for key in dropped:
        del holder.value[key]
    if dropped:
        state = f"{format_path(path)} is now {new.value}"
        notes.append(f"{state}: dropped {', '.join(dropped)}, set in the recipe for {old.value}")


def _remove(root: Node, change: Override, layout: Layout) -> None:
    *parents, last = change.path
    holder = _descend(root, tuple(parents), change, layout)
    if isinstance(holder.value, list):
        index = parse_index(last)
        if index is None or index >= len(holder.value):
            raise _no_such_item(change, tuple(parents), len(holder.value))
        del holder.value[index]
        return
    entries = holder.value if isinstance(holder.value, dict) else {}
    if last not in entries:
        guess = did_you_mean(str(last), list(entries))
        raise RecipeError(f"`{change.word}` removes a key that the recipe does not have{guess}")
    del entries[str(last)]


def _descend(root: Node, path: Path, change: Override, layout: Layout) -> Node:
    """Return the node at `path`; write defaults and missing mappings on the way."""
    node = root
    for depth, key in enumerate(path):
        layout.write_default(path[: depth + 1])
        below = node.child(key)
        if below is None or below.value is None:
            below = Node({}, change.mark)
            _put(node, key, below, change, path[:depth])
        node = below
    return node


def _no_such_item(change: Override, path: Path, length: int) -> RecipeError:
    items = f"its items are 0 to {length - 1}" if length else "it is empty"
    return RecipeError(f"`{change.word}` names no item of the list `{format_path(path)}`; {items}")
