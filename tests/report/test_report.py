"""The page of a run: self-contained, safe against what users write, and whole when parts are missing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.report.context import ReportContext, load_report_context
from flowgmm_cli.report.page import Prose, Table
from flowgmm_cli.report.provenance import settings
from flowgmm_cli.report.report import SECTIONS, Report, write_report
from flowgmm_cli.runs import Run

VOID = {"meta", "link", "img", "br", "hr", "input"}
FETCHING = {"script", "iframe", "object", "embed", "audio", "video", "source", "base", "form"}


class Page(HTMLParser):
    """Collects what a page refers to and says, and checks that elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.styles: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
                self.addresses.append(value or "")
            if name == "style":
                self.styles.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.styles if self._open and self._open[-1] == "style" else self.texts).append(data)


def requires_nothing(page: Page) -> None:
    """Assert that a page has no address outside itself and no script."""
    assert not FETCHING & set(page.tags)
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    for style in page.styles:
        assert "@import" not in style
        assert all(found.startswith("#") for found in re.findall(r"url\(['\"]?([^)'\"]*)", style))
    assert len(set(page.ids)) == len(page.ids)
    known = set(page.ids)
    assert all(address[1:] in known for address in page.addresses if address.startswith("#"))


@dataclass(frozen=True)
class WrittenReport:
    """A report as it was written and read back."""

    written: Report
    page: Page
    text: str
    folder: Path

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.page.texts).split())


@pytest.fixture(scope="session")
def seen(_awkward: Path, tmp_path_factory: pytest.TempPathFactory) -> WrittenReport:
    """The report of the awkward run, nothing missing."""
    folder = tmp_path_factory.mktemp("report")
    material = load_report_context(Run(_awkward / "one"), context=DataContext(offline=True))
    return WrittenReport(*report_of(material, folder / "some.html"), folder)


def report_of(material: ReportContext, path: Path) -> tuple[Report, Page, str]:
    written = write_report(material, path)
    text = path.read_text(encoding="utf-8")
    return written, Page(text), text


def test_the_page_refers_to_nothing_outside_itself(seen: WrittenReport) -> None:
    requires_nothing(seen.page)
    assert "http" not in seen.text.replace("http-equiv", "")
    assert "default-src 'none'" in seen.text


def test_user_chosen_names_are_plain_text(seen: WrittenReport, names: tuple[str, ...]) -> None:
    assert "<script" not in seen.text
    assert "<i>" not in seen.text
    assert "<b>" not in seen.text
    said = " ".join(seen.page.texts)
    for name in names:
        assert name in said


def test_every_section_is_there_and_every_figure_has_a_caption(seen: WrittenReport) -> None:
    sections = seen.written.sections
    assert [one.id for one in sections] == [key for key, _, _ in SECTIONS]
    assert {one.id for one in sections if one.missing} == {"baselines", "race"}
    pictures = [picture for section in sections for picture in section.pictures]
    assert {"loss", "confusion", "reliability", "latent", "ood"} <= {one.name for one in pictures}
    assert all(len(one.caption) > 40 for one in pictures)
    assert seen.page.tags.count("figcaption") >= len(pictures)


def test_figures_are_png_files_beside_the_page(seen: WrittenReport) -> None:
    assert seen.written.figures
    for name, path in seen.written.figures.items():
        assert path == seen.folder / "some" / f"{name}.png"
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_summary_says_how_good_and_how_sure(seen: WrittenReport, material: ReportContext) -> None:
    evaluation = material.evaluation
    assert evaluation is not None
    found = evaluation.classification
    interval = found.intervals["accuracy"]
    assert f"{100 * found.accuracy:.1f} % of the predicted classes are right" in seen.said
    assert f"between {100 * interval.low:.1f} % and {100 * interval.high:.1f} %" in seen.said
    assert "12 test rows are few" in seen.said
    assert "Its mean confidence on the test rows is" in seen.said


def test_overlays_are_told_beside_the_words_of_the_command_line(material: ReportContext) -> None:
    def said(**changes: Any) -> list[str]:
        parts = settings(replace(material, info={**material.info, **changes}))
        return [part.text for part in parts if isinstance(part, Prose)]

    assert "Overlays of the recipe that were applied: cpu, short" in said(overlays=["cpu", "short"])
    assert not [text for text in said() if "verlay" in text]


def test_samples_are_rows_in_the_columns_of_the_input(seen: WrittenReport) -> None:
    grid = next(one for one in seen.written.sections if one.id == "samples").parts[-1]
    assert isinstance(grid, Table)
    assert {"class", "log_density", "x<b>&1", "x2"} <= set(grid.columns)
    assert len(grid.rows) == 2 * 3


