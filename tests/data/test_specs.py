import pytest
from pydantic import ValidationError

from flowgmm_cli.api import DataConfig, DataSpec, TransformSpec
from flowgmm_cli.data.specs import SPECS, TRANSFORMS, PcaConfig


def test_every_source_has_the_shared_parameters():
    assert all(isinstance(spec, DataSpec) and issubclass(spec.config, DataConfig) for spec in SPECS.values())
    assert all(isinstance(spec, TransformSpec) for spec in TRANSFORMS.values())


def test_pca_takes_a_number_a_share_or_nothing():
    assert [PcaConfig(dim=dim).dim for dim in (5, 0.5, None)] == [5, 0.5, None]
    for dim in (0, -1, 1.0, 1.5, "all", True):
        with pytest.raises(ValidationError):
            PcaConfig(dim=dim)
