"""Checks of flows of images."""

from __future__ import annotations

from typing import ClassVar

from flowgmm_cli.testing.flows import FlowConformance


class ImageFlowConformance(FlowConformance):
    """Checks of a flow of images; its rows are pixels in [0, 1].

    The images have one and three channels and from 4 to 32 pixels a side, some of which can be halved at
    most twice. The whole Jacobian is compared for the smallest image.
    """

    dims = ((1, 4, 4), (3, 8, 8), (1, 16, 8), (1, 28, 28), (3, 32, 32))
    interval = (0.0, 1.0)
    jacobian_up_to = 16


class RealNVPImageConformance(ImageFlowConformance):
    """The suite of `realnvp_image`, small enough to be quick."""

    config: ClassVar = {"checkerboard": 2, "channel": 2, "hidden": 8, "blocks": 1}


class GlowConformance(ImageFlowConformance):
    """The suite of `glow`, small enough to be quick."""

    config: ClassVar = {"steps": 2, "hidden": 8}
