"""The values that a field of a parameter model accepts, as types and in words; parameters as rows."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flowgmm_cli.api import Component, Kind, plain_value

_NAMES: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    dict: ("a mapping", "mappings"),
    **dict.fromkeys((list, tuple, set, frozenset), ("a list", "lists")),
    Path: ("a path", "paths"),
}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


# --- types ------------------------------------------------------------------------------------------------


def component_kind(field: FieldInfo) -> Kind | None:
    """Return the kind of component that a field holds (or a list of them); None for other fields."""
    extra: Any = field.json_schema_extra
    kind: Kind | None = extra.get("component") if isinstance(extra, dict) else None
    return kind


def inner_model(field: FieldInfo) -> type[BaseModel] | None:
    """Return the parameter model that a field holds directly (or None); None for other fields."""
    for option in options(field.annotation):
        if isinstance(option, type) and issubclass(option, BaseModel) and option is not Component:
            return option
    return None


def has_keys(field: FieldInfo) -> bool:
    """Return whether a field holds a component, a list of them, or a nested model."""
    return component_kind(field) is not None or inner_model(field) is not None


def is_list(field: FieldInfo) -> bool:
    """Return whether a field can hold a list or tuple."""
    return any((get_origin(option) or option) in (list, tuple) for option in options(field.annotation))


def accepts(field: FieldInfo, kind: type) -> bool:
    """Return whether a field's annotation names `kind` among its alternatives."""
    return any(option is kind for option in options(field.annotation))


def default_value(field: FieldInfo) -> Any:
    """Return the default of a field that has one, in recipe form."""
    return plain_value(field.get_default(call_default_factory=True, validated_data={}))


def options(annotation: Any) -> Iterator[Any]:
    """Yield the alternatives of a union without `Annotated`; the annotation itself otherwise."""
    return (option for option, _ in options_with_limits(annotation))


