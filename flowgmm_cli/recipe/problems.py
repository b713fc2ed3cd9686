"""Problems of a recipe: collected while validating, then raised together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowgmm_cli.errors import PluginError, RecipeError
from flowgmm_cli.recipe.node import Mark, Node, Path, describe, format_path

_HINT = (
    "`flowgmm recipes schema` has every key with its values; `flowgmm plugins describe NAME` a component's"
)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    path: Path  # the key
    message: str  # the reason
    mark: Mark  # the place
    replaced: Node | None = None  # the value in the file, if an override or overlay replaced it
    cause: PluginError | None = None  # the error behind it, if a component cannot be used
    hint: str | None = None  # the next step

    def place(self, source: str) -> str:
        """Return `file:line`; the bare file name for a default, nothing for the command line."""
        if self.mark.word is not None:
            return ""
        return f"{source}:{self.mark.line}" if self.mark.line else source

    def text(self, *, with_cause: bool = True) -> str:
        """Return the message with its cause, and with the origin of a value that is not the file's own."""
        message = self.message
        if with_cause and self.cause is not None:
            message = "; ".join([message, *self.cause.details])
        if self.mark.word is None and self.mark.overlay is None:
            return message
        origin = "from the command line"
        if self.mark.overlay is not None:
            origin = f"from the overlay `{self.mark.overlay}`"
        if self.replaced is not None and self.replaced.mark.line:
            old = self.replaced.plain()
            text = f"`{old}`" if isinstance(old, str) else describe(old).removeprefix("the number ")
            origin += f"; the file says {text} at line {self.replaced.mark.line}"
        return f"{message} ({origin})"


def raise_problems(problems: Sequence[Problem], source: str, overlays: Sequence[str] = ()) -> None:
    """Raise all problems of the file `source` as one error; do nothing if the list is empty.

    It is a `PluginError` if every problem is a component that cannot be used, else a `RecipeError`.
    """
    if not problems:
        return
    ordered = sorted(
        problems, key=lambda problem: (problem.mark.word is not None, problem.mark.line, problem.mark.column)
    )
    details = _format_lines(ordered, source)
    causes = [problem.cause for problem in ordered if problem.cause is not None]
    if len(causes) < len(ordered):
        count = "1 problem" if len(ordered) == 1 else f"{len(ordered)} problems"
        applied = "".join(f" --overlay {name}" for name in overlays)
        hint = next((problem.hint for problem in ordered if problem.hint), _HINT)
        raise RecipeError(f"{source}{applied} has {count}", details=details, hint=hint)
    if len(causes) == 1:
        raise PluginError(details[0], details=causes[0].details, hint=causes[0].hint) from causes[0]
    message = f"{source} names {len(causes)} components that cannot be used"
    raise PluginError(message, details=details, hint=causes[0].hint) from causes[0]


def _format_lines(problems: Sequence[Problem], source: str) -> list[str]:
    """Return a line `place  key  message` for each problem, in columns."""
    with_cause = len(problems) > 1
    rows = [
        (problem.place(source), format_path(problem.path), problem.text(with_cause=with_cause))
        for problem in problems
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = ["  ".join([row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2]]) for row in rows]
    return [line if widths[0] else line.strip() for line in lines]
