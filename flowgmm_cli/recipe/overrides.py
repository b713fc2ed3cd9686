"""Overrides: the words `key.path=value` and `key.path!` after the recipe, and the changes of an overlay.

A value is read like a value in the file. The order of the words never matters: `use` goes before the
parameters of the component it chooses, and removals come last, so list positions are those of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowgmm_cli.errors import RecipeError, did_you_mean
from flowgmm_cli.plugins.entry import SHARED_CONFIGS
from flowgmm_cli.recipe.layout import Layout
from flowgmm_cli.recipe.node import DEFAULT, Mark, Node, Path, as_index, dotted
from flowgmm_cli.recipe.yaml import read_scalar, read_yaml

_FORM = "an override is `key.path=value`, or `key.path!` to remove a key; for example train.epochs=5"


@dataclass(frozen=True)
class Override:
    """One change.

    Attributes:
        word: as given.
        path: the key it sets.
        value: what it sets it to; None to remove it.
        mark: where it was given.
        merges: a mapping without `use` changes the keys it has and leaves the others of its section.
    """

    word: str
    path: Path
    value: Node | None
    mark: Mark = DEFAULT
    merges: bool = False


def parse_override(word: str) -> Override:
    """Read one word.

    Raises:
        RecipeError: it has neither `=` nor a final `!`, an empty key, or a value that is not YAML.
    """
    key, equals, text = word.partition("=")
    remove = not equals and key.endswith("!")
    key = key.removesuffix("!") if remove else key
    parts = key.strip().split(".")
    if not (equals or remove) or not all(parts):
        raise RecipeError(f"cannot read the override `{word}`", hint=_FORM)
    value = None if remove else _read_value(word, text.strip())
    return Override(word, tuple(parts), value, Mark(word=word))


def apply_overrides(root: Node, words: Sequence[str], layout: Layout) -> list[str]:
    """Apply words to a tree, in place.

    Args:
        root: the recipe's mapping.
        words: the words, in any order; of two that set the same key the later one wins.
        layout: knows which keys hold components and what their defaults are.

    Returns:
        Notes for the user, one line each.

    Raises:
        RecipeError: one or more words cannot be applied; all of them are named.
    """
    overrides: list[Override] = []
    problems: list[RecipeError] = []
    for word in words:
        try:
            overrides.append(parse_override(word))
        except RecipeError as error:
            problems.append(error)
    notes, failed = apply_changes(root, overrides, layout)
    problems += [error for _, error in failed]
    if len(problems) == 1:
        raise problems[0]
    if problems:
        details = [": ".join([error.message, *error.details]) for error in problems]
        raise RecipeError(f"the command line has {len(problems)} problems", details=details, hint=_FORM)
    return notes


def apply_changes(
    root: Node, changes: Sequence[Override], layout: Layout
) -> tuple[list[str], list[tuple[Override, RecipeError]]]:
    """Apply changes to a tree, in place and as far as they can be: notes for the user, and what cannot."""
    notes: list[str] = []
    failed: list[tuple[Override, RecipeError]] = []
    merged: dict[Path, Override] = {}
    left = sorted(changes, key=_rank)
    while left:
        change = left.pop(0)
        try:
            parts = _parts(change, layout)
            if parts is not None:
                _descend(root, change.path, change, layout)
                left = sorted([*left, *parts], key=_rank)
                continue
            if change.merges and change.path in merged:
                line = merged[change.path].mark.line
                raise RecipeError(f"`{dotted(change.path)}` is given twice; the first is at line {line}")
            merged[change.path] = change
            if change.value is None:
                _remove(root, change, layout)
            else:
                _set(root, change, layout, notes)
        except RecipeError as error:
            failed.append((change, error))
    return notes, failed


def change_of(key: str, value: Node, above: Path = ()) -> Override:
    """The change that an entry of an overlay stands for: `key.path: value`, or `key.path!:` to remove a key.

    Raises:
        RecipeError: the key has an empty part, or removes and has a value.
    """
    path = dotted((*above, key))
    parts = key.removesuffix("!").split(".")
    if not all(part.strip() for part in parts):
        raise RecipeError(f"cannot read the key `{key}`; a key is `section.key`, such as train.epochs")
    if not key.endswith("!"):
        return Override(path, (*above, *parts), value, value.mark, merges=True)
    if value.value is not None:
        raise RecipeError(f"`{path}` removes a key, so it takes no value")
    return Override(path, (*above, *parts), None, value.mark, merges=True)


def _parts(change: Override, layout: Layout) -> list[Override] | None:
    """The single changes in a mapping that merges; None if the change is a single one itself."""
    value = change.value.value if change.value is not None else None
    if not change.merges or not isinstance(value, dict) or "use" in value or not layout.has_keys(change.path):
        return None
    return [change_of(key, child, change.path) for key, child in value.items()]


def _rank(override: Override) -> tuple[bool, int, bool, tuple[int, ...]]:
    """Shallow before deep, `use` before its parameters; removals last, deep first, from the end of lists."""
    removes = override.value is None
    places = tuple(-(as_index(key) or 0) for key in override.path) if removes else ()
    depth = len(override.path)
    return removes, -depth if removes else depth, override.path[-1] != "use", places


def _set(root: Node, override: Override, layout: Layout, notes: list[str]) -> None:
    *parents, last = override.path
    value = override.value
    if value is None:
        return
    holder = _descend(root, tuple(parents), override, layout)
    if last == "use":
        _drop_parameters(holder, tuple(parents), value, layout, notes)
    value.replaced = holder.child(last)
    _put(holder, last, value, override, tuple(parents))


def _put(holder: Node, key: str | int, value: Node, override: Override, path: Path) -> None:
    """Set an entry of the mapping or list at `path`; a list can grow by one."""
    if isinstance(holder.value, dict):
        holder.value[str(key)] = value
        return
    if not isinstance(holder.value, list):
        raise _no_mapping(override, path)
    index = as_index(key)
    if index is None or index > len(holder.value):
        raise _no_item(override, path, len(holder.value))
    holder.value[index : index + 1] = [value]


def _drop_parameters(holder: Node, path: Path, new: Node, layout: Layout, notes: list[str]) -> None:
    """Take the old component's parameters away when another component is chosen."""
    kind = layout.kind_at(path)
    old = holder.child("use")
    if kind is None or old is None or old.value == new.value or not isinstance(holder.value, dict):
        return
    shared = SHARED_CONFIGS.get(kind)
    kept = {"use", *(shared.model_fields if shared else ())}
    dropped = [key for key in holder.value if key not in kept]
    for key in dropped:
        del holder.value[key]
    if dropped:
        keys = ", ".join(dropped)
        notes.append(f"{dotted(path)} is now {new.value}: dropped {keys}, set in the recipe for {old.value}")


