"""The real flows: zuko's lazy transforms behind flowgmm's contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm_cli.api import RecipeError
from flowgmm_zuko.plugin import (
    AutoregressiveConfig,
    BPFConfig,
    CNFConfig,
    CouplingConfig,
    GFConfig,
    MAFConfig,
    NAFConfig,
    NICEConfig,
    NSFConfig,
    NSFCouplingConfig,
    RealNVPConfig,
    SOSPFConfig,
    UNAFConfig,
)
from flowgmm_zuko.quiet import zuko

Shape = tuple[int, ...]


class ZukoFlow(nn.Module):
    """A lazy transform of zuko as a flow: rows to latents with the log-determinant, and back.

    Numbers are at least float32, also under autocast: splines and polynomials do not survive bfloat16.

    Args:
        transform: calling it without a context gives a `torch.distributions.Transform` of vectors.
    """

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(N, D)` to latents `(N, D)` and the log-determinant `(N,)`."""
        x = _at_least_float32(x)
        if not x.shape[0]:  # adaptive solvers take the mean of no errors for one that is too large
            return x.clone(), x.new_zeros(0)
        with torch.autocast(x.device.type, enabled=False):
            z, log_det = self.transform().call_and_ladj(x)
        if not torch.is_grad_enabled():  # zuko's monotonic transforms switch it on and hand out the graph
            z, log_det = z.detach(), log_det.detach()
        return z, log_det.expand(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        """Map latents `(N, D)` back to rows `(N, D)`."""
        z = _at_least_float32(z)
        if not len(z):
            return z.clone()
        with torch.autocast(z.device.type, enabled=False):
            x: Tensor = self.transform().inv(z)
        return x

    def train(self, mode: bool = True) -> ZukoFlow:
        """Set the mode of this module alone.

        In evaluation zuko's solvers pass no gradient to their networks; nothing else depends on the mode.
        """
        self.training = mode
        return self


class SolvedFlow(ZukoFlow):
    """A flow whose transforms call autograd or a solver, and so stay out of compiled graphs."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(N, D)` to latents `(N, D)` and the log-determinant `(N,)`."""
        return super().forward(x)


class _Bernstein(zuko.transforms.BoundedBernsteinTransform):  # type: ignore[misc]
    """Zuko's, whose basis does not check every value it is given (which would wait for the device)."""

    @staticmethod
    def _bernstein_basis(order: int, **kwargs: Any) -> torch.distributions.Beta:
        alpha = torch.arange(1, order + 2, **kwargs)
        return torch.distributions.Beta(alpha, alpha.flip(0), validate_args=False)


def build_nsf_coupling(config: NSFCouplingConfig, *, shape: Shape, generator: torch.Generator) -> ZukoFlow:
    """Make `zuko_nsf_coupling` for rows of `shape` `(D,)`."""
    return _coupling(config, shape, generator, *_spline(config))


def build_realnvp(config: RealNVPConfig, *, shape: Shape, generator: torch.Generator) -> ZukoFlow:
    """Make `zuko_realnvp` for rows of `shape` `(D,)`."""
    return _coupling(config, shape, generator, zuko.transforms.MonotonicAffineTransform, [(), ()])


def build_nice(config: NICEConfig, *, shape: Shape, generator: torch.Generator) -> ZukoFlow:
    """Make `zuko_nice` for rows of `shape` `(D,)`."""
    return _coupling(config, shape, generator, zuko.transforms.AdditiveTransform, [()])


def build_nsf(config: NSFConfig, *, shape: Shape, generator: torch.Generator) -> ZukoFlow:
    """Make `zuko_nsf` for rows of `shape` `(D,)`."""
    univariate, shapes = _spline(config)
    return _autoregressive(config, shape, generator, zuko.flows.MAF, univariate=univariate, shapes=shapes)


def build_maf(config: MAFConfig, *, shape: Shape, generator: torch.Generator) -> ZukoFlow:
    """Make `zuko_maf` for rows of `shape` `(D,)`."""
    return _autoregressive(config, shape, generator, zuko.flows.MAF)


def build_bpf(config: BPFConfig, *, shape: Shape, generator: torch.Generator) -> ZukoFlow:
    """Make `zuko_bpf` for rows of `shape` `(D,)`."""
    univariate = partial(_Bernstein, bound=config.bound)
    return _autoregressive(
        config, shape, generator, zuko.flows.MAF, univariate=univariate, shapes=[(config.degree + 1,)]
    )


def build_sospf(config: SOSPFConfig, *, shape: Shape, generator: torch.Generator) -> ZukoFlow:
    """Make `zuko_sospf` for rows of `shape` `(D,)`."""
    return _autoregressive(
        config,
        shape,
        generator,
        zuko.flows.SOSPF,
        degree=config.degree,
        polynomials=config.polynomials,
        slope=config.min_slope,
    )


def build_naf(config: NAFConfig, *, shape: Shape, generator: torch.Generator) -> ZukoFlow:
    """Make `zuko_naf` for rows of `shape` `(D,)`."""
    network = {"hidden_features": [config.network_hidden] * config.network_depth}
    return _autoregressive(config, shape, generator, zuko.flows.NAF, signal=config.signal, network=network)


def build_unaf(config: UNAFConfig, *, shape: Shape, generator: torch.Generator) -> ZukoFlow:
    """Make `zuko_unaf` for rows of `shape` `(D,)`."""
    network = {"hidden_features": [config.network_hidden] * config.network_depth}
    return _autoregressive(config, shape, generator, zuko.flows.UNAF, signal=config.signal, network=network)


def build_gf(config: GFConfig, *, shape: Shape, generator: torch.Generator) -> ZukoFlow:
    """Make `zuko_gf` for rows of `shape` `(D,)`."""
    with _seeded(generator):
        flow = zuko.flows.GF(_features(shape), transforms=config.transforms, components=config.components)
    return SolvedFlow(flow.transform)


def build_cnf(config: CNFConfig, *, shape: Shape, generator: torch.Generator) -> ZukoFlow:
    """Make `zuko_cnf` for rows of `shape` `(D,)`."""
    with _seeded(generator):
        flow = zuko.flows.CNF(
            _features(shape),
            freqs=config.frequencies,
            atol=config.atol,
            rtol=config.rtol,
            exact=True,  # the estimate would draw from torch's global generator in every pass
            hidden_features=[config.hidden] * config.depth,
        )
    if config.start == "identity":
        _start_at_identity(flow.transform)
    return SolvedFlow(flow.transform)


def _coupling(
    config: CouplingConfig,
    shape: Shape,
    generator: torch.Generator,
    univariate: Callable[..., Any],
    shapes: list[tuple[int, ...]],
) -> ZukoFlow:
    features = _features(shape)
    with _seeded(generator):
        flow = zuko.flows.NICE(
            features,
            transforms=config.transforms,
            randmask=config.random_masks,
            univariate=univariate,
            shapes=shapes,
            hidden_features=[config.hidden] * config.depth,
        )
        transforms = [part for each in flow.transform.transforms for part in (*_mix(config, features), each)]
    if config.start == "identity":
        _start_at_identity(flow.transform)
    return ZukoFlow(zuko.lazy.LazyComposedTransform(*transforms))


def _mix(config: CouplingConfig, features: int) -> list[nn.Module]:
    lazy, own = zuko.lazy.UnconditionalTransform, zuko.transforms
    if config.mixing == "lu":
        return [lazy(own.LULinearTransform, LU=torch.eye(features))]
    if config.mixing == "permutation":
        return [lazy(own.PermutationTransform, order=torch.randperm(features), buffer=True)]
    return []


def _autoregressive(
    config: AutoregressiveConfig, shape: Shape, generator: torch.Generator, kind: Any, **arguments: Any
) -> ZukoFlow:
    with _seeded(generator):
        flow = kind(
            _features(shape),
            transforms=config.transforms,
            randperm=config.shuffle,
            passes=config.passes,
            hidden_features=[config.hidden] * config.depth,
            **arguments,
        )
    for transform in flow.transform.transforms:
        if getattr(transform, "f", None) is zuko.transforms.SoftclipTransform:
            # zuko clips to 11 between transforms that can be inverted between -10 and 10
            transform.bound = 10.0
    if config.start == "identity":
        _start_at_identity(flow.transform)
    solved = type(config) not in (MAFConfig, NSFConfig)
    return (SolvedFlow if solved else ZukoFlow)(flow.transform)


def _spline(config: NSFConfig | NSFCouplingConfig) -> tuple[Callable[..., Any], list[tuple[int, ...]]]:
    """The map of one feature, and the shapes of its parameters."""
    kind = _affine_spline if config.affine else zuko.transforms.MonotonicRQSTransform
    spline = partial(kind, bound=config.bound, slope=config.min_slope)
    bins = config.bins
    return spline, [*([(), ()] if config.affine else []), (bins,), (bins,), (bins - 1,)]


def _affine_spline(shift: Tensor, scale: Tensor, *spline: Tensor, bound: float, slope: float) -> Any:
    """A scale between 1/8 and 8 and a shift, then a spline."""
    return zuko.transforms.ComposedTransform(
        zuko.transforms.MonotonicAffineTransform(shift, scale, slope=1 / 8),
        zuko.transforms.MonotonicRQSTransform(*spline, bound=bound, slope=slope),
    )


def _features(shape: Shape) -> int:
    if len(shape) != 1 or shape[0] < 1:
        raise RecipeError(f"zuko's flows take vectors, but a row of this data has the shape {tuple(shape)}")
    return shape[0]


@contextmanager
def _seeded(generator: torch.Generator) -> Iterator[None]:
    """Let what zuko draws from torch's global generator follow from `generator`; leave the global one be."""
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


@torch.no_grad()
def _start_at_identity(transform: nn.Module) -> None:
    """Set what each transform's network puts out at first to 0."""
    for module in transform.modules():
        for name in ("hyper", "integrand", "ode"):
            network = getattr(module, name, None)
            if isinstance(network, nn.Sequential):
                for parameter in network[-1].parameters():
                    parameter.zero_()
        phi = getattr(module, "phi", None)  # of a single feature, which depends on no other
        if isinstance(phi, nn.ParameterList):
            for parameter in phi.parameters():
                parameter.zero_()


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
