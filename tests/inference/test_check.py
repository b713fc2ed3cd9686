"""A model damaged on purpose: each damage is found and named; a sound one passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.bijection import Bijection, Sequential, zero_log_det
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.errors import DataError
from flowgmm_cli.flows.layers.affine import ElementwiseAffine
from flowgmm_cli.inference.check import check
from flowgmm_cli.inference.check_report import CheckReport, Finding
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.trained_model import TrainedModel

MakeTrained = Callable[..., TrainedModel]
DIGITS = ("data.name=digits",)
CONTEXT = DataContext()


def rows_of(trained: TrainedModel) -> Rows:
    rows = load_rows(trained.recipe.data, CONTEXT).test
    assert rows is not None
    return rows


def report_of(trained: TrainedModel, **options: Any) -> CheckReport:
    return check(trained, rows_of(trained), context=CONTEXT, **options)


def finding(report: CheckReport, name: str) -> Finding:
    return next(one for one in report.findings if one.check == name)


class Wrong(Bijection):
    """Doubles every number, with a mistake of choice."""

    def __init__(self, features: int, mistake: str) -> None:
        super().__init__()
        self.features, self.mistake = features, mistake

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_det = zero_log_det(x) + self.features * np.log(2)
        if self.mistake == "log-det":
            log_det = log_det - np.log(2)  # one dimension forgotten
        if self.mistake == "batch":
            return 2 * (x - x.mean(0) * (1 - 1 / len(x))), log_det
        return 2 * x, log_det

    def inverse(self, z: Tensor) -> Tensor:
        return z / 2 + (0.01 if self.mistake == "inverse" else 0)


def with_layer(trained: TrainedModel, layer: nn.Module) -> TrainedModel:
    flow = trained.model.parts[0].flow
    assert isinstance(flow, Sequential)
    flow.layers.append(layer)
    return trained


@pytest.mark.parametrize(
    "words", [(), (*DIGITS, "data.transforms=[{use: pca, dim: 6}, {use: clip, limit: 2}]")]
)
@pytest.mark.parametrize("members", [1, 2])
def test_a_correct_model_passes_all_checks(
    make_trained: MakeTrained, words: tuple[str, ...], members: int
) -> None:
    trained = make_trained(*words, members=members, size=0.1)
    report = report_of(trained, at_most=8)
    assert [one for one in report.findings if one.verdict == "failed"] == []
    arithmetic = [one for one in report.findings if not one.check.endswith("latents")]
    assert {one.verdict for one in arithmetic} == {"ok"}
    assert report.jacobian_rows == 8
    names = [one.name for one in report.layers]
    prefix = "member 1: " if members == 2 else ""
    assert f"{prefix}flow.0.couplings.1 AffineCoupling" in names
    assert all(one.log_det is not None and one.log_det < 1e-9 for one in report.layers)
    lossy = [one.name for one in report.layers if one.inexact]
    assert lossy == (["transforms.0 Pca", "transforms.1 Clip"] if words else [])


@pytest.mark.parametrize(
    ("mistake", "check_name"), [("log-det", "log-det"), ("inverse", "round trip"), ("batch", "independence")]
)
def test_a_wrong_layer_is_named(make_trained: MakeTrained, mistake: str, check_name: str) -> None:
    report = report_of(with_layer(make_trained(), Wrong(2, mistake)), at_most=8)
    found = finding(report, check_name)
    assert (report.verdict, found.verdict) == ("failed", "failed")
    assert found.meaning
    assert found.advice
    if mistake != "batch":
        assert len(found.details) == 1
        assert "`flow.1 Wrong`" in found.details[0]
        assert [one.check for one in report.findings if one.verdict == "failed"] in (
            [check_name],
            [check_name, "round trip in float32", "composition"],
            [check_name, "composition"],
        )


def test_a_wrong_layer_of_a_flow_of_images_is_named(make_imaged: Any) -> None:
    imaged = make_imaged("grey")
    imaged.trained.model.parts[0].flow.flow.scales[1].layers.append(Wrong(96, "log-det"))
    found = finding(check(imaged.trained, imaged.rows, context=CONTEXT, at_most=2), "log-det")
    assert found.verdict == "failed"
    assert len(found.details) == 1
    assert "`flow.scales.1.2 Wrong`" in found.details[0]


def test_the_step_of_an_enormous_weight_is_named(make_trained: MakeTrained) -> None:
    trained = make_trained()
    with torch.no_grad():
        trained.model.parts[0].flow.get_parameter("layers.0.couplings.1.net.0.weight").fill_(3e38)
    found = finding(report_of(trained, at_most=8), "finite")
    assert found.verdict == "failed"
    assert "`flow.0.couplings.1 AffineCoupling`" in found.message


def test_the_first_row_that_becomes_infinite_is_named(make_trained: MakeTrained) -> None:
    trained = make_trained("data.transforms=[{use: standardise}]")
    rows = rows_of(trained)
    name = trained.preprocessor.columns[0].name
    for value, where in ((1e60, "the conversion to 32-bit numbers"), (1e38, "flow.0.couplings.0")):
        cells = rows.columns[name].copy()
        cells[7] = value
        changed = Rows({**rows.columns, name: cells}, rows.labels, rows.ids)
        found = finding(check(trained, changed, context=CONTEXT, at_most=8), "finite")
        if where.startswith("flow") and found.verdict == "ok":
            continue  # a coupling may bear it
        assert found.verdict == "failed"
        assert where in found.message
        assert "in 1 of 60 rows" in found.message
        assert str(rows.ids[7]) in found.details[0]


def with_scale(trained: TrainedModel, log_scales: list[float]) -> CheckReport:
    """Check a model with a last layer of these scales."""
    layer = ElementwiseAffine(2)
    layer.log_scale.data = torch.tensor(log_scales)
    return report_of(with_layer(trained, layer), at_most=8)


def test_a_collapsed_scale_is_a_dead_dimension_and_an_extreme_determinant(make_trained: MakeTrained) -> None:
    report = with_scale(make_trained(), [0.0, -40.0])
    found = finding(report, "dimensions")
    assert found.verdict == "failed"
    assert "latent dimensions that no input moves: 1" in found.details
    assert "latent dimensions that do not vary over these rows: 1" in found.details
    assert "`flow.1 ElementwiseAffine`" in finding(report, "determinants").details[0]
    assert finding(report, "conditioning").verdict == "warning"


def test_a_weight_that_cannot_be_inverted_is_found(make_trained: MakeTrained) -> None:
    report = with_scale(make_trained(), [-1000.0, 0.0])  # e^-1000 is 0
    for name in ("round trip", "log-det"):
        assert "`flow.1 ElementwiseAffine`" in finding(report, name).details[0]
        assert finding(report, name).verdict == "failed"


def test_a_constant_input_is_a_warning_that_names_it(make_trained: MakeTrained) -> None:
    trained = make_trained("data.transforms=[{use: standardise}]")
    rows = rows_of(trained)
    name = trained.preprocessor.feature_names[1]
    columns = {**rows.columns, name: np.full(len(rows), 0.25)}
    report = check(trained, Rows(columns, rows.labels, rows.ids), context=CONTEXT, at_most=8)
    found = finding(report, "dimensions")
    assert found.verdict == "warning"
    assert f"flow inputs that are constant in these rows: {name}" in found.details


def test_an_unknown_flow_is_checked_as_a_whole(make_trained: MakeTrained) -> None:
    class Foreign(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return 3 * x, torch.full((len(x),), self.factor, dtype=x.dtype)

        def inverse(self, z: Tensor) -> Tensor:
            return z / 3

    trained = make_trained()
    part = trained.model.parts[0]
    assert isinstance(part, FlowMixture)
    for factor, verdict in ((2 * np.log(3), "ok"), (np.log(3), "failed")):
        part.flow = Foreign(factor)
        report = report_of(trained, at_most=8)
        assert [one.name for one in report.layers if one.name.startswith("flow")] == ["flow Foreign"]
        assert finding(report, "log-det").verdict == verdict


def test_samples_of_the_model_fit_its_own_mixture(make_trained: MakeTrained) -> None:
    trained = make_trained("data.transforms=[]")
    part = trained.model.parts[0]
    with torch.no_grad():
        part.mixture.means.copy_(torch.tensor([[-20.0, 0.0], [20.0, 0.0]]))
    x, _ = trained.model.sample(3000, torch.Generator().manual_seed(0))
    columns = trained.preprocessor.invert(x)
    rows = Rows({k: v for k, v in columns.items() if v is not None}, np.full(3000, -1), np.arange(3000))
    report = check(trained, rows, context=CONTEXT, at_most=4)
    assert finding(report, "latents").verdict == "ok"
    for one in report.classes:
        assert one.offset < 0.1
        assert one.variance == pytest.approx(1, abs=0.08)
        assert one.ks < 0.04
        assert one.ks_by_chance == pytest.approx(1.358 / one.rows**0.5, rel=0.02)  # Kolmogorov's limit
    assert "beyond chance" not in finding(report, "latents").message
    with torch.no_grad():
        part.mixture.raw_scales.add_(1.5)  # Gaussians 4.5 times as wide as the rows
    latents = finding(check(trained, rows, context=CONTEXT, at_most=4), "latents")
    assert latents.verdict == "warning"
    assert "the KS distance of 2 of 2 classes is beyond chance" in latents.message


def test_long_vectors_are_checked_at_fewer_rows_with_a_note(
    make_trained: MakeTrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowgmm_cli.inference.check_steps.MAX_JACOBIAN_NUMBERS", 3 * 64**2)
    trained = make_trained(*DIGITS, "data.transforms=[{use: scale}]", size=0.1)
    report = report_of(trained, at_most=16)
    assert report.jacobian_rows == 3
    assert report.notes == ("Jacobians of 64 features are computed at 3 rows only",)
    monkeypatch.setattr("flowgmm_cli.inference.check_steps.MAX_JACOBIAN_FEATURES", 32)
    without = report_of(trained, at_most=16)
    assert without.jacobian_rows == 0
    assert finding(without, "log-det").verdict == "skipped"
    assert without.verdict != "failed"


def test_no_rows_are_an_error(make_trained: MakeTrained) -> None:
    trained = make_trained()
    with pytest.raises(DataError, match="no rows"):
        check(trained, rows_of(trained).take(np.arange(0)), context=CONTEXT)
    assert check(trained, rows_of(trained).take(np.arange(1)), context=CONTEXT).rows == 1
