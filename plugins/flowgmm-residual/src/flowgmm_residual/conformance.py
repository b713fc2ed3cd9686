"""What `flowgmm plugins test` checks of `residual`."""

from __future__ import annotations

from typing import ClassVar

from flowgmm_cli.testing import FlowConformance


class ResidualConformance(FlowConformance):
    """As for every flow; the inverse looks at values to know when it is there."""

    config: ClassVar = {"blocks": 2, "hidden": 16}
    runs_on_meta = False
