"""Parameters and specs; imports neither torch nor zuko."""

from __future__ import annotations

from typing import Literal

from flowgmm_cli.api import Config, Field, FlowSpec


class NetworkConfig(Config):
    """Parameters of flows whose transforms are set by a network."""

    transforms: int = Field(6, ge=1, le=128, description="number of transforms, one after the other")
    hidden: int = Field(128, ge=1, le=8192, description="width of the networks' hidden layers")
    depth: int = Field(2, ge=1, le=16, description="number of hidden layers of a network")
    start: Literal["identity", "random"] = Field(
        "identity",
        description="identity: the last layer of each network starts at 0, so that rows hardly move at "
        "first; random: zuko's own start",
    )


class AutoregressiveConfig(NetworkConfig):
    """Parameters of autoregressive flows."""

    transforms: int = Field(3, ge=1, le=128, description="number of transforms, one after the other")
    passes: int | None = Field(
        None,
        ge=2,
        description="groups of features, each a function of those before it: passes of the inverse; by "
        "default one group for each feature",
    )
    shuffle: bool = Field(
        False, description="draw the order of the features anew for each transform; by default it is turned"
    )


class CouplingConfig(NetworkConfig):
    """Parameters of coupling flows."""

    random_masks: bool = Field(
        False, description="draw each coupling's halves; by default even and odd features take turns"
    )
    mixing: Literal["none", "permutation", "lu"] = Field(
        "none",
        description="mixing of the features before each coupling: nothing, a fixed random permutation, or a "
        "learned linear map",
    )


class RealNVPConfig(CouplingConfig):
    """Parameters of `zuko_realnvp`."""


class NICEConfig(CouplingConfig):
    """Parameters of `zuko_nice`."""


class _Spline(Config):
    bins: int = Field(8, ge=2, le=128, description="bins of a spline")
    bound: float = Field(
        5.0,
        gt=0,
        le=1000,
        description="splines act within -bound and bound; features beyond stay as they are",
    )
    min_slope: float = Field(
        1e-3, gt=0, lt=1, description="smallest slope of a spline; the largest is 1 / it"
    )
    affine: bool = Field(
        True,
        description="scale and shift each feature before its spline, by the same network; without this the "
        "flow cannot move mass across the bound",
    )


class NSFCouplingConfig(CouplingConfig, _Spline):
    """Parameters of `zuko_nsf_coupling`."""

    mixing: Literal["none", "permutation", "lu"] = Field(
        "lu",
        description="mixing of the features before each coupling: nothing, a fixed random permutation, or a "
        "learned linear map",
    )


class NSFConfig(AutoregressiveConfig, _Spline):
    """Parameters of `zuko_nsf`."""


class MAFConfig(AutoregressiveConfig):
    """Parameters of `zuko_maf`."""


class BPFConfig(AutoregressiveConfig):
    """Parameters of `zuko_bpf`."""

    degree: int = Field(16, ge=2, le=128, description="degree of a polynomial")
    bound: float = Field(
        5.0,
        gt=0,
        le=1000,
        description="polynomials act within -bound and bound; features beyond stay as they are",
    )


class SOSPFConfig(AutoregressiveConfig):
    """Parameters of `zuko_sospf`."""

    degree: int = Field(4, ge=1, le=32, description="degree of a polynomial that is squared")
    polynomials: int = Field(3, ge=1, le=64, description="number of squares in a sum")
    min_slope: float = Field(1e-3, gt=0, lt=1, description="smallest slope of a transform")


class NAFConfig(AutoregressiveConfig):
    """Parameters of `zuko_naf`."""

    start: Literal["random"] = Field("random", description="zuko's own start; there is no other")
    signal: int = Field(16, ge=1, le=1024, description="length of a monotonic network's context")
    network_hidden: int = Field(64, ge=2, le=8192, multiple_of=2, description="width of a monotonic network")
    network_depth: int = Field(2, ge=1, le=16, description="hidden layers of a monotonic network")


class UNAFConfig(AutoregressiveConfig):
    """Parameters of `zuko_unaf`."""

    signal: int = Field(16, ge=1, le=1024, description="length of an integrand network's context")
    network_hidden: int = Field(64, ge=1, le=8192, description="width of an integrand network")
    network_depth: int = Field(2, ge=1, le=16, description="hidden layers of an integrand network")


class GFConfig(Config):
    """Parameters of `zuko_gf`."""

    transforms: int = Field(
        3, ge=1, le=128, description="number of elementwise transforms, with rotations between"
    )
    components: int = Field(8, ge=1, le=256, description="Gaussians of each feature's transform")


class CNFConfig(Config):
    """Parameters of `zuko_cnf`."""

    hidden: int = Field(64, ge=1, le=8192, description="width of the network's hidden layers")
    depth: int = Field(2, ge=1, le=16, description="number of hidden layers of the network")
    frequencies: int = Field(3, ge=1, le=64, description="frequencies that the network sees the time through")
    atol: float = Field(1e-6, gt=0, lt=1, description="absolute tolerance of the integration")
    rtol: float = Field(1e-5, gt=0, lt=1, description="relative tolerance of the integration")
    start: Literal["identity", "random"] = Field(
        "identity",
        description="identity: the last layer of the network starts at 0, so that the flow moves no row at "
        "first; random: zuko's own start",
    )


