"""Subcommands that are imported when they are used; a help page needs no more than names and summaries."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class LazyCommand(TyperCommand):
    """Stands for a subcommand, or a group of them, until its words are parsed.

    Args:
        name: what the user types.
        summary: the first paragraph of its help.
        place: `package.module:attribute` of the function, or of a group's Typer application. A module may
            have a class `Command` for its function.
    """

    def __init__(self, name: str, summary: str, place: str) -> None:
        super().__init__(name, help=summary)
        self._place = place

    def load(self) -> Any:
        """The command itself."""
        path, _, attribute = self._place.partition(":")
        module = import_module(path)
        found = getattr(module, attribute)
        app = typer.Typer(pretty_exceptions_enable=False)
        app.callback()(_nothing)  # an application with a single command would be that command
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=self.name)
        else:
            app.command(self.name, cls=getattr(module, "Command", TyperCommand))(found)
        group: Any = typer.main.get_command(app)
        return group.commands[self.name]

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the words as the command itself does; the context is the command's own."""
        return self.load().make_context(info_name, args, parent=parent, **extra)


def lazy_group(commands: dict[str, tuple[str, str]]) -> type[TyperGroup]:
    """A class of groups with these commands: name -> (summary, place), in the order of the help page."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            for name, (summary, place) in commands.items():
                self.add_command(LazyCommand(name, summary, place))

    return LazyGroup


def _nothing() -> None:
    pass
