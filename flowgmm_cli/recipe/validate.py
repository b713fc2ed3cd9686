"""Validation of a recipe's tree by the models of the components it names; every problem is collected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from flowgmm_cli.api import Component, Config, Kind, Level, ViewSpec
from flowgmm_cli.errors import PluginError, RecipeError, did_you_mean
from flowgmm_cli.messages import list_some
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe import fields
from flowgmm_cli.recipe.node import Mark, Node, Path, describe, format_path, make_node
from flowgmm_cli.recipe.schema import RecipeModel

_HINT = (
    "`flowgmm recipes schema` has every key with its values; `flowgmm plugins describe NAME` a component's"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_SHOWN = 20  # problems
_MAX_GUESSES = 1000  # problems with a guess, which takes a millisecond


MISSING = "is required"
"""Beginning of the message about a key that is missing."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    path: Path  # the key
    message: str  # the reason
    mark: Mark  # the place
    # the value in the file, if an override or overlay replaced it
    replaced: Node | None = field(default=None, compare=False)
    # the error behind it, if a component cannot be used
    cause: PluginError | None = field(default=None, compare=False)
    hint: str | None = field(default=None, compare=False)  # the next step

    def with_overlay(self, name: str) -> Problem:
        """Name the overlay in the message of a problem that stands outside of it."""
        if self.mark.overlay is not None:
            return self
        return replace(self, message=f"{self.message} (with the overlay `{name}`)")

    def row(self, source: str, *, with_cause: bool) -> tuple[str, str, str]:
        """Return place, key and message; the message names the origin of a value that is not the file's own.

        The place is `file:line`, the file alone for a default, and empty for the command line.
        """
        mark, message = self.mark, self.message
        place = "" if mark.word is not None else f"{source}:{mark.line}" if mark.line else source
        if with_cause and self.cause is not None:
            message = "; ".join([message, *self.cause.details])
        if mark.word is not None or mark.overlay is not None:
            origin = f"the overlay `{mark.overlay}`" if mark.overlay is not None else "the command line"
            if self.replaced is not None and self.replaced.mark.line:
                old = self.replaced.plain()
                text = f"`{old}`" if isinstance(old, str) else describe(old).removeprefix("the number ")
                origin += f"; the file says {text} at line {self.replaced.mark.line}"
            message += f" (from {origin})"
        return place, format_path(self.path), message


def raise_problems(problems: Sequence[Problem], source: str, overlays: Sequence[str] = ()) -> NoReturn:
    """Raise all problems of the file `source` as one error, with a line `place  key  message` for each.

    It is a `PluginError` if every problem is a component that cannot be used, else a `RecipeError`.
    """
    ordered = sorted(
        problems, key=lambda problem: (problem.mark.word is not None, problem.mark.line, problem.mark.column)
    )
    rows = [problem.row(source, with_cause=len(ordered) > 1) for problem in ordered[:_MAX_SHOWN]]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = ["  ".join([place.ljust(widths[0]), key.ljust(widths[1]), text]) for place, key, text in rows]
    details = list_some(lines if widths[0] else map(str.strip, lines), len(ordered), _MAX_SHOWN)
    causes = [problem.cause for problem in ordered if problem.cause is not None]
    if len(causes) < len(ordered):
        count = "1 problem" if len(ordered) == 1 else f"{len(ordered):,} problems"
        applied = "".join(f" --overlay {name}" for name in overlays)
        hint = next((problem.hint for problem in ordered if problem.hint), _HINT)
        raise RecipeError(f"{source}{applied} has {count}", details=details, hint=hint)
    if len(causes) == 1:
        raise PluginError(details[0], details=causes[0].details, hint=causes[0].hint) from causes[0]
    message = f"{source} names {len(causes)} components that cannot be used"
    raise PluginError(message, details=details, hint=causes[0].hint) from causes[0]


