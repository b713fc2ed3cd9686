"""Flows of images with the interface of flows of vectors."""

import torch

from flowgmm_cli.bijection import Bijection, Sequential
from flowgmm_cli.flows.multiscale import FlatFlow, latent_sizes


class DoublingFlow(Bijection):
    """Doubles images and flattens them; has scales and an initialisation."""

    latent_sizes = (4, 8)

    def __init__(self):
        super().__init__()
        self.init_shape = None

    def initialise(self, x):
        self.init_shape = x.shape

    def forward(self, x):
        return 2 * x.flatten(1), torch.full((len(x),), 12 * torch.tensor(2.0).log())

    def inverse(self, z):
        return z.reshape(-1, 3, 2, 2) / 2


def test_rows_are_mapped_as_images_and_returned_flat():
    flow = FlatFlow(DoublingFlow(), (3, 2, 2))
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    z, log_det = flow(x)
    assert torch.equal(z, 2 * x)
    assert log_det.shape == (5,)
    assert torch.equal(flow.inverse(z), x)
    assert flow(x[:0])[0].shape == (0, 12)


def test_scales_and_initialisation_are_forwarded_to_the_flow():
    flow = FlatFlow(inner := DoublingFlow(), (3, 2, 2))
    flow.initialise(torch.zeros(4, 12))
    assert inner.init_shape == (4, 3, 2, 2)
    assert flow.latent_sizes == latent_sizes(flow) == (4, 8)


def test_scales_and_initialisation_are_optional():
    flow = FlatFlow(Sequential(), (12,))
    flow.initialise(torch.zeros(4, 12))
    assert latent_sizes(flow) == ()
