"""Self-contained HTML pages: sections of paragraphs, tables and figures in an escaping template.

A page refers to nothing outside itself: figures are data URIs, the style sheet is in the head, and there is
no script. A content security policy in the head forbids the browser everything else.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from flowgmm_cli import __version__
from flowgmm_cli.messages import escape_controls
from flowgmm_cli.report.figures import png, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WHOLE_LETTERS = 28  # of a cell that is not wrapped
_ID_LETTERS = 40  # the same, without a blank


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `lead` is larger, `note` smaller and grey."""

    text: str
    style: Literal["", "lead", "note"] = ""
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Tiles:
    """Key figures side by side: name, value, and a line such as the confidence interval below."""

    tiles: Sequence[tuple[str, str, str]]
    kind: ClassVar[str] = "tiles"


@dataclass(frozen=True)
class Table:
    """A table."""

    columns: Sequence[str]  # headings
    rows: Sequence[Sequence[Any]]  # cells; None is an empty one
    caption: str = ""  # the meaning of the table
    right: Sequence[str] = ()  # headings of columns that are aligned right
    highlight: Sequence[str] = ()  # first cells of rows that stand out
    summary: str = ""  # a line to click on that opens the table; empty if the table is shown at once
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Code:
    """Verbatim text such as a recipe, behind a line to click on."""

    text: str
    summary: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Plot:
    """A figure."""

    name: str  # of its file, unique within the page
    svg: bytes  # svg, png: the figure in both formats
    png: bytes
    caption: str  # its content and how to read it
    kind: ClassVar[str] = "plot"

    @property
    def data_uri(self) -> str:
        """The SVG as an address that holds its data."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode()


Part = Paragraph | Tiles | Table | Code | Plot


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading; `id` is the target of links."""

    id: str
    title: str
    parts: Sequence[Part] = ()
    reason: str = ""  # of a section that the run has no data for


def plot(figure: Figure, *, name: str, caption: str) -> Plot:
    """Encode a matplotlib figure as a part of a page."""
    return Plot(name, svg(figure), png(figure), caption)


def render(*, title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Render the page as one HTML document, with links to the sections at the top."""
    template = _ENVIRONMENT.get_template("page.html.j2")
    time = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    footer = f"Made by flowgmm {__version__} on {time}. This file is self-contained."
    return template.render(title=title, subtitle=subtitle, sections=sections, footer=footer)


def _mark_code(text: str) -> Markup:
    """Escape text and turn parts between backticks into code."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner stays a backtick
        return escape(text)
    return Markup("").join(
        Markup("<code{}>{}</code>").format(_cell_class(part), part) if index % 2 else escape(part)
        for index, part in enumerate(parts)
    )


def _cell_class(cell: Any, right: bool = False) -> Markup:
    """Return the class attribute of a cell or code: numbers at the right, ids and short texts on a line."""
    text = str(cell)
    is_whole = len(text) <= _WHOLE_LETTERS or (len(text) <= _ID_LETTERS and " " not in text)
    names = ["right"] * right + ["whole"] * is_whole
    return Markup(' class="{}"').format(" ".join(names)) if names else Markup("")


def _show_controls(value: Any) -> Any:
    """Show the control characters of a text or of markup; other values stay."""
    return type(value)(escape_controls(value, keep="\n\t")) if isinstance(value, str) else value


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    finalize=_show_controls,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["backticks"] = _mark_code
_ENVIRONMENT.filters["cell_class"] = _cell_class
