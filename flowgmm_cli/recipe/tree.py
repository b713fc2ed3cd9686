"""A recipe's tree with the models of its sections and components, and changes of its keys."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flowgmm_cli.api import Component, Config
from flowgmm_cli.errors import PluginError, RecipeError, did_you_mean
from flowgmm_cli.plugins.entry import SHARED_CONFIGS
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe import fields
from flowgmm_cli.recipe.changes import FORM, OVERLAYS_KEY, Change, read_entry, read_word
from flowgmm_cli.recipe.node import Node, Path, format_path, make_node, parse_index
from flowgmm_cli.recipe.schema import RecipeModel
from flowgmm_cli.recipe.validate import Problem


class _Field(NamedTuple):
    """The field, component and model at a path."""

    info: FieldInfo | None  # the field of its key; None for an item of a list or an unknown key
    kind: str | None  # the kind of component whose mapping is there
    model: type[BaseModel] | None  # the model of the mapping; None if no component is chosen yet


class RecipeTree:
    """The nodes of a recipe; its models are those of the components that the nodes name at the time."""

    def __init__(self, root: Node, registry: Registry) -> None:
        self.root = root
        self.registry = registry

    def write_default(self, path: Path) -> None:
        """Write the default of the key at `path` into the tree, if the key is missing and has one.

        A component mapping without `use` gets the default's.
        """
        holder, field = self.root.get(path[:-1]), self._find(path).info
        if field is None or field.is_required() or holder is None or not isinstance(holder.value, dict):
            return
        key, default = str(path[-1]), fields.default_value(field)
        current = holder.value.get(key)
        if current is None:
            if default is not None:
                holder.value[key] = make_node(default)
        elif isinstance(default, dict) and isinstance(current.value, dict) and fields.component_kind(field):
            current.value = {"use": make_node(default["use"]), **current.value}

    def apply_words(self, words: Sequence[str | Change]) -> list[str]:
        """Apply words of the command line; return notes for the user, one line each.

        Of two that set the same key the later one wins. One `RecipeError` names all that cannot be applied.
        """
        changes: list[Change] = []
        errors: list[RecipeError] = []
        for word in words:
            try:
                changes.append(read_word(word) if isinstance(word, str) else word)
            except RecipeError as error:
                errors.append(error)
        notes, failures = self._apply(changes)
        errors += [error for _, error in failures]
        if len(errors) == 1:
            raise errors[0]
        if errors:
            details = [": ".join([error.message, *error.details]) for error in errors]
            raise RecipeError(f"the command line has {len(errors)} problems", details=details, hint=FORM)
        if OVERLAYS_KEY in self.root.children():
            message = f"`{OVERLAYS_KEY}` cannot be changed on the command line"
            raise RecipeError(message, hint="--overlay NAME applies an overlay")
        return notes

    def apply_overlay(self, overlay: Node) -> tuple[list[str], list[Problem]]:
        """Apply an overlay; return notes for the user, and a problem for each entry that fails."""
        changes: list[Change] = []
        problems: list[Problem] = []
        for key, value in overlay.children().items():
            try:
                changes.append(read_entry(key, value))
            except RecipeError as error:
                problems.append(Problem((key,), error.message, value.mark))
        notes, failures = self._apply(changes)
        problems += [Problem(change.path, error.message, change.mark) for change, error in failures]
        return notes, problems

    def _apply(self, changes: Sequence[Change]) -> tuple[list[str], list[tuple[Change, RecipeError]]]:
        """Apply changes; return notes, and the changes that cannot be applied.

        Their order matters only for two changes of one key. Keys are set from the top down, `use` before the
        other keys of its level, since it chooses the component whose parameters they are. Removals come last,
        from the bottom up and from the end of lists, so that list positions are those of the file.
        """
        notes: list[str] = []
        failures: list[tuple[Change, RecipeError]] = []
        lines: dict[Path, int] = {}  # the lines of the keys that were changed
        pending = sorted(changes, key=Change.rank)
        while pending:
            change = pending.pop(0)
            try:
                entries = self._unfold(change)
                if entries is not None:
                    pending = sorted([*pending, *entries], key=Change.rank)
                    continue
                if change.merges and change.path in lines:
                    twice = f"`{format_path(change.path)}` is given twice"
                    raise RecipeError(f"{twice}; the first is at line {lines[change.path]}")
                lines[change.path] = change.mark.line
                if change.value is None:
                    self._remove(change)
                else:
                    notes += self._set(change, change.value)
            except RecipeError as error:
                failures.append((change, error))
        return notes, failures

    def _find(self, path: Path) -> _Field:
        if not path:
            return _Field(None, None, RecipeModel)
        parent, _, model = self._find(path[:-1])
        info = model.model_fields.get(str(path[-1])) if model else None
        kind = None
        if info is not None and not self._holds_list(path, info):
            kind = fields.component_kind(info)
        elif info is None and parent is not None and fields.is_list(parent):
            kind = fields.component_kind(parent)
        if kind is None:
            return _Field(info, None, fields.inner_model(info) if info else None)
        use = self.root.get((*path, "use"))
        model = None
        if use is not None and isinstance(use.value, str):
            with suppress(PluginError):  # reported by the validation, with its place
                model = self.registry.find(kind, use.value).spec().config
        return _Field(info, kind, model)

    def _holds_list(self, path: Path, info: FieldInfo) -> bool:
        """Return whether a list is, or can only be, at the path of a field."""
        node = self.root.get(path)
        if node is None or not fields.accepts(info, Component):
            return fields.is_list(info)
        return isinstance(node.value, list)

    def _unfold(self, change: Change) -> list[Change] | None:
        """Return the changes in a mapping for a section or component; None for a change of one value."""
        value = change.value.value if change.value is not None and change.merges else None
        field = self._find(change.path)
        if not isinstance(value, dict) or "use" in value or (field.kind is None and field.model is None):
            return None
        self._descend(change.path, change)
        return [read_entry(key, child, change.path) for key, child in value.items()]

    def _descend(self, path: Path, change: Change) -> Node:
        """Return the node at `path`; write defaults and missing mappings on the way."""
        node = self.root
        for depth, key in enumerate(path):
            self.write_default(path[: depth + 1])
            below = node.child(key)
            if below is None or below.value is None:
                below = Node({}, change.mark)
                _put(node, key, below, change, path[:depth])
            node = below
        return node

    def _set(self, change: Change, value: Node) -> list[str]:
        """Set a key; return a note if this drops the parameters of another component."""
        path, last = change.path[:-1], change.path[-1]
        holder = self._descend(path, change)
        notes = []
        info = self._find(path).info
        if last == "use" and isinstance(holder.value, list) and info and fields.accepts(info, Component):
            holder.value = {}  # a single component in the place of a list
        kind, old = self._find(path).kind, holder.child("use")
        if last == "use" and kind and old and old.value != value.value and isinstance(holder.value, dict):
            shared = SHARED_CONFIGS.get(kind, Config).model_fields
            dropped = [key for key in holder.value if key != "use" and key not in shared]
            for key in dropped:
                del holder.value[key]
            if dropped:
                state = f"{format_path(path)} is now {value.value}"
                notes.append(f"{state}: dropped {', '.join(dropped)}, set in the recipe for {old.value}")
        value.replaced = holder.child(last)
        _put(holder, last, value, change, path)
        return notes

    def _remove(self, change: Change) -> None:
        path, last = change.path[:-1], change.path[-1]
        holder = self._descend(path, change)
        if isinstance(holder.value, list):
            del holder.value[_index(holder.value, last, change, path, len(holder.value))]
        elif isinstance(holder.value, dict) and last in holder.value:
            del holder.value[str(last)]
        else:
            guess = did_you_mean(str(last), list(holder.children()))
            raise RecipeError(f"`{change.word}` removes a key that the recipe does not have{guess}")


def _put(holder: Node, key: str | int, value: Node, change: Change, path: Path) -> None:
    """Set an entry of the mapping or list at `path`; a list can grow by one."""
    if isinstance(holder.value, dict):
        holder.value[str(key)] = value
    elif isinstance(holder.value, list):
        index = _index(holder.value, key, change, path, len(holder.value) + 1)
        holder.value[index : index + 1] = [value]
    else:
        message = f"`{change.word}`: `{format_path(path)}` holds a single value, so it has no keys of its own"
        raise RecipeError(message)


def _index(items: Sequence[Node], key: str | int, change: Change, path: Path, limit: int) -> int:
    """Return the number of an item below `limit` of the list at `path`."""
    index = parse_index(key)
    if index is None or index >= limit:
        known = f"its items are 0 to {len(items) - 1}" if items else "it is empty"
        raise RecipeError(f"`{change.word}` names no item of the list `{format_path(path)}`; {known}")
    return index
