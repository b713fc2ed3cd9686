"""Says in words what a parameter can be: `a whole number from 1 to 64`."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flowgmm_cli.recipe.fields import component_kind, limited_options, options

_WORDS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    dict: ("a mapping", "mappings"),
    list: ("a list", "lists"),
    tuple: ("a list", "lists"),
    set: ("a list", "lists"),
    frozenset: ("a list", "lists"),
    Path: ("a path", "paths"),
}


def expected(field: FieldInfo) -> str:
    """What a field can be, in words, with its limits.

    >>> from pydantic import Field
    >>> expected(FieldInfo.from_annotated_attribute(float, Field(1.0, gt=0)))
    'a number above 0'
    >>> expected(FieldInfo.from_annotation(list[str] | None))
    'a list of strings, or null'
    """
    kind = component_kind(field)
    if kind is not None:
        one = f"a {kind} `{{use: ...}}`".replace("a objective", "an objective").replace(
            "a encoder", "an encoder"
        )
        return (
            f"a list of {kind}s" if any(get_origin(one) is list for one in options(field.annotation)) else one
        )
    limits = _limits(field.metadata)
    phrases, nullable = [], False
    for option, rules in limited_options(field.annotation):
        if option is type(None):
            nullable = True
        else:
            phrases.append(_one(option) + limits + _limits(rules))
    text = " or ".join(dict.fromkeys(phrases)) or "null"
    return f"{text}, or null" if nullable else text


def choices(field: FieldInfo) -> list[str]:
    """The values a field of fixed choices can have; empty for other fields."""
    return [str(value) for option in options(field.annotation) for value in _choices(option)]


def _one(option: Any) -> str:
    values = _choices(option)
    if values:
        return str(values[0]) if len(values) == 1 else f"one of {', '.join(str(value) for value in values)}"
    origin = get_origin(option) or option
    if origin in (list, tuple, set, frozenset):
        items = [item for item in get_args(option) if item is not Ellipsis]
        plurals = [_plural(part) for item in items for part in options(item)]
        return "a list" + (f" of {' or '.join(dict.fromkeys(plurals))}" if plurals else "")
    if isinstance(origin, type) and issubclass(origin, BaseModel):
        return "a mapping"
    return _WORDS.get(origin, (f"a {getattr(origin, '__name__', 'value')}", ""))[0]


def _plural(option: Any) -> str:
    values = _choices(option)
    if values:
        return ", ".join(str(value) for value in values)
    origin = get_origin(option) or option
    return _WORDS.get(origin, ("", f"{getattr(origin, '__name__', 'value')}s"))[1]


def _choices(option: Any) -> list[Any]:
    if get_origin(option) is Literal:
        return list(get_args(option))
    if isinstance(option, type) and issubclass(option, Enum):
        return [member.value for member in option]
    return []


def _limits(metadata: Iterable[Any]) -> str:
    lower = upper = other = ""
    for rule in metadata:
        if isinstance(rule, annotated_types.Ge):
            lower = f"at least {rule.ge}"
        elif isinstance(rule, annotated_types.Gt):
            lower = f"above {rule.gt}"
        elif isinstance(rule, annotated_types.Le):
            upper = f"at most {rule.le}"
        elif isinstance(rule, annotated_types.Lt):
            upper = f"below {rule.lt}"
        elif isinstance(rule, annotated_types.MinLen):
            other += f" with at least {rule.min_length}" if rule.min_length > 1 else " that is not empty"
        elif isinstance(rule, annotated_types.MaxLen):
            other += f" with at most {rule.max_length}"
        elif isinstance(rule, annotated_types.MultipleOf):
            other += f" divisible by {rule.multiple_of}"
        elif getattr(rule, "pattern", None):
            other += f" of the form {rule.pattern}"
    if lower.startswith("at least") and upper.startswith("at most"):
        return f" from {lower[9:]} to {upper[8:]}{other}"
    bounds = " and ".join(bound for bound in (lower, upper) if bound)
    if bounds:
        other = f" {bounds}{other}" if bounds.startswith(("above", "below")) else f" of {bounds}{other}"
    return other
