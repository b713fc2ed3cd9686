"""Problems of a recipe: collected while validating, then raised together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowgmm_cli.errors import FlowgmmError, PluginError, RecipeError
from flowgmm_cli.recipe.node import Mark, Node, Path, describe, dotted

_HINT = (
    "`flowgmm recipes schema` has every key with its values; `flowgmm plugins describe NAME` a component's"
)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: the key.
        message: what is wrong with it.
        mark: where it stands.
        replaced: what the file says there, if an override or overlay set it.
        cause: the error behind it, if a component cannot be used.
        hint: the next step.
    """

    path: Path
    message: str
    mark: Mark
    replaced: Node | None = None
    cause: PluginError | None = None
    hint: str | None = None

    def place(self, source: str) -> str:
        """`file:line` for what is written in the file, the bare file name for what is not in it."""
        if self.mark.word is not None:
            return ""
        return f"{source}:{self.mark.line}" if self.mark.line else source

    def text(self, *, with_cause: bool = True) -> str:
        """The message, and what a reader of the command line must know beside it."""
        message = self.message
        if with_cause and self.cause is not None:
            message = "; ".join([message, *self.cause.details])
        if self.mark.word is None and self.mark.overlay is None:
            return message
        aside = "from the command line"
        if self.mark.overlay is not None:
            aside = f"from the overlay `{self.mark.overlay}`"
        if self.replaced is not None and self.replaced.mark.line:
            old = self.replaced.plain()
            says = f"`{old}`" if isinstance(old, str) else describe(old).removeprefix("the number ")
            aside += f"; the file says {says} at line {self.replaced.mark.line}"
        return f"{message} ({aside})"


def raise_problems(problems: Sequence[Problem], source: str, overlays: Sequence[str] = ()) -> None:
    """Raise all problems as one error; do nothing if there are none.

    Args:
        problems: in any order.
        source: the file.
        overlays: those that were applied to it.

    Raises:
        PluginError: every problem is a component that cannot be used.
        RecipeError: there are other problems.
    """
    if not problems:
        return
    ordered = sorted(problems, key=lambda one: (one.mark.word is not None, one.mark.line, one.mark.column))
    alone = len(ordered) == 1
    rows = [(one.place(source), dotted(one.path), one.text(with_cause=not alone)) for one in ordered]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = ["  ".join([row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2]]) for row in rows]
    details = [line if widths[0] else line.strip() for line in lines]
    hint = next((one.hint for one in ordered if one.hint), _HINT)
    causes = [one.cause for one in ordered if one.cause is not None]
    if len(causes) < len(ordered):
        count = "1 problem" if len(ordered) == 1 else f"{len(ordered)} problems"
        applied = "".join(f" --overlay {name}" for name in overlays)
        raise RecipeError(f"{source}{applied} has {count}", details=details, hint=hint)
    error: FlowgmmError
    if len(causes) == 1:
        error = PluginError(details[0], details=causes[0].details, hint=causes[0].hint)
    else:
        error = PluginError(
            f"{source} names {len(causes)} components that cannot be used",
            details=details,
            hint=causes[0].hint,
        )
    raise error from causes[0]
