"""What holds for both flows of images; what every bijection does is in `tests/test_bijection.py`."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.layers.affine import ActNorm
from flowgmm_cli.flows.layers.coupling import ImageCoupling
from flowgmm_cli.flows.multiscale import MultiScale
from flowgmm_cli.flows.specs import SPECS
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.plugins.entry import load_target

NAMES = ("realnvp_image", "glow")
SMALL = {"realnvp_image": {"checkerboard": 1, "channel": 2, "blocks": 1}, "glow": {"steps": 2}}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(name: str, shape: tuple[int, ...], **config: Any) -> MultiScale:
    spec = SPECS[name]
    chosen = spec.config.model_validate({"hidden": 8, **SMALL[name], **config})
    flow = load_target(spec.build, name)(chosen, shape=shape, generator=seeded())
    assert isinstance(flow, MultiScale)
    return flow


def disturb(flow: nn.Module, size: float = 0.05) -> None:
    noise = seeded(1)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += size * torch.randn(parameter.shape, generator=noise).to(parameter)


def pixels(n: int, *shape: int) -> torch.Tensor:
    return torch.rand(n, *shape, generator=seeded(2))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(784,), (28, 28), (1, 0, 4)])
def test_rows_that_are_not_images_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match=f"`{name}` takes images"):
        make(name, shape)


@pytest.mark.parametrize(
    ("name", "shape", "scales", "message", "hint"),
    [
        ("glow", (1, 28, 28), 3, "28 by 28 pixels, which are halved at each scale: at most 2", "scales=2"),
        ("glow", (1, 7, 7), 1, "7 by 7 pixels, which are halved at each scale: an odd size", "even height"),
        ("glow", (3, 32, 20), 3, "32 by 20 pixels, .* at most 2 fit", "scales=2"),
        ("realnvp_image", (1, 28, 28), 4, "28 by 28 pixels and 1 channel: at most 3 fit", "scales=3"),
        ("realnvp_image", (3, 7, 8), 2, "7 by 8 pixels and 3 channels: at most 1 fit", "scales=1"),
        ("realnvp_image", (1, 7, 7), 1, "an odd size of one channel has no halves", "even height"),
    ],
)
def test_an_error_about_too_many_scales_names_the_number_that_fits(
    name: str, shape: tuple[int, ...], scales: int, message: str, hint: str
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        make(name, shape, scales=scales)
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_learned_dequantisation_of_an_odd_size_is_refused() -> None:
    with pytest.raises(RecipeError, match="even height and width, and these are 7 by 7"):
        make("realnvp_image", (3, 7, 7), scales=1, dequantisation="variational")


@pytest.mark.parametrize(
    ("name", "shape", "scales", "sizes"),
    [
        ("glow", (1, 28, 28), 2, (392, 392)),
        ("glow", (3, 32, 32), 3, (768, 768, 1536)),
        ("realnvp_image", (1, 28, 28), 2, (392, 392)),
        ("realnvp_image", (1, 28, 28), 3, (196, 196, 392)),
        ("realnvp_image", (3, 5, 5), 1, (75,)),
    ],
)
def test_latents_are_ordered_from_the_coarsest_scale(
    name: str, shape: tuple[int, ...], scales: int, sizes: tuple[int, ...]
) -> None:
    flow = make(name, shape, scales=scales)
    assert flow.latent_sizes == sizes
    disturb(flow)
    x = pixels(2, *shape)
    z, _ = flow(x)
    assert z.shape == (2, math.prod(shape))
    if scales > 1:  # steps of the last scale change the first latents and no others
        for parameter in flow.scales[-1].parameters():
            with torch.no_grad():
                parameter += 0.3
        changed = flow(x)[0] != z
        assert changed[:, : sizes[0]].all()
        assert not changed[:, sizes[0] :].any()


def test_an_odd_last_scale_has_couplings_of_channels() -> None:
    flow = make("realnvp_image", (1, 28, 28), scales=3)
    couplings = [layer for layer in flow.scales[2].modules() if isinstance(layer, ImageCoupling)]
    assert [layer.features for layer in couplings] == [4, 4]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("config", [{}, {"dequantisation": "variational"}, {"logit": None}])
def test_every_actnorm_is_initialised_from_data_only_once(name: str, config: dict[str, Any]) -> None:
    flow, x = make(name, (1, 8, 8), **config), pixels(50, 1, 8, 8)
    flow.initialise(x)
    norms = [layer for layer in flow.modules() if isinstance(layer, ActNorm)]
    assert len(norms) >= 4
    assert all(layer.initialised for layer in norms)
    other = make(name, (1, 8, 8), **config)
    other.load_state_dict(flow.state_dict())
    other.initialise(0.1 * pixels(50, 1, 8, 8))
    assert all(torch.equal(value, flow.state_dict()[key]) for key, value in other.state_dict().items())


def test_the_output_of_an_initialised_actnorm_is_standardised() -> None:
    flow, x = make("realnvp_image", (1, 8, 8), checkerboard=2), pixels(200, 1, 8, 8)
    flow.initialise(x)
    seen: list[torch.Tensor] = []
    for layer in flow.modules():
        if isinstance(layer, ActNorm):
            layer.register_forward_hook(lambda _m, _i, out: seen.append(out[0]))
    flow(x)
    assert len(seen) == 7
    for z in seen:
        torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(z.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(z.shape[1]), atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_checkpointing_gives_the_same_gradients(name: str, precision: str) -> None:
    plain, checkpointed = (make(name, (1, 8, 8), dropout=0.3, checkpointing=on) for on in (False, True))
    x = pixels(4, 1, 8, 8)
    results = []
    for flow in (plain, checkpointed):
        disturb(flow)
        torch.random.manual_seed(3)  # dropout draws from the global generator
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            z, log_det = flow(x)
        (z.square().sum() - log_det.sum()).backward()
        results.append([z, log_det, *(parameter.grad for parameter in flow.parameters())])
    assert len(results[0]) > 20
    assert all(torch.equal(value, other) for value, other in zip(*results, strict=True))


def test_checkpointing_computes_each_step_twice() -> None:
    flow = make("glow", (1, 8, 8), checkpointing=True)
    calls = []
    next(module for module in flow.modules() if isinstance(module, ActNorm)).register_forward_hook(
        lambda *_: calls.append(1)
    )
    z, _ = flow(pixels(2, 1, 8, 8))
    assert len(calls) == 1
    z.sum().backward()
    assert len(calls) == 2
    with torch.no_grad():
        flow(pixels(2, 1, 8, 8))
    assert len(calls) == 3


def test_bits_per_dimension_of_a_tiny_image_by_hand() -> None:
    """A fresh flow is the logit alone: N(z; 0, I), the logit's slopes and the 256 levels."""
    flow = make("realnvp_image", (1, 2, 2), scales=1, actnorm=False).double()
    x = (torch.tensor([[0, 255], [128, 7]], dtype=torch.float64) + 0.5)[None, None] / 256
    z, log_det = flow(x)
    mixture = GaussianMixture(torch.zeros(1, 4)).double()
    log_p = mixture.log_prob(z) + log_det - 4 * math.log(256)
    want = 0.0
    for value in (0.5, 255.5, 128.5, 7.5):
        y = 0.05 + 0.9 * value / 256
        logit = math.log(y / (1 - y))
        want += -0.5 * logit**2 - 0.5 * math.log(2 * math.pi) + math.log(0.9 / (y * (1 - y)) / 256)
    assert log_p.item() == pytest.approx(want, abs=1e-9)
    assert -log_p.item() / (4 * math.log(2)) == pytest.approx(10.0177, abs=1e-4)