_DENSITY = (
    "Densities cost one pass; the inverse, which sampling needs, costs one pass a feature (or `passes`) and "
    "transform."
)
_STANDARDISED = "Meant for standardised features."
_BISECTION = (
    "The inverse is found by bisection between -10 and 10: rows further out do not come back. "
    + _STANDARDISED
)

NSF_COUPLING = FlowSpec(
    config=NSFCouplingConfig,
    build="flowgmm_zuko.model:build_nsf_coupling",
    summary="Neural spline couplings (Durkan et al., 2019)",
    docs="Rational-quadratic splines on one half of the features, set by a network of the other half. "
    f"Forward and inverse cost one pass each. {_STANDARDISED}",
    conformance="flowgmm_zuko.conformance:CouplingConformance",
)
NSF = FlowSpec(
    config=NSFConfig,
    build="flowgmm_zuko.model:build_nsf",
    summary="Autoregressive neural splines (Durkan et al., 2019)",
    docs=f"A rational-quadratic spline for each feature, set by those before it. {_DENSITY} {_STANDARDISED}",
    conformance="flowgmm_zuko.conformance:AutoregressiveConformance",
)
MAF = FlowSpec(
    config=MAFConfig,
    build="flowgmm_zuko.model:build_maf",
    summary="Masked autoregressive flow (Papamakarios et al., 2017)",
    docs=f"A scale and shift of each feature, set by those before it. {_DENSITY}",
    conformance="flowgmm_zuko.conformance:AutoregressiveConformance",
)
NAF = FlowSpec(
    config=NAFConfig,
    build="flowgmm_zuko.model:build_naf",
    summary="Neural autoregressive flow (Huang et al., 2018)",
    docs=f"A monotonic network for each feature, with those before it as context. {_DENSITY} {_BISECTION}",
    conformance="flowgmm_zuko.conformance:NeuralConformance",
)
UNAF = FlowSpec(
    config=UNAFConfig,
    build="flowgmm_zuko.model:build_unaf",
    summary="Unconstrained monotonic networks, autoregressive (Wehenkel and Louppe, 2019)",
    docs="The integral of a positive network for each feature, with those before it as context. "
    f"{_DENSITY} {_BISECTION}",
    conformance="flowgmm_zuko.conformance:IntegralConformance",
)
SOSPF = FlowSpec(
    config=SOSPFConfig,
    build="flowgmm_zuko.model:build_sospf",
    summary="Sum-of-squares polynomial flow (Jaini et al., 2019)",
    docs="The integral of a sum of squared polynomials for each feature, set by those before it. "
    f"{_DENSITY} {_BISECTION}",
    conformance="flowgmm_zuko.conformance:BisectionConformance",
)
BPF = FlowSpec(
    config=BPFConfig,
    build="flowgmm_zuko.model:build_bpf",
    summary="Bernstein polynomial flow (Sick et al., 2020)",
    docs=f"A monotonic polynomial for each feature, set by those before it. {_DENSITY} {_STANDARDISED}",
    conformance="flowgmm_zuko.conformance:BisectionConformance",
)
GF = FlowSpec(
    config=GFConfig,
    build="flowgmm_zuko.model:build_gf",
    summary="Gaussianisation flow (Meng et al., 2020)",
    docs="Elementwise maps through mixtures of Gaussians, with learned rotations between them. Rows far "
    "beyond the data have no finite density: clip them. " + _BISECTION,
    conformance="flowgmm_zuko.conformance:GaussianisationConformance",
)
CNF = FlowSpec(
    config=CNFConfig,
    build="flowgmm_zuko.model:build_cnf",
    summary="Continuous flow with the exact trace (Chen et al., 2018)",
    docs="Follows a learned velocity field. The trace costs one backward pass a feature; for more than a few "
    "dozen features see the package flowgmm-ffjord.",
    conformance="flowgmm_zuko.conformance:ContinuousConformance",
)
REALNVP = FlowSpec(
    config=RealNVPConfig,
    build="flowgmm_zuko.model:build_realnvp",
    summary="Affine couplings on even and odd features, zuko's (Dinh et al., 2017)",
    docs="The built-in `realnvp` is the faster one; this is zuko's, to compare.",
    conformance="flowgmm_zuko.conformance:CouplingConformance",
)
NICE = FlowSpec(
    config=NICEConfig,
    build="flowgmm_zuko.model:build_nice",
    summary="Additive couplings, which keep volumes (Dinh et al., 2015)",
    docs="The log-determinant is 0 unless `mixing` is `lu`.",
    conformance="flowgmm_zuko.conformance:CouplingConformance",
)
