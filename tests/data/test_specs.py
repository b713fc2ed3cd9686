import subprocess
import sys

import pytest
from pydantic import ValidationError

from flowgmm_cli.api import DataConfig, DataSpec, TransformSpec
from flowgmm_cli.data.specs import SPECS, TRANSFORMS, PcaConfig


def test_specs_import_nothing_heavy():
    code = (
        "import sys, flowgmm_cli.data.specs, flowgmm_cli.encoders.specs\n"
        "heavy = {'torch', 'numpy', 'sklearn', 'datasets', 'pandas', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_source_has_the_shared_parameters():
    assert all(isinstance(spec, DataSpec) and issubclass(spec.config, DataConfig) for spec in SPECS.values())
    assert all(isinstance(spec, TransformSpec) for spec in TRANSFORMS.values())


def test_pca_takes_a_number_a_share_or_nothing():
    assert [PcaConfig(dim=dim).dim for dim in (5, 0.5, None)] == [5, 0.5, None]
    for dim in (0, -1, 1.0, 1.5, "all", True):
        with pytest.raises(ValidationError):
            PcaConfig(dim=dim)
