import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from flowgmm_cli.data.transforms.standardise import Standardise


def test_it_is_the_scaling_of_scikit_learn():
    x = np.random.default_rng(0).normal(3, [1, 10, 1e-6], (50, 3))
    transform = Standardise(3)
    transform.fit(torch.from_numpy(x))
    assert np.allclose(transform(torch.from_numpy(x))[0].numpy(), StandardScaler().fit_transform(x))


def test_a_constant_feature_keeps_its_scale_despite_rounding():
    x = torch.full((1000, 1), 0.1, dtype=torch.float64)
    transform = Standardise(1)
    transform.fit(x)
    assert transform.scale.item() == 1
