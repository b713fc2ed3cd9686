from __future__ import annotations

from typing import Any

import pytest
from suites import expect_caught, suite_of
from wrong_flows import SPEC, WRONG, Right

from flowgmm_cli.testing import CheckResult, ConformanceError, FlowConformance, run_checks
from flowgmm_cli.testing.flows import GlowConformance, RealNVPImageConformance


class OfFlow(FlowConformance):
    published = False
    dims = (1, 2, 5)


class TestRealNVP(FlowConformance):
    name = "realnvp"
    config = {"couplings": 3, "hidden": 16}  # noqa: RUF012
    skip = {"test_survives_compiling": "the flow with all its layers below is compiled"}  # noqa: RUF012


class TestRealNVPWithAllLayers(FlowConformance):
    name = "realnvp"
    config = {"couplings": 2, "hidden": 16, "actnorm": True, "mixing": "lu", "dropout": 0.2}  # noqa: RUF012
    random_in_training = True


class TestRealNVPImage(RealNVPImageConformance):
    name = "realnvp_image"
    skip = {"test_survives_compiling": "glow is compiled, with all its layers"}  # noqa: RUF012


class TestGlow(GlowConformance):
    name = "glow"
    skip = {"test_survives_compiling": "the flow with all its layers below is compiled"}  # noqa: RUF012


@pytest.mark.slow
class TestGlowWithAllLayers(GlowConformance):
    name = "glow"
    config = {  # noqa: RUF012
        **GlowConformance.config,
        "coupling": "spline",
        "dequantisation": "variational",
        "noise_hidden": 8,
        "noise_couplings": 2,
        "dropout": 0.2,
    }
    random_in_training = True
    tolerance = 1e-3  # of a pixel's noise float32 keeps 16 bits


@pytest.mark.slow
class TestRealNVPImageWithAllLayers(RealNVPImageConformance):
    name = "realnvp_image"
    config = {  # noqa: RUF012
        **RealNVPImageConformance.config,
        "coupling": "spline",
        "dequantisation": "variational",
        "noise_hidden": 8,
        "noise_couplings": 2,
        "dropout": 0.2,
        "checkpointing": True,
    }
    random_in_training = True
    tolerance = 1e-3  # of a pixel's noise float32 keeps 16 bits
    skip = {"test_survives_compiling": "checkpointed blocks are not compiled"}  # noqa: RUF012


class TestTheCorrectFlow(OfFlow):
    spec = SPEC
    skip = {"test_import_is_light": "its module holds the flow as well"}  # noqa: RUF012


def suite(case: str = "", **attributes: Any) -> type[Any]:
    flow = type("Flow", (Right,), WRONG[case]) if case else Right
    return suite_of(OfFlow, SPEC, flow, **attributes)


@pytest.mark.parametrize("case", WRONG)
def test_each_wrong_flow_is_caught_by_the_check_that_names_it(case: str) -> None:
    expect_caught(suite(), suite(case), case)


QUICK = {"test_survives_compiling", "test_import_is_light"}  # seconds each; looked at elsewhere


@pytest.mark.parametrize("case", ["test_log_det_is_that_of_the_jacobian", "test_moves_between_devices"])
def test_the_other_checks_pass(case: str) -> None:
    results = list(run_checks(suite(case, skip=dict.fromkeys(QUICK, "slow"))))
    assert [item.check for item in results if item.outcome == "failed"] == [case]
    assert {item.check for item in results if item.outcome == "skipped"} >= QUICK


def test_a_stochastic_log_det_is_compared_by_its_mean() -> None:
    class Noisy(OfFlow):
        spec = SPEC
        exact_log_det = False
        log_det_draws = 200

        def build_with(self, *args: Any, **kwargs: Any) -> Any:
            import torch

            flow = super().build_with(*args, **kwargs)
            forward = flow.forward

            def noisy(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                z, log_det = forward(x)
                return z, log_det + bias + 0.3 * torch.randn(len(x))

            flow.forward = noisy
            return flow

    bias = 0.0
    Noisy().test_log_det_is_that_of_the_jacobian()
    Noisy().test_no_rows()
    bias = 0.3
    with pytest.raises(ConformanceError, match="and the Jacobian's is"):
        Noisy().test_log_det_is_that_of_the_jacobian()


def test_results_are_plain() -> None:
    first = next(run_checks(suite()))
    assert isinstance(first, CheckResult)
    assert first.outcome == "skipped"
    assert first.description.startswith("An installed entry point names the spec, and no other")
    assert set(first.to_dict()) == {"check", "outcome", "found", "fix", "seconds", "about"}
