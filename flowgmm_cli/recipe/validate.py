"""Validates a recipe tree against the models of the components it names, and collects every problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from flowgmm_cli.api import Component, Config, Kind, Level, ViewSpec
from flowgmm_cli.errors import PluginError, did_you_mean
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe import fields
from flowgmm_cli.recipe.expected import choices, expected
from flowgmm_cli.recipe.node import Node, Path, describe, dotted, node_of
from flowgmm_cli.recipe.problems import Problem
from flowgmm_cli.recipe.schema import RecipeModel


class Validator:
    """Walks a tree, model by model.

    Pydantic checks the leaves. Components and nested models are checked one by one on the way, so that each
    problem is found, with its place, whatever else is wrong.

    Args:
        registry: resolves `use`.

    Attributes:
        problems: everything that is wrong.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.problems: list[Problem] = []

    def recipe(self, root: Node) -> RecipeModel | None:
        """Validate the whole recipe; None if anything is wrong."""
        model = self._model(RecipeModel, root, (), "a recipe")
        return model if isinstance(model, RecipeModel) and not self.problems else None

    def component(self, kind: Kind, root: Node) -> Component | None:
        """Validate one component by itself; None if anything is wrong."""
        found = self._component(kind, root, ())
        return None if self.problems else found

    def _model(self, model: type[BaseModel], node: Node, path: Path, label: str) -> BaseModel | None:
        """Validate one mapping; `label` is what its keys belong to."""
        if not isinstance(node.value, dict):
            self._problem(node, path, f"expected a mapping of keys, got {describe(node.value)}")
            return None
        before = len(self.problems)
        children = dict(node.value)
        for key in [key for key in children if key not in model.model_fields]:
            self._unknown(model, children.pop(key), (*path, key), label)
        values: dict[str, Any] = {}
        for key, field in model.model_fields.items():
            child = children.get(key)
            if child is None and not field.is_required() and _holds_more(field):
                child = node_of(fields.default_of(field))
            if child is not None:
                values[key] = self._value(field, child, (*path, key))
        sound = len(self.problems) == before
        try:
            return _check(model, values, children)
        except ValidationError as error:
            self._translate(error, model, node, path, only_fields=not sound)
        except Exception as error:  # a plugin's own validator
            if sound:
                self._problem(node, path, f"{label} refuses these values: {error}")
        return None

    def _value(self, field: FieldInfo, child: Node, path: Path) -> Any:
        kind = fields.component_kind(field)
        nested = fields.nested_model(field)
        if kind is not None and isinstance(child.value, list) and fields.is_list(field):
            parts = [self._component(kind, item, (*path, index)) for index, item in enumerate(child.value)]
            if kind == "view":
                self._order(parts, child.value, path)
            return cast(Any, fields.as_declared(parts, field))
        if kind is not None and fields.is_list(field):
            self._problem(child, path, f"expected a list of {kind}s, got {describe(child.value)}")
            return fields.as_declared([], field)
        if kind is not None and not (child.value is None and fields.accepts(field, type(None))):
            return self._component(kind, child, path)
        if nested is not None and isinstance(child.value, dict):
            built = self._model(nested, child, path, f"`{dotted(path)}`")
            # a stand-in lets the model around it be checked all the same
            return built if built is not None else nested.model_construct()
        return fields.as_declared(child.plain(), field)

    def _component(self, kind: str, node: Node, path: Path) -> Component:
        stand_in = Component.model_construct(kind=cast(Kind, kind), use="", config=Config())
        if not isinstance(node.value, dict):
            example = node.value if isinstance(node.value, str) else "name"
            form = f"a mapping such as `{{use: {example}}}`"
            if node.mark.word is not None:
                form += f" (write `{dotted(path)}.use={example}`)"
            self._problem(node, path, f"expected {form}, got {describe(node.value)}")
            return stand_in
        use = node.value.get("use")
        name = (use.raw or use.value) if use is not None else None
        if use is None or not isinstance(name, str) or not name:
            names = ", ".join(dict.fromkeys(entry.name for entry in self.registry.entries(kind)))
            given = "is missing" if use is None else f"is {describe(use.value)}"
            self._problem(use or node, (*path, "use"), f"`use` {given}; it names the {kind}: {names}")
            return stand_in
        try:
            spec = self.registry.find(kind, name).spec()
        except PluginError as error:
            self.problems.append(
                Problem((*path, "use"), error.message, use.mark, use.replaced, cause=error, hint=error.hint)
            )
            return stand_in
        rest = Node({key: child for key, child in node.value.items() if key != "use"}, node.mark)
        config = self._model(spec.config, rest, path, name)
        if not isinstance(config, Config):
            return stand_in
        return Component(kind=cast(Kind, kind), use=name, config=config)

    def _order(self, views: Sequence[Component], nodes: Sequence[Node], path: Path) -> None:
        """Hold a list of views to the way a row goes: text, inputs, features."""
        order = get_args(Level)
        last = None
        for index, view in enumerate(views):
            if not view.use:  # something else is wrong with it
                continue
            level = cast(ViewSpec, self.registry.find("view", view.use).spec()).level
            if last is not None and order.index(level) < order.index(last[1]):
                self._problem(
                    nodes[index],
                    (*path, index),
                    f"`{view.use}` ({level}) comes after `{last[0]}` ({last[1]}); list views in the order "
                    f"{', '.join(order)}, the way a row goes",
                )
            else:
                last = (view.use, level)

    def _translate(
        self, error: ValidationError, model: type[BaseModel], node: Node, path: Path, *, only_fields: bool
    ) -> None:
        told: set[str] = set()
        absent = [str(one["loc"][0]) for one in error.errors(include_url=False) if one["type"] == "missing"]
        words = [f"{dotted((*path, key))}=..." for key in absent if not _holds_more(model.model_fields[key])]
        them = "it" if len(words) == 1 else "them"
        fill_in = f"set {them} in the recipe, or add to the command: {' '.join(words)}" if words else None
        for one in error.errors(include_url=False):
            if not one["loc"]:
                if not only_fields:  # a rule over several keys cannot be judged while some are wrong
                    self._problem(node, path, _own_words(one))
                continue
            key = str(one["loc"][0])
            if key in told:
                continue
            told.add(key)
            field = model.model_fields[key]
            child = node.child(key)
            where = (*path, key)
            if child is None:
                about = f" ({field.description})" if field.description else ""
                message = f"is required: {expected(field)}{about}"
                self.problems.append(Problem(where, message, node.mark, node.replaced, hint=fill_in))
            elif one["type"] in ("value_error", "assertion_error"):
                self._problem(child, where, _own_words(one))
            else:
                self._problem(child, where, _mismatch(field, child, one))

    def _unknown(self, model: type[BaseModel], child: Node, path: Path, label: str) -> None:
        key = str(path[-1])
        names = list(model.model_fields)
        guess = did_you_mean(key, names)
        if not guess:
            inside = [
                f"{outer}.{key}"
                for outer, field in model.model_fields.items()
                if (nested := fields.nested_model(field)) is not None and key in nested.model_fields
            ]
            guess = f"; did you mean `{inside[0]}`?" if inside else ""
        known = f"; known keys: {', '.join(names)}" if names else "; it has none"
        hint = f"`flowgmm plugins describe {label}` lists its parameters" if label[0] not in "`a" else None
        self.problems.append(
            Problem(path, f"unknown key for {label}{guess or known}", child.mark, child.replaced, hint=hint)
        )

    def _problem(self, node: Node, path: Path, message: str) -> None:
        self.problems.append(Problem(path, message, node.mark, node.replaced))


