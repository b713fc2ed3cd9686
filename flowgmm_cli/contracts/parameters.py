"""Parameters of components: strict models, and components as values of recipes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

Kind = Literal[
    "flow", "data", "regulariser", "encoder", "score", "baseline", "transform", "view", "objective", "prior"
]
Level = Literal["text", "inputs", "features"]


class Config(BaseModel):
    """Base of all parameter models: strict types, unknown keys refused, immutable."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )


class Component(BaseModel):
    """A chosen component: in a recipe the mapping `{use: name, ...parameters}`.

    Attributes:
        kind: its kind.
        use: its name in the recipe, bare or `package/name`.
        config: the validated parameters, an instance of the spec's `config`.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    use: str
    config: SerializeAsAny[Config]

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe form `{use: ..., ...}` with all defaults filled in."""
        return {"use": self.use, **to_plain(self.config)}


def to_plain(config: BaseModel) -> dict[str, Any]:
    """Return a config as plain YAML values; nested components take their recipe form."""
    return {name: plain_value(getattr(config, name)) for name in type(config).model_fields}


def plain_value(value: Any) -> Any:
    """Return a value of a config as plain YAML values."""
    if isinstance(value, Component):
        return value.to_dict()
    if isinstance(value, BaseModel):
        return to_plain(value)
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain_value(item) for item in value), key=str)
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "tolist"):  # of NumPy
        return value.tolist()
    return str(value) if isinstance(value, PurePath) else value


def component_field(kind: Kind, default: Any = ..., **kwargs: Any) -> Any:
    """Declare a config field that holds another component (or a list of them).

    The recipe gives `{use: name, ...}`; the recipe schema resolves it against the registry before the outer
    model is validated. `default` is written in recipe form: a mapping, a list of mappings, or None.

        encoder: Component = component_field("encoder", {"use": "wordllama"})
        transforms: list[Component] = component_field("transform", [{"use": "standardise"}])
    """
    return Field(default, json_schema_extra={"component": kind}, **kwargs)