def options_with_limits(annotation: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Yield the alternatives of a union, each with its own rules, such as `annotated_types.Ge`."""
    if get_origin(annotation) in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from options_with_limits(argument)
    elif hasattr(annotation, "__metadata__"):
        rules = [
            rule
            for item in annotation.__metadata__
            for rule in (item.metadata if isinstance(item, FieldInfo) else [item])
        ]
        for option, more in options_with_limits(get_args(annotation)[0]):
            yield option, rules + more
    else:
        yield annotation, []


def cast_to_declared(value: Any, field: FieldInfo) -> Any:
    """Convert a YAML value to a declared type that YAML does not have: tuple, set, path, enum member.

    Pydantic's strict mode does not convert these. A value that does not fit is returned unchanged, and the
    validation refuses it.
    """
    for option in options(field.annotation):
        origin = get_origin(option) or option
        if isinstance(value, list) and origin in (tuple, set, frozenset):
            return origin(value)
        if isinstance(value, str) and isinstance(origin, type):
            if issubclass(origin, Path):
                return origin(value)
            if issubclass(origin, Enum):
                return next((member for member in origin if member.value == value), value)
    return value


# --- words ------------------------------------------------------------------------------------------------


def describe_field(field: FieldInfo) -> str:
    """Describe the values that a field accepts, with their limits.

    >>> from pydantic import Field
    >>> describe_field(FieldInfo.from_annotated_attribute(float, Field(1.0, gt=0)))
    'a number above 0'
    >>> describe_field(FieldInfo.from_annotation(list[str] | None))
    'a list of strings, or null'
    """
    kind = component_kind(field)
    if kind is not None:
        article = "an" if kind[0] in "aeiou" else "a"
        forms = [f"{article} {kind} `{{use: ...}}`"] if accepts(field, Component) else []
        return " or ".join([*forms, f"a list of {kind}s"] if is_list(field) else forms)
    limits = _describe_limits(field.metadata)
    phrases, nullable = [], False
    for option, rules in options_with_limits(field.annotation):
        if option is type(None):
            nullable = True
        else:
            phrases.append(_describe_type(option) + limits + _describe_limits(rules))
    text = " or ".join(dict.fromkeys(phrases)) or "null"
    return f"{text}, or null" if nullable else text


def choices(field: FieldInfo) -> list[str]:
    """Return the values of a field of fixed choices; an empty list for other fields."""
    return [str(value) for option in options(field.annotation) for value in _choices(option)]


def _describe_type(option: Any, *, plural: bool = False) -> str:
    values = [str(value) for value in _choices(option)]
    if values:
        return ", ".join(values) if plural or len(values) == 1 else f"one of {', '.join(values)}"
    origin = get_origin(option) or option
    if not plural and origin in (list, tuple, set, frozenset):
        items = [part for item in get_args(option) if item is not Ellipsis for part in options(item)]
        plurals = dict.fromkeys(_describe_type(item, plural=True) for item in items)
        return f"a list of {' or '.join(plurals)}" if plurals else "a list"
    if not plural and isinstance(origin, type) and issubclass(origin, BaseModel):
        return "a mapping"
    name = origin.__name__ if isinstance(origin, type) else "value"
    return _NAMES.get(origin, (f"a {name}", f"{name}s"))[plural]


def _choices(option: Any) -> list[Any]:
    if get_origin(option) is Literal:
        return list(get_args(option))
    if isinstance(option, type) and issubclass(option, Enum):
        return [member.value for member in option]
    return []


def _describe_limits(metadata: Iterable[Any]) -> str:
    names = (*_BOUNDS, "min_length", "max_length", "multiple_of", "pattern")
    rules = {name: getattr(rule, name, None) for rule in metadata for name in names if hasattr(rule, name)}
    rules = {name: value for name, value in rules.items() if value is not None}
    bounds = [f"{words} {rules[name]}" for name, words in _BOUNDS.items() if name in rules]
    text = ""
    if "ge" in rules and "le" in rules:
        text = f" from {rules['ge']} to {rules['le']}"
    elif bounds:
        text = f" {'of ' if bounds[0].startswith('at') else ''}{' and '.join(bounds)}"
    if shortest := rules.get("min_length"):
        text += f" with at least {shortest}" if shortest > 1 else " that is not empty"
    if "max_length" in rules:
        text += f" with at most {rules['max_length']}"
    if "multiple_of" in rules:
        text += f" divisible by {rules['multiple_of']}"
    return f"{text} of the form {rules['pattern']}" if "pattern" in rules else text


# --- parameters -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameter:
    """One key of a component or section."""

    name: str  # its key; `labels.count` for a key of a nested mapping
    expected: str  # the accepted values, in words
    required: bool  # whether the recipe must give it
    default: Any  # its value if the recipe does not, in recipe form
    choices: tuple[str, ...]  # the accepted values, if those are fixed
    description: str  # its meaning

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as JSON values."""
        return {**asdict(self), "choices": list(self.choices)}


def parameters(model: type[BaseModel], shared: type[BaseModel] | None = None) -> list[Parameter]:
    """List all parameters of a model in their order; those inherited from `shared` come last."""
    last = set(shared.model_fields) if shared is not None else set()
    names = sorted(model.model_fields, key=lambda name: name in last)
    return [row for name in names for row in _rows(name, model.model_fields[name])]


def _rows(name: str, field: FieldInfo) -> list[Parameter]:
    """Make one row, or the rows of a nested mapping's keys; both for a mapping that can be left out."""
    nested = inner_model(field)
    required = field.is_required()
    default = None if required else default_value(field)
    allowed = tuple(choices(field))
    row = Parameter(name, describe_field(field), required, default, allowed, field.description or "")
    below = [replace(inner, name=f"{name}.{inner.name}") for inner in parameters(nested)] if nested else []
    return below if below and default is not None else [row, *below]


_PLACES = {
    "flow": ("flow:", "  "),
    "prior": ("prior:", "  "),
    "objective": ("objective:", "  "),
    "data": ("data:", "  "),
    "regulariser": ("regularisers:", "  - "),
    "encoder": ("data:\n  encoder:", "    "),
    "transform": ("data:\n  transforms:", "    - "),
    "view": ("data:\n  views:\n    strong:", "      - "),
    "score": ("ood:\n  scores:", "    - "),
}


def snippet(kind: str, use: str, rows: Sequence[Parameter]) -> str:
    """Write a piece of a recipe that chooses a component, with its parameters at their defaults.

    A required parameter stands as `...`; keys of nested mappings are left out. Empty for a kind that recipes
    do not name.
    """
    if kind not in _PLACES:
        return ""
    place, indent = _PLACES[kind]
    lines = [(f"{indent}use: {use}", "")]
    for row in rows:
        if "." not in row.name:
            value = "..." if row.required else json.dumps(row.default, ensure_ascii=False)
            text = f"required: {row.expected}" if row.required else row.description
            lines.append((f"{' ' * len(indent)}{row.name}: {value}", f"# {text}" if text else ""))
    width = max(len(text) for text, _ in lines)
    return "\n".join([place, *(f"{text:{width}}  {comment}".rstrip() for text, comment in lines)])