class Validator:
    """Walks a tree, model by model.

    Pydantic checks the leaves. Components and nested models are checked one by one on the way, so that every
    problem is reported with its place, independently of the others. `problems` has everything that is wrong.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.problems: list[Problem] = []

    def recipe(self, root: Node) -> RecipeModel | None:
        """Validate the whole recipe; None if anything is wrong."""
        self._check_characters(root)
        model = self._model(RecipeModel, root, (), "a recipe")
        return model if isinstance(model, RecipeModel) and not self.problems else None

    def component(self, kind: Kind, root: Node) -> Component | None:
        """Validate a single component; None if anything is wrong."""
        self._check_characters(root)
        component = self._component(kind, root, ())
        return None if self.problems else component

    def _check_characters(self, root: Node) -> None:
        """Refuse characters that UTF-8 files cannot hold."""
        for path, node in root.walk():
            if any(isinstance(text, str) and _SURROGATE.search(text) for text in (node.value, *path[-1:])):
                self._add(node, path, "is not UTF-8 text: it has half of a surrogate pair")

    def _model(self, model: type[BaseModel], node: Node, path: Path, label: str) -> BaseModel | None:
        """Validate one mapping; `label` names the owner of its keys."""
        if not isinstance(node.value, dict):
            self._add(node, path, f"expected a mapping of keys, got {describe(node.value)}")
            return None
        before = len(self.problems)
        children = dict(node.value)
        for key in [key for key in children if key not in model.model_fields]:
            self._add_unknown_key(model, children.pop(key), (*path, key), label)
        values: dict[str, Any] = {}
        invalid = set()
        for key, info in model.model_fields.items():
            child = children.get(key)
            if child is None and not info.is_required() and fields.has_keys(info):
                child = make_node(fields.default_value(info))
            if child is not None:
                count = len(self.problems)
                values[key] = self._value(info, child, (*path, key))
                if len(self.problems) > count:
                    invalid.add(key)
                    del values[key]
        valid = len(self.problems) == before
        try:
            return _validate(model, values, children)
        except ValidationError as error:
            self._add_errors(error, model, node, path, invalid, only_fields=not valid)
        except Exception as error:  # a plugin's own validator
            if valid:
                self._add(node, path, f"{label} refuses these values: {error}")
        return None

    def _value(self, field: FieldInfo, child: Node, path: Path) -> Any:
        """Return the value of a key, its components and nested models validated."""
        kind, nested = fields.component_kind(field), fields.inner_model(field)
        if kind is not None and fields.is_list(field):
            if isinstance(child.value, list):
                components = [self._component(kind, item, (*path, i)) for i, item in enumerate(child.value)]
                if kind == "view":
                    self._check_order(components, child.value, path)
                return fields.cast_to_declared(components, field)
            if not fields.accepts(field, Component):
                self._add(child, path, f"expected a list of {kind}s, got {describe(child.value)}")
                return None
        if kind is not None and not (child.value is None and fields.accepts(field, type(None))):
            return self._component(kind, child, path)
        if nested is not None and isinstance(child.value, dict):
            return self._model(nested, child, path, f"`{format_path(path)}`")
        return fields.cast_to_declared(child.plain(), field)

    def _component(self, kind: Kind, node: Node, path: Path) -> Component | None:
        """Validate a component; None if it is invalid."""
        if not isinstance(node.value, dict):
            example = node.value if isinstance(node.value, str) else "name"
            form = f"a mapping such as `{{use: {example}}}`"
            if node.mark.word is not None:
                form += f" (write `{format_path(path)}.use={example}`)"
            self._add(node, path, f"expected {form}, got {describe(node.value)}")
            return None
        use = node.value.get("use")
        name = (use.raw or use.value) if use is not None else None
        if use is None or not isinstance(name, str) or not name:
            names = ", ".join(dict.fromkeys(entry.name for entry in self.registry.entries(kind)))
            state = "is missing" if use is None else f"is {describe(use.value)}"
            self._add(use or node, (*path, "use"), f"`use` {state}; it names the {kind}: {names}")
            return None
        try:
            spec = self.registry.find(kind, name).spec()
        except PluginError as error:
            self._add(use, (*path, "use"), error.message, cause=error, hint=error.hint)
            return None
        keys = Node({key: child for key, child in node.value.items() if key != "use"}, node.mark)
        config = self._model(spec.config, keys, path, name)
        return Component(kind=kind, use=name, config=config) if isinstance(config, Config) else None

    def _check_order(self, views: Sequence[Component | None], nodes: Sequence[Node], path: Path) -> None:
        """Require views in the order in which a row passes them: text, inputs, features."""
        order, last = get_args(Level), ("", "text")
        for index, view in enumerate(views):
            if view is None:
                continue
            level = self.registry.spec(ViewSpec, view.use).level
            if order.index(level) >= order.index(last[1]):
                last = (view.use, level)
                continue
            message = f"`{view.use}` ({level}) comes after `{last[0]}` ({last[1]}); list views in the order "
            message += f"{', '.join(order)}, in which a row passes them"
            self._add(nodes[index], (*path, index), message)

    def _add_errors(
        self,
        error: ValidationError,
        model: type[BaseModel],
        node: Node,
        path: Path,
        invalid: set[str],
        *,
        only_fields: bool,
    ) -> None:
        """Add pydantic's errors as problems, the first of each key that is not known to be `invalid`."""
        by_key: dict[str, ErrorDetails] = {}
        for details in error.errors(include_url=False):
            if details["loc"] and details["loc"][0] not in invalid:
                by_key.setdefault(str(details["loc"][0]), details)
            elif not details["loc"] and not only_fields:  # a rule over several keys waits until each is right
                self._add(node, path, _message(details))
        words = [
            f"{format_path((*path, key))}=..."
            for key, details in by_key.items()
            if details["type"] == "missing" and not fields.has_keys(model.model_fields[key])
        ]
        them = "it" if len(words) == 1 else "them"
        hint = f"set {them} in the recipe, or add to the command: {' '.join(words)}" if words else None
        for key, details in by_key.items():
            field, child, place = model.model_fields[key], node.child(key), (*path, key)
            if child is None:
                description = f" ({field.description})" if field.description else ""
                message = f"{MISSING}: {fields.describe_field(field)}{description}"
                self._add(node, place, message, hint=hint)
            elif details["type"] in ("value_error", "assertion_error"):
                self._add(child, place, _message(details))
            else:
                self._add(child, place, _describe_mismatch(field, child, details))

    def _add_unknown_key(self, model: type[BaseModel], child: Node, path: Path, label: str) -> None:
        if len(self.problems) >= _MAX_GUESSES:
            self._add(child, path, f"unknown key for {label}")
            return
        key, names = str(path[-1]), list(model.model_fields)
        nested = {name: fields.inner_model(field) for name, field in model.model_fields.items()}
        inner = [f"{name}.{key}" for name, part in nested.items() if part and key in part.model_fields]
        guess = did_you_mean(key, names) or (f"; did you mean `{inner[0]}`?" if inner else "")
        known = f"; known keys: {', '.join(names)}" if names else "; it has none"
        hint = f"`flowgmm plugins describe {label}` lists its parameters" if label[0] not in "`a" else None
        self._add(child, path, f"unknown key for {label}{guess or known}", hint=hint)

    def _add(
        self, node: Node, path: Path, message: str, cause: PluginError | None = None, hint: str | None = None
    ) -> None:
        self.problems.append(Problem(path, message, node.mark, node.replaced, cause, hint))


