"""Conformance suites of `ffjord` and `rnode`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from flowgmm_cli.testing import FlowConformance, RegulariserConformance
from flowgmm_ffjord.model import Ffjord
from flowgmm_ffjord.plugin import FfjordConfig


class FfjordConformance(FlowConformance):
    """Checks of a flow, with the accuracy of the solver's default tolerances."""

    config: ClassVar = {"hidden": 16}
    tolerance = 1e-3
    tolerance64 = 1e-3
    log_det_tolerance = 1e-3
    runs_on_meta = False


class RnodeConformance(RegulariserConformance):
    """Checks of a regulariser, on a model with the flow `ffjord`."""

    def model(self) -> Any:
        """Make a small model whose flow is not the identity."""
        model = super().model()
        generator = torch.Generator().manual_seed(0)
        flow = Ffjord(4, FfjordConfig(hidden=8, method="rk4", steps=4), generator=generator)
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
        model.flow = flow
        return model