def _remove(root: Node, override: Override, layout: Layout) -> None:
    *parents, last = override.path
    holder = _descend(root, tuple(parents), override, layout)
    if isinstance(holder.value, list):
        index = as_index(last)
        if index is None or index >= len(holder.value):
            raise _no_item(override, tuple(parents), len(holder.value))
        del holder.value[index]
        return
    keys = list(holder.value) if isinstance(holder.value, dict) else []
    if not isinstance(holder.value, dict) or last not in holder.value:
        guess = did_you_mean(str(last), keys)
        raise RecipeError(f"`{override.word}` removes a key that the recipe does not have{guess}")
    del holder.value[str(last)]


def _descend(root: Node, path: Path, override: Override, layout: Layout) -> Node:
    """Go to the holder of the last key, writing out defaults and missing mappings on the way."""
    node = root
    for depth, key in enumerate(path):
        layout.write_default(path[: depth + 1])
        below = node.child(key)
        if below is None or below.value is None:
            below = Node({}, override.mark)
            _put(node, key, below, override, path[:depth])
        node = below
    return node


def _no_mapping(override: Override, path: Path) -> RecipeError:
    return RecipeError(
        f"`{override.word}`: `{dotted(path)}` holds a single value, so it has no keys of its own"
    )


def _no_item(override: Override, path: Path, length: int) -> RecipeError:
    have = f"its items are 0 to {length - 1}" if length else "it is empty"
    return RecipeError(f"`{override.word}` names no item of the list `{dotted(path)}`; {have}")


def _read_value(word: str, text: str) -> Node:
    mark = Mark(word=word)
    if text[:1] in ("'", '"', "[", "{"):
        try:
            return read_yaml(text, "value").copy(mark)
        except RecipeError as error:
            reason = error.message.partition("  ")[2] or error.message
            raise RecipeError(f"cannot read the value of `{word}`: {reason}", hint=_FORM) from error
    return Node(read_scalar(text), mark, raw=text)
