"""Where a view acts: on texts, on inputs or on features, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from flowgmm_cli.api import Component, Level, ViewSpec
from flowgmm_cli.plugins.registry import registry


def level_of(view: Component) -> Level:
    """The level of a view of a recipe."""
    return cast(ViewSpec, registry().find("view", view.use).spec()).level


def at_level(level: Level, views: Sequence[Component]) -> list[Component]:
    """The views of one level, in their order."""
    return [view for view in views if level_of(view) == level]
