"""The model card: a header that programs read, facts of the run, and text that stays text."""

from __future__ import annotations

import re

import pytest
import yaml

from flowgmm_cli.api import DataContext
from flowgmm_cli.report.card import FILE, escape, model_card, write_card
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.runs import Run


def test_the_header_is_yaml_with_results(context: ReportContext) -> None:
    _, header, body = model_card(context).split("---\n", 2)
    value = yaml.safe_load(header)
    assert value["library_name"] == "flowgmm-cli"
    assert value["pipeline_tag"] == "tabular-classification"
    results = value["model-index"][0]["results"][0]
    assert context.evaluation is not None
    values = {metric["type"]: metric["value"] for metric in results["metrics"]}
    assert values["accuracy"] == pytest.approx(context.evaluation.classification.accuracy, abs=1e-4)
    assert results["dataset"]["name"] == "t <i>.csv"
    assert body.startswith("\n# csv\n")
    metrics = context.evaluation.classification
    interval = metrics.intervals["accuracy"]
    assert f"| accuracy | {metrics.accuracy:.4f} | {interval.low:.4f} to {interval.high:.4f} |" in body


def test_every_section_is_there(context: ReportContext) -> None:
    titles = re.findall(r"^## (.+)$", model_card(context), re.MULTILINE)
    assert titles == [
        "Model details", "Intended use", "Data and labels", "Training procedure", "Evaluation", "Calibration",
        "Out-of-distribution detection", "Limits", "How to use", "Versions",
    ]  # fmt: skip


def test_the_card_names_overlays_of_the_recipe(awkward: Run) -> None:
    assert "Overlays" not in model_card(ReportContext(awkward, DataContext()))
    awkward.update(overlays=["cpu", "a<b"])
    text = model_card(ReportContext(awkward, DataContext()))
    assert "- Overlays of the recipe: cpu, a&lt;b\n" in text


def test_user_chosen_names_are_escaped(context: ReportContext) -> None:
    body = model_card(context).split("---\n", 2)[2]
    assert "<script" not in body
    assert "&lt;script&gt;" in body
    assert "<b>" not in body
    row = next(line for line in body.splitlines() if line.startswith("| b &amp;"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 6  # its own bar is escaped


def test_the_card_is_written_into_the_run_and_does_not_reveal_folder_and_host(context: ReportContext) -> None:
    path, text = write_card(context), model_card(context)
    assert path == context.run.path / FILE
    assert path.read_text(encoding="utf-8") == text
    assert str(context.run.path.parent) not in text
    assert str(context.info["host"]) not in text.split()


def test_a_run_without_test_rows_has_a_card(awkward: Run) -> None:
    (awkward.path / "eval" / "test.json").unlink()
    text = model_card(ReportContext(awkward, DataContext()))
    assert "was not evaluated" in text
    assert "model-index" not in text


def test_a_run_without_a_model_has_no_card(awkward: Run) -> None:
    (awkward.path / "model.json").unlink()
    with pytest.raises(UnavailableError, match="no model yet"):
        write_card(ReportContext(awkward, DataContext()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a*b_c _d_", r"a\*b_c \_d\_"),
        ("x\n# y", "x # y"),
        ("[l](u)", r"\[l\](u)"),
        ("`c_1` `", r"`c_1` \`"),
        ("`<c>`", r"\`&lt;c&gt;\`"),
        ("a&b", "a&amp;b"),
        ("p < 0.1 <b>", "p < 0.1 &lt;b&gt;"),
    ],
)
def test_markdown_is_escaped(text: str, shown: str) -> None:
    assert escape(text) == shown
