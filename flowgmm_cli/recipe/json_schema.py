"""The JSON Schema of recipes, for editors and other programs: every key, its limits and its description."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from flowgmm_cli.plugins.entry import Entry
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.fields import accepts, component_kind, is_list
from flowgmm_cli.recipe.overlays import KEY
from flowgmm_cli.recipe.schema import RecipeModel

_REFERENCE = {
    "type": "string",
    "pattern": r"^\$\{[^{}]+\}$",
    "description": "${env:NAME}, ${env:NAME:-default} or ${section.key}",
}


def recipe_schema(registry: Registry) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of all recipes that the components in `registry` allow.

    A component is a `oneOf` over the values of `use`. Disabled, broken and incompatible plugins are left out.
    Where a number or a choice is expected, an interpolation may stand as well.
    """
    builder = _SchemaBuilder(registry)
    body = builder.model(RecipeModel, "recipe")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flowgmm recipe",
        **body,
        "$defs": {"interpolation": _REFERENCE, **dict(sorted(builder.definitions.items()))},
    }


class _SchemaBuilder:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.definitions: dict[str, Any] = {}

    def model(self, model: type[BaseModel], prefix: str) -> dict[str, Any]:
        """One model's schema; what it refers to goes to the definitions, under names that begin so."""
        schema = model.model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}", mode="validation")
        # pydantic knows components as instances; in a recipe they are mappings, put in their place below
        inner = {name: part for name, part in schema.pop("$defs", {}).items() if name not in _INSTANCES}
        self._amend(schema, model, prefix)
        for name, part in inner.items():
            nested = _nested_models(model).get(name)
            if nested is not None:
                self._amend(part, nested, prefix)
            self.definitions[f"{prefix}.{name}"] = part
        return schema

    def _amend(self, schema: dict[str, Any], model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            holder = schema["properties"][name]
            kind = component_kind(field)
            if kind is not None:
                reference: dict[str, Any] = {"$ref": self.component(kind)}
                value = {"type": "array", "items": reference} if is_list(field) else reference
                if accepts(field, type(None)):
                    value = {"anyOf": [value, {"type": "null"}]}
                kept = {key: holder[key] for key in ("description", "default") if key in holder}
                schema["properties"][name] = {**value, **kept}
            elif name != KEY and (holder.get("type") != "string" or "enum" in holder):
                schema["properties"][name] = _or_reference(holder)
            schema["properties"][name].pop("title", None)
        schema.pop("title", None)

    def component(self, kind: str) -> str:
        """A reference to the choice of all components of a kind."""
        if kind not in self.definitions:
            self.definitions[kind] = {}  # stands for itself while components refer to each other
            options = [one for entry in self.registry.entries(kind) if (one := self._option(entry.inspect()))]
            self.definitions[kind] = {"oneOf": options}
        return f"#/$defs/{kind}"

    def _option(self, entry: Entry) -> dict[str, Any] | None:
        if entry.loaded is None:
            return None
        names = [entry.qualified] if entry.state == "conflict" else [entry.name, entry.qualified]
        body = self.model(entry.loaded.config, f"{entry.kind}.{names[0].replace('/', '.')}")
        use = {"enum": names, "description": f"{entry.loaded.summary} ({entry.origin})"}
        return {
            "type": "object",
            "title": names[0],
            "description": entry.loaded.summary,
            "properties": {"use": use, **body.get("properties", {})},
            "required": ["use", *body.get("required", [])],
            "additionalProperties": False,
        }


_INSTANCES = ("Component", "Config")


def _nested_models(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """All models below a model, by name."""
    from flowgmm_cli.recipe.fields import nested_model

    found: dict[str, type[BaseModel]] = {}
    for field in model.model_fields.values():
        nested = nested_model(field)
        if nested is not None:
            found |= {nested.__name__: nested, **_nested_models(nested)}
    return found


def _or_reference(schema: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {key: schema[key] for key in ("description", "default") if key in schema}
    value = {key: part for key, part in schema.items() if key not in (*kept, "title")}
    options = value["anyOf"] if set(value) == {"anyOf"} else [value]
    return {"anyOf": [*options, {"$ref": "#/$defs/interpolation"}], **kept}
