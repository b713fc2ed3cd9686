"""Figures as inline SVG that takes its colours from the page, so that it is at home on light and dark paper.

What matplotlib writes is parsed and written anew: without namespaces, metadata and style sheets, hence
without a single address in it; ids are made unique to the figure; text stays text, in the page's font.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from flowgmm_cli.report.figures import ACCENT, FAINT, GREY, INK, PALE, SECOND, SOLID

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {
    INK: "var(--ink)",
    GREY: "var(--grey)",
    FAINT: "var(--faint)",
    PALE: "var(--pale)",
    ACCENT: "var(--accent)",
    SECOND: "var(--second)",
    "#ffffff": "var(--paper)",
    "#000000": "var(--ink)",
}
_FONT = re.compile(r"font(?:-family|-size)?:[^;]*;?|text-anchor:[^;]*;?")
_SIZE = re.compile(r"([\d.]+)px")
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_SERIAL = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>", re.DOTALL)
_DPI = 130  # of what stays a picture: clouds of dots, heat maps


def svg(figure: Figure, *, name: str, label: str) -> str:
    """The figure as one `<svg>` element for a page that defines the colours.

    Parts of the figure whose `gid` begins with `SOLID` keep their colours on any paper.

    Args:
        figure: drawn with the colours of `canvas`.
        name: unique within the page; begins every id.
        label: what the figure shows, for those who cannot see it.
    """
    from matplotlib import rc_context

    file = io.BytesIO()
    with warnings.catch_warnings(), rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        warnings.simplefilter("ignore")  # of letters that matplotlib's font lacks: the reader's has them
        figure.savefig(
            file,
            format="svg",
            dpi=_DPI,
            bbox_inches="tight",
            pad_inches=0.06,
            transparent=True,
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
    root = ElementTree.fromstring(_SERIAL.sub("", file.getvalue().decode()))
    for parent in list(root.iter()):
        for child in list(parent):
            if _tag(child) in ("metadata", "style"):
                parent.remove(child)
    _rewrite(root, name, solid=False)
    box = root.get("viewBox", "0 0 100 100")
    root.attrib.clear()
    root.attrib |= {"viewBox": box, "role": "img", "aria-label": label, "class": "plot"}
    return ElementTree.tostring(root, encoding="unicode")


def svg_width(text: str) -> float:
    """Width of an `<svg>` element in its own units, which are points."""
    found = re.search(r'viewBox="[\d.-]+ [\d.-]+ ([\d.]+)', text)
    return float(found[1]) if found else 0.0


def _rewrite(element: ElementTree.Element, name: str, *, solid: bool) -> None:
    """Make names plain, ids the figure's own and colours the page's, in an element and all below it."""
    element.tag = _tag(element)
    solid = solid or (element.get("id") or "").startswith(SOLID)
    attributes: dict[str, str] = {}
    for long, value in element.attrib.items():
        key = long.rpartition("}")[2]
        if key == "id":
            value = f"{name}-{value}"
        elif key == "href" and value.startswith("#"):
            value = f"#{name}-{value[1:]}"
        elif key in ("style", "clip-path", "fill", "stroke"):
            value = _REFERENCE.sub(rf"url(#{name}-\1)", value)
            value = value if solid else _themed(value)
        attributes[key] = value
    if element.tag == "text" and "style" in attributes:
        _own_font(attributes)
    else:
        element.text = (element.text or "").strip()
    element.tail = ""
    element.attrib.clear()
    element.attrib |= attributes
    for child in element:
        _rewrite(child, name, solid=solid)


def _themed(style: str) -> str:
    for colour, variable in _COLOURS.items():
        style = style.replace(colour, variable)
    return style


def _own_font(attributes: dict[str, str]) -> None:
    """Keep size, weight and place of a text, but let the page choose the font."""
    style = attributes["style"]
    size = _SIZE.search(style)
    weight = re.search(r"\b(bold|700)\b", style)
    anchor = re.search(r"text-anchor: *(\w+)", style)
    mono = "mono" in style.lower()
    rest = _FONT.sub("", style).strip(" ;")
    parts = [f"font-size:{size[1]}px"] if size else []
    parts += ["font-weight:700"] if weight else []
    parts += [f"text-anchor:{anchor[1]}"] if anchor else []
    parts += ["font-family:var(--mono);white-space:pre"] if mono else []
    attributes["style"] = ";".join([*parts, rest] if rest else parts)
    # text without a colour of its own is black on any paper; the page's ink is what is meant
    if "fill" not in rest:
        attributes["style"] += ";fill:var(--ink)"


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
