"""The page of a run: self-contained, escaped, and complete when parts are missing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.page import Paragraph, Part, Plot, Section, Table, Unavailable
from flowgmm_cli.report.report import SECTIONS, Report, write_report
from flowgmm_cli.report.tables import settings_section
from flowgmm_cli.runs import Run

VOID = {"meta", "link", "img", "br", "hr", "input"}
FETCHING = {"script", "iframe", "object", "embed", "audio", "video", "source", "base", "form"}


class Page(HTMLParser):
    """Collects references and texts of a page, and checks that elements are closed."""

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
        assert all(url.startswith("#") for url in re.findall(r"url\(['\"]?([^)'\"]*)", style))
    assert len(set(page.ids)) == len(page.ids)
    known = set(page.ids)
    assert all(address[1:] in known for address in page.addresses if address.startswith("#"))


@dataclass(frozen=True)
class WrittenReport:
    """A report as it was written and read back."""

    report: Report
    page: Page
    html: str
    folder: Path

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.page.texts).split())

    @property
    def unavailable(self) -> dict[str, str]:
        sections = self.report.sections
        return {section.id: section.reason for section in sections if isinstance(section, Unavailable)}

    def parts(self, key: str) -> Sequence[Part]:
        section = next(section for section in self.report.sections if section.id == key)
        assert isinstance(section, Section)
        return section.parts


def write(context: ReportContext, folder: Path) -> WrittenReport:
    report = write_report(context, folder / "some.html")
    html = report.path.read_text(encoding="utf-8")
    return WrittenReport(report, Page(html), html, folder)


@pytest.fixture(scope="session")
def report_page(_awkward: Path, tmp_path_factory: pytest.TempPathFactory) -> WrittenReport:
    """The complete report of the awkward run."""
    context = ReportContext(Run(_awkward / "one"), DataContext(offline=True))
    return write(context, tmp_path_factory.mktemp("report"))


def test_the_page_refers_to_nothing_outside_itself(report_page: WrittenReport) -> None:
    requires_nothing(report_page.page)
    assert "http" not in report_page.html.replace("http-equiv", "")
    assert "default-src 'none'" in report_page.html


def test_user_chosen_names_are_plain_text(report_page: WrittenReport, names: tuple[str, ...]) -> None:
    assert "<script" not in report_page.html
    assert "<i>" not in report_page.html
    assert "<b>" not in report_page.html
    text = " ".join(report_page.page.texts)
    for name in names:
        assert name in text


def test_the_report_has_every_section_and_every_figure_a_caption(report_page: WrittenReport) -> None:
    sections = report_page.report.sections
    assert [section.id for section in sections] == [key for key, _, _ in SECTIONS]
    assert set(report_page.unavailable) == {"baselines", "race"}
    parts = [part for section in sections if isinstance(section, Section) for part in section.parts]
    plots = [part for part in parts if isinstance(part, Plot)]
    assert {"loss", "confusion", "reliability", "latent", "ood"} <= {plot.name for plot in plots}
    assert all(len(plot.caption) > 40 for plot in plots)
    assert report_page.page.tags.count("figcaption") >= len(plots)
    assert report_page.page.tags.count("img") == len(plots)


def test_figures_are_png_files_beside_the_page(report_page: WrittenReport) -> None:
    assert report_page.report.figures
    for name, path in report_page.report.figures.items():
        assert path == report_page.folder / "some" / f"{name}.png"
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_summary_states_accuracy_and_confidence(
    report_page: WrittenReport, context: ReportContext
) -> None:
    evaluation = context.evaluation
    assert evaluation is not None
    metrics = evaluation.classification
    interval = metrics.intervals["accuracy"]
    assert f"{100 * metrics.accuracy:.1f} % of the predicted classes are right" in report_page.text
    assert f"between {100 * interval.low:.1f} % and {100 * interval.high:.1f} %" in report_page.text
    assert "12 test rows are few" in report_page.text
    assert "Its mean confidence on the test rows is" in report_page.text


def test_the_settings_section_names_overlays(awkward: Run) -> None:
    def texts() -> list[str]:
        parts = settings_section(ReportContext(awkward, DataContext()))
        return [part.text for part in parts if isinstance(part, Paragraph)]

    assert not [text for text in texts() if "verlay" in text]
    awkward.update(overlays=["cpu", "short"])
    assert "Overlays of the recipe: cpu, short" in texts()


def test_samples_are_rows_in_the_columns_of_the_input(report_page: WrittenReport) -> None:
    table = report_page.parts("samples")[-1]
    assert isinstance(table, Table)
    assert {"class", "log_density", "x<b>&1", "x2"} <= set(table.columns)
    assert len(table.rows) == 2 * 3


def test_scores_are_compared_with_pseudo_ood_rows(report_page: WrittenReport, context: ReportContext) -> None:
    detector = context.trained.detector
    assert detector is not None
    table = next(part for part in report_page.parts("ood") if isinstance(part, Table))
    assert {row[0] for row in table.rows} <= set(detector.names)
    assert f"{detector.default}" in report_page.text
    assert "pseudo-OOD rows" in report_page.text


def test_missing_data_makes_only_its_own_sections_unavailable(awkward: Run, tmp_path: Path) -> None:
    recipe = awkward.path / "resolved.yaml"
    recipe.write_text(re.sub(r"path: .*csv.*", "path: gone.csv", recipe.read_text(encoding="utf-8")))
    written = write(ReportContext(awkward, DataContext(offline=True)), tmp_path)
    assert "no such file: gone.csv" in written.unavailable["latent"]
    assert not {"summary", "curves", "classes", "confusion", "reliability"} & set(written.unavailable)
    assert "Counts by class cannot be shown" in written.text
    requires_nothing(written.page)


def test_a_failed_run_still_has_a_report(awkward: Run, tmp_path: Path) -> None:
    for name in ("model.json", "model.safetensors"):
        (awkward.path / name).unlink()
    shutil.rmtree(awkward.path / "eval")
    info = json.loads((awkward.path / "run.json").read_text(encoding="utf-8"))
    for key in ("test", "calibration", "best"):
        info.pop(key)
    info |= {"status": "failed", "error": "<b>it broke</b>"}
    (awkward.path / "run.json").write_text(json.dumps(info), encoding="utf-8")
    written = write(ReportContext(awkward, DataContext()), tmp_path)
    assert not {"summary", "curves", "settings", "versions"} & set(written.unavailable)
    assert "its status is" in written.text
    assert "(<b>it broke</b>)" in written.text
    requires_nothing(written.page)


@pytest.mark.parametrize("damage", ["{", "[]", '{"split": "test"}'])
def test_a_damaged_file_makes_only_its_own_sections_unavailable(
    awkward: Run, tmp_path: Path, damage: str
) -> None:
    (awkward.path / "eval" / "test.json").write_text(damage, encoding="utf-8")
    (awkward.path / "search.json").write_text('{"candidates": [{}]}', encoding="utf-8")
    warnings: list[str] = []
    context = ReportContext(awkward, DataContext(), warn=warnings.append)
    unavailable = write(context, tmp_path).unavailable
    assert {"classes", "confusion", "reliability", "race"} <= set(unavailable)
    assert "latent" not in unavailable
    assert any("Search over settings" in line for line in warnings)


def test_the_report_shows_baselines_and_the_search(awkward: Run, tmp_path: Path) -> None:
    file = awkward.path / "eval" / "test.json"
    value = json.loads(file.read_text(encoding="utf-8"))
    metrics = {"accuracy": 0.25, "balanced_accuracy": 0.3, "macro_f1": 0.2, "nll": 1.5, "ece": 0.1}
    value["baselines"] = {"knn": {**metrics, "seconds": 0.1, "settings": {}}}
    file.write_text(json.dumps(value), encoding="utf-8")
    candidate: dict[str, Any] = {
        "name": "<deep>",
        "changes": {"flow.couplings": 4},
        "nll": 0.4,
        "accuracy": 0.9,
    }
    candidate |= {"agreement": 0.8, "density": -1.0, "seconds": 3.0, "score": -0.26}
    search = {"kept": ["<deep>"], "reason": "it won", "candidates": [candidate]}
    (awkward.path / "search.json").write_text(json.dumps(search), encoding="utf-8")
    written = write(ReportContext(awkward, DataContext()), tmp_path)
    assert "kNN did best among 1 simpler methods" in written.text
    assert "with 25.0 %" in written.text
    assert "<deep> (kept)" in written.text
    assert "flow.couplings = 4" in written.text


def test_the_json_names_the_page_its_sections_and_figures(report_page: WrittenReport) -> None:
    value = report_page.report.to_dict("RUN")
    page = str(report_page.folder / "some.html")
    assert (value["schema"], value["run"], value["report"]) == ("flowgmm/report/1", "RUN", page)
    assert {section["id"] for section in value["sections"]} == {key for key, _, _ in SECTIONS}
    assert all(section["made"] == (section["reason"] is None) for section in value["sections"])
    assert all(Path(path).is_file() for path in value["figures"].values())
