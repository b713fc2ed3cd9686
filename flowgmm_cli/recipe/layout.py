"""The model, kind of component and default at each path of a recipe, as far as its components are chosen."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flowgmm_cli.errors import PluginError
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe import fields
from flowgmm_cli.recipe.node import Node, Path, make_node
from flowgmm_cli.recipe.schema import RecipeModel


class Layout:
    """The models behind the mappings of one recipe tree; each call reads the tree's current state."""

    def __init__(self, root: Node, registry: Registry) -> None:
        self.root = root
        self.registry = registry

    def kind_at(self, path: Path) -> str | None:
        """Return the kind of the component whose mapping is at `path`; None if it is not a component."""
        if not path:
            return None
        field, parent = self._field_at(path), self._field_at(path[:-1])
        if field is None and parent is not None and fields.is_list(parent):
            field = parent
        return fields.component_kind(field) if field else None

    def has_keys(self, path: Path) -> bool:
        """Return whether a mapping at `path` is a section or component with known keys."""
        field = self._field_at(path)
        if field is None:
            return self.kind_at(path) is not None
        if fields.component_kind(field) is not None:
            return not fields.is_list(field)
        return fields.inner_model(field) is not None

    def write_default(self, path: Path) -> None:
        """Write the default of the key at `path` into the tree, if the key is missing and has one.

        A component mapping without `use` gets the default's.
        """
        holder = self.root.get(path[:-1])
        field = self._field_at(path)
        if field is None or field.is_required() or holder is None or not isinstance(holder.value, dict):
            return
        default = fields.default_value(field)
        key = str(path[-1])
        current = holder.value.get(key)
        if current is None:
            if default is not None:
                holder.value[key] = make_node(default)
            return
        is_component = fields.component_kind(field) is not None and isinstance(default, dict)
        if is_component and isinstance(current.value, dict) and "use" not in current.value:
            current.value = {"use": make_node(default["use"]), **current.value}

    def _field_at(self, path: Path) -> FieldInfo | None:
        model = self._model_at(path[:-1]) if path else None
        return model.model_fields.get(str(path[-1])) if model else None

    def _model_at(self, path: Path) -> type[BaseModel] | None:
        """Return the model of the mapping at `path`; None if it has none, or none is chosen yet."""
        model: type[BaseModel] | None = RecipeModel
        depth = 0
        while depth < len(path):
            field = model.model_fields.get(str(path[depth])) if model else None
            if field is None:
                return None
            kind = fields.component_kind(field)
            depth += 1
            if kind is None:
                model = fields.inner_model(field)
                continue
            if fields.is_list(field):
                if depth == len(path):
                    return None
                depth += 1
            model = self._config_of(kind, self.root.get(path[:depth]))
        return model

    def _config_of(self, kind: str, node: Node | None) -> type[BaseModel] | None:
        use = node.child("use") if node is not None else None
        if use is None or not isinstance(use.value, str):
            return None
        try:
            return self.registry.find(kind, use.value).spec().config
        except PluginError:  # reported by the validation, with its place
            return None
