"""Conformance suites of the flows."""

from __future__ import annotations

from typing import ClassVar

from flowgmm_cli.testing import FlowConformance

_NOT_ONTO = "a latent that no row between -10 and 10 is mapped to has no inverse; see the package's own tests"
_SMALL = {"transforms": 2, "hidden": 16, "depth": 1}


class CouplingConformance(FlowConformance):
    """Couplings look where their mask is true."""

    config: ClassVar = _SMALL
    runs_on_meta = False


class AutoregressiveConformance(FlowConformance):
    """The inverse costs one pass a feature: short vectors only."""

    config: ClassVar = _SMALL
    dims: ClassVar = (1, 2, 7)


class BisectionConformance(AutoregressiveConformance):
    """zuko's bisection stops at 1e-6; what steep maps make of that is more."""

    tolerance = 1e-3
    tolerance64 = 1e-3


class IntegralConformance(BisectionConformance):
    """The same, with a network for each feature."""

    config: ClassVar = {**_SMALL, "signal": 4, "network_hidden": 8, "network_depth": 1}


class NeuralConformance(IntegralConformance):
    """The same, at a random start whose latents may lie anywhere."""

    skip: ClassVar = {"test_round_trip": _NOT_ONTO, "test_round_trip_in_float64": _NOT_ONTO}


class GaussianisationConformance(BisectionConformance):
    """Mixtures of Gaussians have no mass far out, where the logarithm of a slope of 0 would be asked for."""

    config: ClassVar = {"transforms": 2}
    skip: ClassVar = {"test_round_trip": _NOT_ONTO, "test_round_trip_in_float64": _NOT_ONTO}
    far = 3.0


class ContinuousConformance(FlowConformance):
    """Checks with the accuracy of the solver's default tolerances; its steps depend on values."""

    config: ClassVar = {"hidden": 16}
    dims: ClassVar = (1, 2, 7)
    tolerance = 1e-3
    tolerance64 = 1e-3
    log_det_tolerance = 1e-3
    runs_on_meta = False