def _holds_more(field: FieldInfo) -> bool:
    return fields.component_kind(field) is not None or fields.nested_model(field) is not None


def _check(model: type[BaseModel], values: dict[str, Any], children: dict[str, Node]) -> BaseModel:
    """Validate; text that came without quotes is tried as a string where its value does not fit."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = {str(one["loc"][0]) for one in error.errors(include_url=False) if one["loc"]}
        as_text = {
            key: child.raw
            for key, child in children.items()
            if key in wrong and child.raw is not None and fields.accepts(model.model_fields[key], str)
        }
        if not as_text:
            raise
        return model.model_validate({**values, **as_text})


def _own_words(error: ErrorDetails) -> str:
    """The message of a validator that somebody wrote for people."""
    cause = error.get("ctx", {}).get("error")
    return str(cause) if cause is not None else error["msg"]


def _mismatch(field: FieldInfo, child: Node, error: ErrorDetails) -> str:
    items = [part for part in error["loc"][1:] if isinstance(part, int)]
    given = error["input"] if items else child.plain()
    item = f"item {items[0]} is {describe(given)}" if items else f"got {describe(given)}"
    message = f"expected {expected(field)}{';' if items else ','} {item}"
    allowed = choices(field)
    if isinstance(given, str) and allowed:
        message += did_you_mean(given, allowed)
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if number and (fields.accepts(field, str) or error["type"] == "string_type"):
        message += "; put it in quotes"
    return message
