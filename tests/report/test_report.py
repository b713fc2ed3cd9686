"""The page of a run: self-contained, escaped, and complete when parts are missing."""

from __future__ import annotations

import errno
import json
import re
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.evaluation.metrics import Evaluation, classification_metrics
from flowgmm_cli.messages import escape_controls
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.page import Part, Plot, Table
from flowgmm_cli.report.report import SECTIONS, Report, write_report
from flowgmm_cli.runs import Run

VOID = {"meta", "link", "img", "br", "hr", "input"}
FETCHING = {"script", "iframe", "object", "embed", "audio", "video", "source", "base", "form"}
ADDRESSES = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


class Page(HTMLParser):
    """Collects elements and texts of a page, and checks that elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.styles: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.styles if self._open and self._open[-1] == "style" else self.texts).append(data)


def requires_nothing(page: Page) -> None:
    """Assert that a page has no address outside itself and no script."""
    assert not FETCHING & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    addresses = [value for name, value in page.attributes if name in ADDRESSES]
    assert all(address.startswith(("#", "data:")) for address in addresses)
    for style in [*page.styles, *(value for name, value in page.attributes if name == "style")]:
        assert "@import" not in style
        assert all(url.startswith("#") for url in re.findall(r"url\(['\"]?([^)'\"]*)", style))
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    assert {address[1:] for address in addresses if address.startswith("#")} <= set(ids)


@dataclass(frozen=True)
class WrittenReport:
    """A report as it was written and read back."""

    report: Report
    html: str

    @cached_property
    def page(self) -> Page:
        return Page(self.html)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.page.texts).split())

    @property
    def unavailable(self) -> dict[str, str]:
        return {item.id: item.reason for item in self.report.sections if item.reason}

    def parts(self, key: str = "") -> list[Part]:
        return [part for item in self.report.sections if key in ("", item.id) for part in item.parts]


def write(context: ReportContext, folder: Path) -> WrittenReport:
    report = write_report(context, folder / "some.html")
    return WrittenReport(report, report.path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def report_page(_awkward: Path, tmp_path_factory: pytest.TempPathFactory) -> WrittenReport:
    """The complete report of the awkward run."""
    context = ReportContext(Run(_awkward / "one"), DataContext(offline=True))
    return write(context, tmp_path_factory.mktemp("report"))


def test_the_page_refers_to_nothing_outside_itself(report_page: WrittenReport) -> None:
    requires_nothing(report_page.page)
    assert "http" not in report_page.html.replace("http-equiv", "")
    assert "default-src 'none'" in report_page.html


def test_reasons_of_doubtful_and_unlikely_rows(report_page: WrittenReport) -> None:
    section = next(section for section in report_page.report.sections if section.id == "reasons")
    doubtful, unlikely = (part for part in section.parts if isinstance(part, Table))
    assert len(doubtful.rows) == len(unlikely.rows) == 4
    assert unlikely.rows[0][3].startswith(("x2 ", "x<b>&1 "))
    assert "usual" in unlikely.rows[0][3]


def test_user_chosen_names_are_plain_text(report_page: WrittenReport, names: tuple[str, ...]) -> None:
    for markup in ("<script", "<i>", "<b>"):
        assert markup not in report_page.html
    text = " ".join(report_page.page.texts)
    for name in names:
        assert escape_controls(name) in text
    assert escape_controls(report_page.html, keep="\n") == report_page.html


def test_the_report_has_every_section_and_every_figure_a_caption_and_a_file(
    report_page: WrittenReport,
) -> None:
    assert [section.id for section in report_page.report.sections] == [key for key, _, _ in SECTIONS]
    assert set(report_page.unavailable) == {"baselines", "race", "unknown"}
    plots = [part for part in report_page.parts() if isinstance(part, Plot)]
    assert {"loss", "confusion", "reliability", "risk-coverage", "latent", "ood"} <= {
        plot.name for plot in plots
    }
    assert all(len(plot.caption) > 40 for plot in plots)
    assert report_page.page.tags.count("figcaption") >= len(plots)
    assert report_page.page.tags.count("img") == len(plots)
    folder = report_page.report.path.with_suffix("")
    assert report_page.report.figures == {plot.name: folder / f"{plot.name}.png" for plot in plots}
    for path in report_page.report.figures.values():
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


def test_the_page_of_hundreds_of_classes_lists_the_worst_and_the_largest(
    awkward: Run, tmp_path: Path
) -> None:
    rng, classes = np.random.default_rng(0), 500
    labels = np.repeat(np.arange(classes), 2)
    names = [f"class {index}" for index in range(classes)]
    p = np.eye(classes)[np.where(rng.random(len(labels)) < 0.5, labels, 0)] * 0.9 + 0.1 / classes
    metrics = classification_metrics(np.log(p), labels, names, with_intervals=False)
    context = ReportContext(awkward, DataContext())
    of_model = context.rows
    train = replace(of_model.train, labels=np.full(len(of_model.train), 234))
    vars(context).update(
        evaluation=Evaluation("test", metrics, None),
        class_names=names,
        rows=replace(of_model, splits={**of_model.splits, "train": train}, class_names=tuple(names)),
        facts={**context.facts, "class_prior": [1 / classes] * classes},
    )
    written = write(context, tmp_path)
    assert not {"data", "classes", "confusion", "reliability", "calibration"} & set(written.unavailable)
    assert len(written.html) < 1_500_000
    first = {}
    for key in ("data", "classes", "calibration"):
        table = next(part for part in written.parts(key) if isinstance(part, Table))
        assert "Of the 500 classes the 200 with the " in table.caption
        assert len(table.rows) == 200 + 2 * (key == "data")
        first[key] = table.rows[0]
    assert first["data"][:2] == ["class 234", f"{len(train):,}"]
    assert first["classes"][3] == "0.0 %"
    assert first["calibration"] == ["class 234", "0.2 %", "100.0 %"]


def test_the_assumed_shares_of_the_classes_are_beside_those_of_the_labels(
    report_page: WrittenReport, context: ReportContext
) -> None:
    table = report_page.parts("calibration")[-1]
    assert isinstance(table, Table)
    assert table.columns == ["class", "assumed share", "share of the labelled rows"]
    counts = context.labelled_counts
    assert counts is not None
    assert [row[2] for row in table.rows] == [f"{100 * share:.1f} %" for share in counts / counts.sum()]
    assert "`prior.class_prior=labelled` assumes them" in table.caption


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
    awkward.update(status="failed", error="<b>it broke</b>", test=None, calibration=None, best=None)
    written = write(ReportContext(awkward, DataContext()), tmp_path)
    assert not {"summary", "curves", "settings", "versions"} & set(written.unavailable)
    assert "its status is" in written.text
    assert "(<b>it broke</b>)" in written.text
    requires_nothing(written.page)


@pytest.mark.parametrize("damage", ["{", "[]", '{"split": "test"}'])
def test_damaged_results_are_no_results(awkward: Run, damage: str) -> None:
    (awkward.path / "eval" / "test.json").write_text(damage, encoding="utf-8")
    assert ReportContext(awkward, DataContext()).evaluation is None


def test_a_damaged_file_makes_only_its_own_sections_unavailable(awkward: Run, tmp_path: Path) -> None:
    (awkward.path / "eval" / "test.json").write_text("{", encoding="utf-8")
    (awkward.path / "search.json").write_text('{"candidates": [{}]}', encoding="utf-8")
    warnings: list[str] = []
    unavailable = write(ReportContext(awkward, DataContext(), warn=warnings.append), tmp_path).unavailable
    assert {"classes", "confusion", "reliability", "race"} <= set(unavailable)
    assert "latent" not in unavailable
    assert any("Search over settings" in line for line in warnings)


def test_a_page_that_cannot_be_written_leaves_no_new_figures(
    awkward: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "full")

    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "curve-loss.png").write_bytes(b"old")
    monkeypatch.setattr("flowgmm_cli.report.report.write_text", full)
    monkeypatch.setattr("flowgmm_cli.report.report.SECTIONS", SECTIONS[:3])
    for name in ("new", "old"):
        with pytest.raises(OSError, match="full"):
            write_report(ReportContext(awkward, DataContext()), tmp_path / f"{name}.html")
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["curve-loss.png"]
    assert not (tmp_path / "new").exists()


def test_the_report_shows_baselines_and_the_search(awkward: Run) -> None:
    file = awkward.path / "eval" / "test.json"
    value = json.loads(file.read_text(encoding="utf-8"))
    metrics = {"accuracy": 0.25, "balanced_accuracy": 0.3, "macro_f1": 0.2, "nll": 1.5, "ece": 0.1}
    value["baselines"] = {"knn": {**metrics, "seconds": 0.1, "settings": {}}}
    file.write_text(json.dumps(value), encoding="utf-8")
    numbers = {"nll": 0.4, "accuracy": 0.9, "agreement": 0.8, "density": -1.0, "seconds": 3.0, "score": -0.26}
    candidate = {
        "name": "<deep>",
        "changes": {"flow.couplings": 4, "data.views.weak": [{"use": "drop", "share": 0.1}]},
        **numbers,
    }
    search = {"kept": ["<deep>"], "reason": "it won", "gain": "log loss 0.4", "candidates": [candidate]}
    (awkward.path / "search.json").write_text(json.dumps(search), encoding="utf-8")
    context = ReportContext(awkward, DataContext())
    text = str([[*build(context)] for key, _, build in SECTIONS if key in ("summary", "baselines", "race")])
    for part in (
        "['kNN', '0.2500', '', '', '', '0.3000', '0.2000', '1.5000', '0.1000']",
        "<deep> (kept)",
        "What it gained: log loss 0.4.",
        "flow.couplings=4, data.views.weak=[{use: drop, share: 0.1}]",
        f"Next: `flowgmm predict {awkward.path} --data FILE`",
    ):
        assert part in text
