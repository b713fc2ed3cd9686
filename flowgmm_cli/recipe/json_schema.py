"""The JSON Schema of recipes, for editors and other programs: every key, its limits and its description."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from flowgmm_cli.plugins.entry import Entry
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.changes import OVERLAYS_KEY
from flowgmm_cli.recipe.schema import RecipeModel

_REFERENCE = {
    "type": "string",
    "pattern": r"^\$\{[^{}]+\}$",
    "description": "${env:NAME}, ${env:NAME:-default} or ${section.key}",
}


def recipe_schema(registry: Registry) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of all recipes that the components in `registry` allow.

    A component is a `oneOf` over the values of `use`. Disabled, broken and incompatible plugins are left out.
    An interpolation is allowed in place of a number or a choice.
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
        """Return a model's schema; the definitions it refers to are stored under names with `prefix`."""
        schema = model.model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}", mode="validation")
        for name, part in schema.pop("$defs", {}).items():
            # for pydantic components are instances; in a recipe they are mappings, see `component`
            if name not in ("Component", "Config"):
                self._amend(part)
                self.definitions[f"{prefix}.{name}"] = part
        self._amend(schema)
        return schema

    def _amend(self, schema: dict[str, Any]) -> None:
        """Replace components by references, and allow interpolations."""
        for name, value in schema.get("properties", {}).items():
            notes = {key: value[key] for key in ("description", "default") if key in value}
            kind = value.pop("component", None)
            bare = {key: part for key, part in value.items() if key not in (*notes, "title")}
            forms = bare["anyOf"] if set(bare) == {"anyOf"} else [bare]
            if kind is not None:
                forms = [self._component_form(form, kind) for form in forms]
                value = {**({"anyOf": forms} if len(forms) > 1 else forms[0]), **notes}
            elif name != OVERLAYS_KEY and (value.get("type") != "string" or "enum" in value):
                value = {"anyOf": [*forms, {"$ref": "#/$defs/interpolation"}], **notes}
            value.pop("title", None)
            schema["properties"][name] = value
        schema.pop("title", None)

    def _component_form(self, form: dict[str, Any], kind: str) -> dict[str, Any]:
        """Return a form of a component, a list of them, or null."""
        if form.get("type") == "array":
            return {"type": "array", "items": self._component_form(form["items"], kind)}
        return {"$ref": self.component(kind)} if "$ref" in form else form

    def component(self, kind: str) -> str:
        """Return a reference to the choice of all components of a kind."""
        if kind not in self.definitions:
            self.definitions[kind] = {}  # a placeholder while components refer to each other
            options = [self._option(entry.inspect()) for entry in self.registry.entries(kind)]
            self.definitions[kind] = {"oneOf": [option for option in options if option]}
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
