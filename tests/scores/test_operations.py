"""Scores as tensor operations of an exported model, beside the scores themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from score_rows import component, make_inputs

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.export.graph import log1p, search
from flowgmm_cli.export.scores import NoOperationError, detector_operation
from flowgmm_cli.mixture.unknown_head import UnknownHead
from flowgmm_cli.model import FlowMixture, Model
from flowgmm_cli.scores.blend import BLEND, Blend, Family
from flowgmm_cli.scores.detector import Detector, fit_detector
from flowgmm_cli.scores.specs import SPECS

Draw = Callable[..., ScoreInputs]
WITHOUT = {"density_of_states", "likelihood_ratio", "compression"}


@pytest.fixture
def with_unknown(gaussian: Model) -> FlowMixture:
    """The same model with an unknown kind far from both classes."""
    head = UnknownHead(4, classes=2)
    head.centres, head.weight = torch.tensor([[0.0, 5, 0, 0]]), torch.tensor([[0.0], [0.0], [3.0]])
    return FlowMixture(gaussian.parts[0].flow, gaussian.parts[0].mixture, head)


@pytest.mark.parametrize("name", [name for name in SPECS if name not in WITHOUT])
def test_a_score_and_its_operation_have_the_same_values(
    name: str, draw: Draw, with_unknown: FlowMixture
) -> None:
    train = make_inputs(with_unknown, draw(100).x)
    detector = fit_detector([component(name)], train, train, with_unknown, 0)
    operation = detector_operation(detector, name)(train)
    np.testing.assert_array_equal(operation.numpy(), detector(train)[name])


def test_the_operation_of_a_blend_gives_its_values(draw: Draw, gaussian: Model) -> None:
    names = ["entropy", "angle_knn", "mahalanobis"]
    train, held_out = draw(300), draw(200, seed=1)
    detector = fit_detector(list(map(component, names)), train, held_out, gaussian, 0)
    families = [Family(("entropy",), 1.0), Family(("angle_knn", "mahalanobis"), 0.0)]
    blend = Blend.fit(families, {name: detector.reference_scores(name) for name in names})
    detector = Detector(detector.scores, BLEND, blend)
    x = torch.cat([draw(300, seed=2).x, 5 * torch.randn(300, 4)])
    rows = make_inputs(gaussian, x)
    actual = detector_operation(detector, BLEND)(rows).numpy()
    np.testing.assert_allclose(actual, detector(rows)[BLEND], rtol=1e-6)


def test_a_score_without_operation_is_named(draw: Draw, gaussian: Model) -> None:
    detector = fit_detector([component("density_of_states")], draw(50), draw(50, seed=1), gaussian, 0)
    with pytest.raises(NoOperationError, match="density_of_states"):
        detector_operation(detector, "density_of_states")


def test_a_subclass_of_another_package_has_no_operation(draw: Draw, gaussian: Model) -> None:
    detector = fit_detector([component("nll")], draw(50), draw(50, seed=1), gaussian, 0)
    (fitted,) = detector.scores
    other = type("Other", (type(fitted.score),), {"__module__": "other_package"})
    fitted.score.__class__ = other
    with pytest.raises(NoOperationError, match="nll"):
        detector_operation(detector, "nll")


@pytest.mark.parametrize("features", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 1000])
def test_plain_steps_search_as_torch_does(count: int, features: int) -> None:
    generator = torch.Generator().manual_seed(count)
    knots = torch.randn(features, count, generator=generator).double().sort(1).values
    points = torch.randn(features, 50, generator=generator).double()
    values = torch.cat([points, knots, knots[:, :1] - 1], 1)
    order = torch.stack([torch.randperm(count, generator=generator) for _ in range(features)])
    for options in ({"right": True}, {}, {"side": "right"}):
        expected = torch.searchsorted(knots, values.contiguous(), **options)
        torch.testing.assert_close(search(knots, values, **options), expected)
        shuffled = torch.empty_like(knots).scatter(1, order, knots)
        torch.testing.assert_close(search(shuffled, values, sorter=order, **options), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log1p_has_all_digits(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, 1e-30, 1e-17, 1e-8, 1e-5, 0.5, 1e10, torch.inf], dtype=dtype)
    torch.testing.assert_close(log1p(x), torch.log1p(x), rtol=4 * torch.finfo(dtype).eps, atol=0)
