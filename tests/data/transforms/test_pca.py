import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from flowgmm_cli.data.specs import PcaConfig
from flowgmm_cli.data.transforms.pca import Pca


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, dtype=torch.float64, generator=generator)
    return torch.randn(200, 6, dtype=torch.float64, generator=generator) @ mixing + 3


def fit(x, dim=None):
    transform = Pca(PcaConfig(dim=dim), features=x.shape[1])
    transform.fit(x)
    return transform


def test_directions_are_those_of_scikit_learn(x):
    transform = fit(x, 4)
    reference = PCA(4).fit(x.numpy())
    assert np.allclose(np.abs(np.sum(transform.components.numpy() * reference.components_, axis=1)), 1)


def test_kept_components_have_mean_variance_1_and_keep_their_ratios(x):
    transform = fit(x, 3)
    variance = transform(x)[0].var(dim=0, correction=0)
    reference = PCA(3).fit(x.numpy()).explained_variance_
    assert variance.mean().item() == pytest.approx(1)
    assert np.allclose(variance.numpy() / variance[0].item(), reference / reference[0])


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.999])
def test_a_share_keeps_as_few_components_as_explain_it(x, share):
    transform = fit(x, share)
    assert transform.out_features == PCA(share, svd_solver="full").fit(x.numpy()).n_components_


def test_the_largest_entry_of_each_direction_is_positive(x):
    transform = fit(-x)
    largest = transform.components.gather(1, transform.components.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


def test_more_components_than_features_means_all(x):
    transform = fit(x, 99)
    assert transform.out_features == 6
    assert not transform.inexact


def test_the_inverse_of_a_projection_is_the_nearest_point_of_its_plane(x):
    transform = fit(x, 2)
    reference = PCA(2).fit(x.numpy())
    back = transform.inverse(transform(x)[0])
    assert np.allclose(back.numpy(), reference.inverse_transform(reference.transform(x.numpy())))


def test_fewer_rows_than_features_still_give_a_rotation():
    x = torch.randn(3, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    transform = fit(x)
    eye = transform.components @ transform.components.T
    assert torch.allclose(eye, torch.eye(10, dtype=torch.float64))


def test_at_most_the_rank_of_the_rows_is_kept():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 200, dtype=torch.float64, generator=generator)
    transform = fit(x, 128)
    assert transform.out_features == 29
    z, log_det = transform(x)
    assert z.var(dim=0, correction=0).mean().item() == pytest.approx(1)
    assert z.var(dim=0).min() > 1e-3
    assert log_det.isfinite().all()
    again = Pca(PcaConfig(dim=128), features=200)
    again.load_state_dict(transform.state_dict())
    assert torch.equal(again(x)[0], z)


def test_equal_rows_keep_a_single_component():
    transform = fit(torch.ones(5, 8, dtype=torch.float64), 4)
    assert transform.out_features == 1
    assert torch.equal(transform(torch.ones(2, 8, dtype=torch.float64))[0], torch.zeros(2, 1).double())
