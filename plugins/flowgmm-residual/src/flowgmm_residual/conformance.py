"""Conformance suite of `residual`."""

from __future__ import annotations

from typing import ClassVar

from flowgmm_cli.testing import FlowConformance


class ResidualConformance(FlowConformance):
    """Checks of a flow; the inverse is an iteration that stops depending on values."""

    config: ClassVar = {"blocks": 2, "hidden": 16}
    runs_on_meta = False
