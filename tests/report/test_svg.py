"""Inline SVG of figures: colours of the page, unique ids, text kept as text, nothing from elsewhere."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

from flowgmm_cli.evaluation.metrics import classification_metrics, log_probabilities
from flowgmm_cli.report.confusion import confusion_figure
from flowgmm_cli.report.figures import ACCENT, INK, SOLID, heading, new_figure
from flowgmm_cli.report.svg import svg, svg_width


def drawing(name: str, title: str = "a title") -> str:
    figure = new_figure(3, 2)
    axes = figure.subplots()
    axes.plot([1, 2], [3, 4], color=ACCENT)
    axes.scatter([1, 2], [3, 4], color=INK, rasterized=True)
    heading(axes, title)
    return svg(figure, name=name, label='what it "shows" & <more>')


def test_it_is_one_element_without_an_address() -> None:
    text = drawing("a")
    root = ElementTree.fromstring(text)
    assert root.tag == "svg"
    assert root.get("aria-label") == 'what it "shows" & <more>'
    assert "http" not in text
    assert "xmlns" not in text
    assert not {"script", "style", "metadata"} & {one.tag for one in root.iter()}


def test_colours_are_the_pages_own() -> None:
    text = drawing("a")
    assert "var(--accent)" in text
    assert "var(--ink)" in text
    assert ACCENT not in text
    assert INK not in text


def test_ids_of_two_figures_differ_and_references_follow() -> None:
    one, two = drawing("one"), drawing("two")
    ids = [re.findall(r' id="([^"]+)"', text) for text in (one, two)]
    assert not set(ids[0]) & set(ids[1])
    for text, known in zip((one, two), ids, strict=True):
        used = re.findall(r'href="#([^"]+)"', text) + re.findall(r"url\(#([^)]+)\)", text)
        assert used
        assert set(used) <= set(known)


def test_text_stays_text_whatever_it_says() -> None:
    title = 'style="#1f2933" <script> 漢字 $x$ id="y"'
    root = ElementTree.fromstring(drawing("a", title))
    assert title in [one.text for one in root.iter("text")]


def test_clouds_of_dots_are_pictures_within() -> None:
    assert 'href="data:image/png;base64,' in drawing("a")


def test_a_solid_part_keeps_its_colours() -> None:
    figure = new_figure(2, 2)
    figure.text(0.5, 0.5, "kept", color="white", gid=f"{SOLID}-1")
    figure.text(0.5, 0.2, "themed", color="white")
    text = svg(figure, name="a", label="")
    kept = next(one for one in ElementTree.fromstring(text).iter("text") if one.text == "kept")
    assert "var(--paper)" not in str(kept.get("style"))
    assert "var(--paper)" in text


def test_numbers_on_dark_cells_are_white_on_any_paper() -> None:
    p = log_probabilities(np.eye(2)[[0, 0, 0, 1]] * 0.8 + 0.1)
    found = classification_metrics(p, np.array([0, 0, 0, 1]), resamples=0)
    root = ElementTree.fromstring(svg(confusion_figure(found), name="a", label=""))
    three = next(one for one in root.iter("text") if one.text == "3")
    assert "#ffffff" in str(three.get("style"))


def test_the_width_is_in_points() -> None:
    assert 180 < svg_width(drawing("a")) < 240