def test_scores_are_compared_with_pseudo_ood_rows(seen: WrittenReport, material: ReportContext) -> None:
    detector = material.trained.detector
    assert detector is not None
    grids = [one for one in seen.written.sections[9].parts if isinstance(one, Table)]
    assert seen.written.sections[9].id == "ood"
    assert {row[0] for row in grids[0].rows} <= set(detector.names)
    assert f"{detector.default}" in seen.said
    assert "stand-ins" in seen.said


def test_data_that_is_gone_takes_its_own_sections_only(awkward: Run, tmp_path: Path) -> None:
    recipe = awkward.path / "resolved.yaml"
    recipe.write_text(re.sub(r"path: .*csv.*", "path: gone.csv", recipe.read_text(encoding="utf-8")))
    material = load_report_context(awkward, context=DataContext(offline=True))
    written, page, _ = report_of(material, tmp_path / "r.html")
    missing = {one.id: one.missing for one in written.sections if one.missing}
    assert "no such file: gone.csv" in missing["latent"]
    assert {"summary", "curves", "classes", "confusion", "reliability"} & set(missing) == set()
    assert "Counts by class cannot be shown" in " ".join(page.texts)
    requires_nothing(page)


def test_a_run_that_was_cut_off_still_has_a_report(awkward: Run, tmp_path: Path) -> None:
    for name in ("model.json", "model.safetensors"):
        (awkward.path / name).unlink()
    shutil.rmtree(awkward.path / "eval")
    info = json.loads((awkward.path / "run.json").read_text(encoding="utf-8"))
    for key in ("test", "calibration", "best"):
        info.pop(key)
    info |= {"status": "failed", "error": "<b>it broke</b>"}
    (awkward.path / "run.json").write_text(json.dumps(info), encoding="utf-8")
    written, page, _ = report_of(load_report_context(awkward, context=DataContext()), tmp_path / "r.html")
    made = {one.id for one in written.sections if not one.missing}
    assert {"summary", "curves", "settings", "versions"} <= made
    said = " ".join(page.texts)
    assert "its status is" in said
    assert "(<b>it broke</b>)" in said
    requires_nothing(page)


@pytest.mark.parametrize("damage", ["{", "[]", '{"split": "test"}'])
def test_a_damaged_file_takes_its_own_sections_only(awkward: Run, tmp_path: Path, damage: str) -> None:
    (awkward.path / "eval" / "test.json").write_text(damage, encoding="utf-8")
    (awkward.path / "search.json").write_text('{"candidates": [{}]}', encoding="utf-8")
    said: list[str] = []
    material = load_report_context(awkward, context=DataContext(), warn=said.append)
    written = write_report(material, tmp_path / "r.html")
    missing = {one.id: one.missing for one in written.sections if one.missing}
    assert {"classes", "confusion", "reliability", "race"} <= set(missing)
    assert "latent" not in missing
    assert any("Race of settings" in line for line in said)


def test_baselines_and_the_race_are_shown_where_there_are_any(awkward: Run, tmp_path: Path) -> None:
    file = awkward.path / "eval" / "test.json"
    value = json.loads(file.read_text(encoding="utf-8"))
    one = {"accuracy": 0.25, "balanced_accuracy": 0.3, "macro_f1": 0.2, "nll": 1.5, "ece": 0.1}
    value["baselines"] = {"knn": {**one, "seconds": 0.1, "settings": {}}}
    file.write_text(json.dumps(value), encoding="utf-8")
    candidate: dict[str, Any] = {
        "name": "<deep>",
        "changes": {"flow.couplings": 4},
        "nll": 0.4,
        "accuracy": 0.9,
    }
    candidate |= {"agreement": 0.8, "density": -1.0, "seconds": 3.0, "score": -0.26}
    race = {"kept": ["<deep>"], "reason": "it won", "candidates": [candidate]}
    (awkward.path / "search.json").write_text(json.dumps(race), encoding="utf-8")
    _, page, _ = report_of(load_report_context(awkward, context=DataContext()), tmp_path / "r.html")
    said = " ".join(page.texts)
    assert "kNN did best with 25.0 %" in said
    assert "<deep> (kept)" in said
    assert "flow.couplings = 4" in said


def test_the_json_names_the_page_its_sections_and_figures(seen: WrittenReport) -> None:
    value = seen.written.to_dict("RUN")
    page = str(seen.folder / "some.html")
    assert (value["schema"], value["run"], value["report"]) == ("flowgmm/report/1", "RUN", page)
    assert {one["id"] for one in value["sections"]} == {key for key, _, _ in SECTIONS}
    assert all(one["made"] == (one["reason"] is None) for one in value["sections"])
    assert all(Path(path).is_file() for path in value["figures"].values())