def test_probabilities_of_all_images_sum_to_at_most_one() -> None:
    """The bound of a flow with learned noise stays a bound: over all 3^4 images of 2 by 2 pixels."""
    noise = {"dequantisation": "variational", "noise_couplings": 2, "levels": 3}
    flow = make("glow", (1, 2, 2), scales=1, **noise).double()
    disturb(flow, 0.2)
    mixture = GaussianMixture(torch.zeros(1, 4)).double()
    images = torch.cartesian_prod(*[torch.arange(3.0, dtype=torch.float64)] * 4).reshape(81, 1, 1, 2, 2)
    u = torch.rand(81, 400, 1, 2, 2, generator=seeded(5), dtype=torch.float64)
    with torch.no_grad():
        z, log_det = flow(((images + u) / 3).flatten(0, 1))
        log_p = (mixture.log_prob(z) + log_det - 4 * math.log(3)).reshape(81, 400)
    exact = log_p.exp().mean(1)  # the integral over each cell
    bound = log_p.mean(1).exp()
    assert (bound <= exact).all()
    assert 0.8 < exact.sum() < 1.01  # what lies outside of [0, 1]^4 is no image


@pytest.mark.parametrize("name", NAMES)
def test_flows_have_the_expected_number_of_parameters(name: str) -> None:
    def shallow(i: int, o: int, h: int = 8) -> int:
        return 9 * i * h + h + h * h + h + 9 * h * o + o

    def residual(i: int, o: int, h: int = 8) -> int:
        return 9 * i * h + h + 2 * (9 * h * h + h) + h * o + o

    def step(c: int) -> int:
        return 2 * c + 2 * c * c + c + shallow(c // 2, c)

    expected = {
        "glow": 2 * step(12) + shallow(6, 12) + 2 * step(24),
        "realnvp_image": 3 * (24 + residual(6, 12)) + 2 * (48 + residual(12, 24)),
    }
    assert sum(parameter.numel() for parameter in make(name, (3, 32, 32)).parameters()) == expected[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "extra"),
    [
        *((name, {}) for name in NAMES),
        ("glow", {"coupling": "spline"}),
        ("realnvp_image", {"dequantisation": "variational"}),
    ],
)
def test_a_flow_learns_a_distribution_of_images(name: str, extra: dict[str, Any]) -> None:
    """Bars at one of four positions: 2 bits an image, so that nearly all bits per dimension can be saved."""
    flow = make(name, (1, 8, 8), hidden=24, **extra)
    generator = seeded(3)
    mixture = GaussianMixture(torch.zeros(1, 64))

    def batch() -> torch.Tensor:
        whole = torch.zeros(64, 1, 8, 8)
        whole[torch.arange(64), 0, 2 * torch.randint(4, (64,), generator=generator)] = 255
        return (whole + torch.rand(whole.shape, generator=generator).clamp(max=0.999)) / 256

    def bits() -> torch.Tensor:
        z, log_det = flow(batch())
        return (-mixture.log_prob(z) - log_det).mean() / (64 * math.log(2)) + 8

    flow.initialise(batch())
    before = bits().item()
    optimiser = torch.optim.Adam(flow.parameters(), lr=3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        bits().backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimiser.step()
    assert bits().item() < before / 2


@pytest.mark.parametrize("name", NAMES)
def test_a_printed_flow_shows_its_layers(name: str) -> None:
    text = repr(make(name, (1, 8, 8), dequantisation="variational"))
    for part in ("latent_sizes=(32, 32)", "Logit(alpha=0.05)", "levels=256", "features=4", "scale_limit=2"):
        assert part in text
