"""The steps of a flow: together they are the flow, each is what autograd says, and each can be undone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.bijection import Bijection, zero_log_det
from flowgmm_cli.flows.multiscale import FlatFlow
from flowgmm_cli.inference.check import check
from flowgmm_cli.inference.layers import HeadBijection, jacobian, list_steps, to_float64

CONTEXT = DataContext()


@pytest.mark.parametrize(("kind", "channels"), [("grey", 1), ("vector", 1), ("colour", 3)])
def test_the_steps_of_a_flow_of_images_make_up_the_flow(make_imaged: Any, kind: str, channels: int) -> None:
    imaged = make_imaged(kind)
    flow, x = to_float64(imaged.trained.model.parts[0].flow), imaged.x.double()
    assert isinstance(flow, FlatFlow)
    steps = list_steps(flow, x, "flow")
    assert steps[0].name == "flow.scales.0.0 Logit"
    shapes = [step.shape for step in steps]
    assert (shapes[0], shapes[1]) == ((channels, 8, 8), (4 * channels, 4, 4))
    assert shapes[-1] == (8 * channels, 2, 2)
    way, total = x, torch.zeros(len(x), dtype=torch.float64)
    for step in steps:
        way, log_det = step.module(way)
        total = total + log_det
    z, expected = flow(x)
    torch.testing.assert_close(way, z, rtol=0, atol=1e-12)
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-9)
    for step in reversed(steps):
        way = step.module.inverse(way)
    torch.testing.assert_close(way, x, rtol=0, atol=1e-9)


def test_every_layer_of_a_flow_of_images_is_checked_against_autograd(make_imaged: Any) -> None:
    imaged = make_imaged("grey")
    report = check(imaged.trained, imaged.rows, context=CONTEXT, at_most=2)
    assert [one for one in report.findings if one.verdict == "failed"] == []
    assert report.jacobian_rows == 2
    assert all(one.log_det is not None and one.log_det < 1e-9 for one in report.layers)
    kinds = {one.name.split()[-1] for one in report.layers}
    assert {"Dequantise", "Logit", "Squeeze", "ActNorm", "Conv1x1", "ImageCoupling"} <= kinds


def test_large_images_are_checked_without_jacobians_with_a_note(
    make_imaged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowgmm_cli.inference.check.MAX_IMAGE_NUMBERS", 63)
    imaged = make_imaged("grey")
    report = check(imaged.trained, imaged.rows, context=CONTEXT, at_most=2)
    assert report.jacobian_rows == 0
    assert "No Jacobians" in report.notes[0]
    layers = [one for one in report.layers if one.name.startswith("flow")]
    assert all(one.log_det is None and one.round_trip is not None for one in layers)


def test_an_unknown_flow_of_images_is_one_step(make_imaged: Any) -> None:
    class Foreign(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return 2 * x.flatten(1), zero_log_det(x)

    (step,) = list_steps(FlatFlow(Foreign(), (1, 2, 2)), torch.ones(3, 4), "flow")
    assert (step.name, step.shape) == ("flow Foreign", ())
    assert torch.equal(step.module(torch.ones(3, 4))[0], torch.full((3, 4), 2.0))


def test_a_head_bijection_keeps_the_other_numbers() -> None:
    class Turn(Bijection):
        """Exchanges height and width, and doubles."""

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return 2 * x.transpose(2, 3), zero_log_det(x) + 6 * torch.log(torch.tensor(2.0))

        def inverse(self, z: torch.Tensor) -> torch.Tensor:
            return z.transpose(2, 3) / 2

    step = HeadBijection(Turn(), (1, 2, 3), (1, 3, 2))
    x = torch.arange(16.0).reshape(2, 8)
    z, log_det = step(x)
    assert z[0].tolist() == [0, 6, 2, 8, 4, 10, 6, 7]
    assert torch.equal(step.inverse(z), x)
    expected = torch.linalg.slogdet(jacobian(step, x[0])).logabsdet
    torch.testing.assert_close(log_det[0], expected)


@pytest.mark.parametrize("width", [3, 200])
def test_a_jacobian_equals_torchs_for_any_number_of_batches(width: int) -> None:
    class Squares(Bijection):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x**2 + x.roll(1, 1), zero_log_det(x)

        def inverse(self, z: torch.Tensor) -> torch.Tensor:
            return torch.full_like(z, torch.nan)  # there is none, and nothing asks for it

    row = torch.linspace(-1, 1, width, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(lambda one: Squares()(one[None])[0][0], row)
    assert torch.equal(jacobian(Squares(), row), expected)
