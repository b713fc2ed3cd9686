"""Knows what a recipe can hold at each path, as far as it is chosen: kinds, models and defaults."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flowgmm_cli.errors import PluginError
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe import fields
from flowgmm_cli.recipe.node import Node, Path, node_of
from flowgmm_cli.recipe.schema import RecipeModel


class Layout:
    """The shape of one recipe tree.

    Args:
        root: the recipe's mapping; looked at anew on every call.
        registry: resolves `use`.
    """

    def __init__(self, root: Node, registry: Registry) -> None:
        self.root = root
        self.registry = registry

    def kind_at(self, path: Path) -> str | None:
        """The kind of component that the mapping at `path` describes; None if it is none."""
        if not path:
            return None
        field, around = self._field_at(path), self._field_at(path[:-1])
        if field is None and around is not None and fields.is_list(around):
            field = around
        return fields.component_kind(field) if field else None

    def has_keys(self, path: Path) -> bool:
        """Whether a mapping at `path` is a section or component, with known keys; not a value by itself."""
        field = self._field_at(path)
        if field is None:
            return self.kind_at(path) is not None
        if fields.component_kind(field) is not None:
            return not fields.is_list(field)
        return fields.nested_model(field) is not None

    def write_default(self, path: Path) -> None:
        """Write the default of the key at `path` into the tree, if the key is missing and has one.

        A component mapping without `use` gets the default's.
        """
        holder = self.root.at(path[:-1])
        field = self._field_at(path)
        if field is None or field.is_required() or holder is None or not isinstance(holder.value, dict):
            return
        default = fields.default_of(field)
        key = str(path[-1])
        current = holder.value.get(key)
        if current is None:
            if default is not None:
                holder.value[key] = node_of(default)
            return
        is_component = fields.component_kind(field) is not None and isinstance(default, dict)
        if is_component and isinstance(current.value, dict) and "use" not in current.value:
            current.value = {"use": node_of(default["use"]), **current.value}

    def _field_at(self, path: Path) -> FieldInfo | None:
        model = self._model_at(path[:-1]) if path else None
        return model.model_fields.get(str(path[-1])) if model else None

    def _model_at(self, path: Path) -> type[BaseModel] | None:
        """The model whose keys stand in the mapping at `path`; None where that is not (yet) known."""
        model: type[BaseModel] | None = RecipeModel
        depth = 0
        while depth < len(path):
            field = model.model_fields.get(str(path[depth])) if model else None
            if field is None:
                return None
            kind = fields.component_kind(field)
            depth += 1
            if kind is None:
                model = fields.nested_model(field)
                continue
            if fields.is_list(field):
                if depth == len(path):
                    return None
                depth += 1
            model = self._config_of(kind, self.root.at(path[:depth]))
        return model

    def _config_of(self, kind: str, node: Node | None) -> type[BaseModel] | None:
        use = node.child("use") if node is not None else None
        if use is None or not isinstance(use.value, str):
            return None
        try:
            return self.registry.find(kind, use.value).spec().config
        except PluginError:  # reported by the validation, with its place
            return None