def _validate(model: type[BaseModel], values: dict[str, Any], children: dict[str, Node]) -> BaseModel:
    """Validate; unquoted text whose value does not fit is tried as a string."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = {str(details["loc"][0]) for details in error.errors(include_url=False) if details["loc"]}
        as_text = {
            key: child.raw
            for key, child in children.items()
            if key in wrong and child.raw is not None and fields.accepts(model.model_fields[key], str)
        }
        if not as_text:
            raise
        return model.model_validate({**values, **as_text})


def _message(details: ErrorDetails) -> str:
    """Return the message of the exception that a validator raised, else pydantic's."""
    cause = details.get("ctx", {}).get("error")
    return str(cause) if cause is not None else details["msg"]


def _describe_mismatch(field: FieldInfo, child: Node, details: ErrorDetails) -> str:
    """Describe the expected and the actual value of a key, with a guess if it has fixed choices."""
    items = [part for part in details["loc"][1:] if isinstance(part, int)]
    value = details["input"] if items else child.plain()
    actual = f"; item {items[0]} is {describe(value)}" if items else f", got {describe(value)}"
    if child.template is not None:  # the value may be a secret
        actual = f", which the value of `{child.template}` is not"
    message = f"expected {fields.describe_field(field)}{actual}"
    allowed = fields.choices(field)
    if isinstance(value, str) and allowed:
        message += did_you_mean(value, allowed)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (fields.accepts(field, str) or details["type"] == "string_type"):
        message += "; put it in quotes"
    return message
