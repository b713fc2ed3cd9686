"""The parameters of a model as rows for people: name, accepted values, default, description."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flowgmm_cli.recipe.fields import choices, default_value, describe_field, inner_model


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

    A required parameter stands as `...`; keys of nested mappings are left out.
    """
    place, indent = _PLACES[kind]
    lines = [(f"{indent}use: {use}", "")]
    for row in rows:
        if "." not in row.name:
            value = "..." if row.required else json.dumps(row.default, ensure_ascii=False)
            text = f"required: {row.expected}" if row.required else row.description
            lines.append((f"{' ' * len(indent)}{row.name}: {value}", f"# {text}" if text else ""))
    width = max(len(text) for text, _ in lines)
    return "\n".join([place, *(f"{text:{width}}  {comment}".rstrip() for text, comment in lines)])
