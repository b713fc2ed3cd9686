"""A suite with attributes of its own, as a plugin package would ship it."""

from __future__ import annotations

from flowgmm_cli.testing import FlowConformance


class Small(FlowConformance):
    dims = (3,)
