"""Self-contained HTML pages: sections of prose, tables and figures, put together by an escaping template.

Nothing in a page comes from elsewhere: figures are inline SVG, pictures data URIs, the style sheet is in the
head, and there is no script. A content security policy in the head forbids everything else to the browser.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flowgmm_cli.report.figures import png
from flowgmm_cli.report.svg import svg, svg_width

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Prose:
    """A paragraph; `lead` is larger, `note` smaller and grey."""

    text: str
    style: Literal["", "lead", "note"] = ""
    kind: Literal["prose"] = "prose"


@dataclass(frozen=True)
class Tile:
    """A number that matters: what it is, the number, and how sure it is."""

    name: str
    value: str
    below: str = ""


@dataclass(frozen=True)
class Tiles:
    """Numbers side by side."""

    tiles: Sequence[Tile]
    kind: Literal["tiles"] = "tiles"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: headings.
        rows: cells; None is an empty one.
        caption: what the table says.
        right: headings of columns that are aligned right.
        strong: rows that stand out, by position.
        folded: a line to click on that shows the table; empty where it is shown at once.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    right: Sequence[str] = ()
    strong: Sequence[int] = ()
    folded: str = ""
    kind: Literal["grid"] = "grid"


@dataclass(frozen=True)
class Code:
    """Text as it is, such as a recipe, behind a line to click on."""

    text: str
    folded: str
    kind: Literal["code"] = "code"


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: of its file, and unique within the page.
        markup: an `<svg>` or `<img>` element.
        png: the same as a PNG file.
        caption: what it shows and how to read it.
        width: in points, as drawn.
    """

    name: str
    markup: str
    png: bytes
    caption: str
    width: float = 0.0
    kind: Literal["picture"] = "picture"


Part = Prose | Tiles | Table | Code | Picture


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading.

    Attributes:
        id: what links point to.
        title: the heading.
        parts: what stands under it.
        missing: why it could not be made; empty if it could.
    """

    id: str
    title: str
    parts: Sequence[Part] = field(default_factory=tuple)
    missing: str = ""

    @property
    def pictures(self) -> list[Picture]:
        """Its figures."""
        return [part for part in self.parts if isinstance(part, Picture)]


def picture(figure: Figure, *, name: str, caption: str) -> Picture:
    """A figure of ours as part of a page."""
    markup = svg(figure, name=name, label=caption)
    return Picture(name, markup, png(figure), caption, svg_width(markup))


def image(data: bytes, *, name: str, caption: str, width: float) -> Picture:
    """A PNG file as part of a page."""
    from markupsafe import Markup

    address = "data:image/png;base64," + base64.b64encode(data).decode()
    markup = Markup('<img class="plot" src="{}" alt="{}">').format(address, caption)
    return Picture(name, str(markup), data, caption, width)


def render(
    *, title: str, subtitle: str, sections: Sequence[Section], footer: str, contents: bool = True
) -> str:
    """The page as one HTML document.

    Args:
        title: the heading.
        subtitle: the line under it.
        sections: in order.
        footer: the last line.
        contents: whether links to the sections stand at the top.
    """
    return (
        _environment()
        .get_template("page.html.j2")
        .render(title=title, subtitle=subtitle, sections=sections, footer=footer, contents=contents)
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # what `picture` and `image` made has been escaped by those who made it
    environment.filters["drawn"] = lambda part: Markup(part.markup)
    environment.filters["spoken"] = _spoken
    return environment


def _spoken(text: str) -> Markup:
    """Text, escaped, with what stands between backticks as code."""
    from markupsafe import Markup, escape

    parts = str(text).split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner is just that
        return escape(text)
    code = [
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    ]
    return Markup("").join(code)
