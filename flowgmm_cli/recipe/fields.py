"""What a field of a parameter model may hold: a component, another model, or a leaf."""

from __future__ import annotations

import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flowgmm_cli.api import Component, to_plain


def component_kind(field: FieldInfo) -> str | None:
    """The kind of component a field holds (one, or a list of them); None for other fields."""
    extra = field.json_schema_extra
    kind = extra.get("component") if isinstance(extra, dict) else None
    return kind if isinstance(kind, str) else None


def nested_model(field: FieldInfo) -> type[BaseModel] | None:
    """The parameter model a field holds directly (or None); None for other fields."""
    for option in options(field.annotation):
        if isinstance(option, type) and issubclass(option, BaseModel) and option is not Component:
            return option
    return None


def is_list(field: FieldInfo) -> bool:
    """Whether a field can hold a list (or tuple) of things."""
    return any(
        get_origin(option) in (list, tuple) or option in (list, tuple) for option in options(field.annotation)
    )


def accepts(field: FieldInfo, kind: type) -> bool:
    """Whether a field's annotation names `kind` among its alternatives."""
    return any(option is kind for option in options(field.annotation))


def default_of(field: FieldInfo) -> Any:
    """A field's default in recipe form. Only for fields that are not required."""
    value = field.get_default(call_default_factory=True, validated_data={})
    return to_plain(value) if isinstance(value, BaseModel) else value


def options(annotation: Any) -> Iterator[Any]:
    """The alternatives of a union, `Annotated` and the like taken off; the annotation itself otherwise."""
    return (option for option, _ in limited_options(annotation))


def limited_options(annotation: Any) -> Iterator[tuple[Any, list[Any]]]:
    """The same with the rules that stand at an alternative, such as `annotated_types.Ge`."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from limited_options(argument)
    elif hasattr(annotation, "__metadata__"):
        rules = [
            rule
            for given in annotation.__metadata__
            for rule in (given.metadata if isinstance(given, FieldInfo) else [given])
        ]
        for option, more in limited_options(get_args(annotation)[0]):
            yield option, rules + more
    else:
        yield annotation, []


def as_declared(value: Any, field: FieldInfo) -> Any:
    """Give a YAML value the Python type that YAML has no word for: tuple, set, path, enum member.

    Pydantic's strict mode does not do that itself. What does not fit is returned as it is, for the
    validation to refuse.
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
