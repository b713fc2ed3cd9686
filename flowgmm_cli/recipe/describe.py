"""The parameters of a model as rows for people: name, default, what it can be, what it means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flowgmm_cli.recipe.expected import choices, expected
from flowgmm_cli.recipe.fields import default_of, nested_model


@dataclass(frozen=True)
class Parameter:
    """One key of a component or section.

    Attributes:
        name: its key; `labels.count` for a key of a nested mapping.
        expected: what it can be, in words.
        required: whether the recipe must give it.
        default: its value if the recipe does not, in recipe form.
        choices: the values it can have, if those are fixed.
        description: what it means.
    """

    name: str
    expected: str
    required: bool
    default: Any
    choices: tuple[str, ...]
    description: str

    def to_dict(self) -> dict[str, Any]:
        """The parameter as JSON values."""
        return {**asdict(self), "choices": list(self.choices)}


def parameters(model: type[BaseModel], shared: type[BaseModel] | None = None) -> list[Parameter]:
    """All parameters of a model, in their order; those that come from `shared` are last."""
    later = set(shared.model_fields) if shared is not None else set()
    names = sorted(model.model_fields, key=lambda name: name in later)
    return [row for name in names for row in _rows(name, model.model_fields[name])]


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
    """A piece of a recipe that chooses a component, with its parameters at their defaults.

    Args:
        kind: the kind of component.
        use: the name to write, bare or `package/name`.
        rows: its parameters; a required one stands as `...`, keys of nested mappings are left out.
    """
    place, indent = _PLACES[kind]
    lines = [(f"{indent}use: {use}", "")]
    for row in rows:
        if "." not in row.name:
            value = "..." if row.required else json.dumps(row.default, ensure_ascii=False)
            words = f"required: {row.expected}" if row.required else row.description
            lines.append((f"{' ' * len(indent)}{row.name}: {value}", f"# {words}" if words else ""))
    width = max(len(text) for text, _ in lines)
    return "\n".join([place, *(f"{text:{width}}  {comment}".rstrip() for text, comment in lines)])


def _rows(name: str, field: FieldInfo) -> list[Parameter]:
    """One row, or the rows of a nested mapping's keys; a mapping that can be left out has both."""
    nested = nested_model(field)
    default = None if field.is_required() else default_of(field)
    row = Parameter(
        name=name,
        expected=expected(field),
        required=field.is_required(),
        default=default,
        choices=tuple(choices(field)),
        description=field.description or "",
    )
    below = [replace(one, name=f"{name}.{one.name}") for one in parameters(nested)] if nested else []
    return below if below and default is not None else [row, *below]
