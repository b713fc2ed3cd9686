"""The values that a field of a parameter model accepts, as types and in words."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flowgmm_cli.api import Component, Kind, to_plain

_NAMES: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    dict: ("a mapping", "mappings"),
    **dict.fromkeys((list, tuple, set, frozenset), ("a list", "lists")),
    Path: ("a path", "paths"),
}


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
    value = field.get_default(call_default_factory=True, validated_data={})
    return to_plain(value) if isinstance(value, BaseModel) else value


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
        return f"a list of {kind}s" if is_list(field) else f"{article} {kind} `{{use: ...}}`"
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


def _describe_type(option: Any) -> str:
    values = [str(value) for value in _choices(option)]
    if values:
        return values[0] if len(values) == 1 else f"one of {', '.join(values)}"
    origin = get_origin(option) or option
    if origin in (list, tuple, set, frozenset):
        items = [item for item in get_args(option) if item is not Ellipsis]
        plurals = [_plural(part) for item in items for part in options(item)]
        return "a list" + (f" of {' or '.join(dict.fromkeys(plurals))}" if plurals else "")
    if isinstance(origin, type) and issubclass(origin, BaseModel):
        return "a mapping"
    return _NAMES.get(origin, (f"a {getattr(origin, '__name__', 'value')}", ""))[0]


def _plural(option: Any) -> str:
    values = _choices(option)
    if values:
        return ", ".join(str(value) for value in values)
    origin = get_origin(option) or option
    return _NAMES.get(origin, ("", f"{getattr(origin, '__name__', 'value')}s"))[1]


def _choices(option: Any) -> list[Any]:
    if get_origin(option) is Literal:
        return list(get_args(option))
    if isinstance(option, type) and issubclass(option, Enum):
        return [member.value for member in option]
    return []


def _describe_limits(metadata: Iterable[Any]) -> str:
    lower = upper = other = ""
    for rule in metadata:
        match rule:
            case annotated_types.Ge():
                lower = f"at least {rule.ge}"
            case annotated_types.Gt():
                lower = f"above {rule.gt}"
            case annotated_types.Le():
                upper = f"at most {rule.le}"
            case annotated_types.Lt():
                upper = f"below {rule.lt}"
            case annotated_types.MinLen():
                other += f" with at least {rule.min_length}" if rule.min_length > 1 else " that is not empty"
            case annotated_types.MaxLen():
                other += f" with at most {rule.max_length}"
            case annotated_types.MultipleOf():
                other += f" divisible by {rule.multiple_of}"
            case _ if getattr(rule, "pattern", None):
                other += f" of the form {rule.pattern}"
    if lower.startswith("at least") and upper.startswith("at most"):
        return f" from {lower[9:]} to {upper[8:]}{other}"
    bounds = " and ".join(bound for bound in (lower, upper) if bound)
    if bounds:
        other = f" {bounds}{other}" if bounds.startswith(("above", "below")) else f" of {bounds}{other}"
    return other
