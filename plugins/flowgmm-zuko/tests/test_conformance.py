"""Every flow through the conformance suite that its spec names."""

from __future__ import annotations

from flowgmm_cli.testing import RecipesConformance
from flowgmm_zuko import conformance, plugin


class TestNSFCoupling(conformance.CouplingConformance):
    spec = plugin.NSF_COUPLING


class TestNSFCouplingMixed(conformance.CouplingConformance):
    spec = plugin.NSF_COUPLING
    config = {**conformance.CouplingConformance.config, "mixing": "lu", "random_masks": True}  # noqa: RUF012


class TestRealNVP(conformance.CouplingConformance):
    spec = plugin.REALNVP
    config = {**conformance.CouplingConformance.config, "mixing": "permutation"}  # noqa: RUF012


class TestNICE(conformance.CouplingConformance):
    spec = plugin.NICE


class TestNSF(conformance.AutoregressiveConformance):
    spec = plugin.NSF


class TestMAF(conformance.AutoregressiveConformance):
    spec = plugin.MAF
    config = {**conformance.AutoregressiveConformance.config, "shuffle": True, "passes": 2}  # noqa: RUF012


class TestNAF(conformance.NeuralConformance):
    spec = plugin.NAF


class TestUNAF(conformance.IntegralConformance):
    spec = plugin.UNAF


class TestSOSPF(conformance.BisectionConformance):
    spec = plugin.SOSPF


class TestBPF(conformance.BisectionConformance):
    spec = plugin.BPF


class TestGF(conformance.GaussianisationConformance):
    spec = plugin.GF


class TestCNF(conformance.ContinuousConformance):
    spec = plugin.CNF


class TestRecipes(RecipesConformance):
    package = "flowgmm-zuko"
    trainings = {"flowgmm-zuko/two_circles_nsf": []}  # noqa: RUF012
