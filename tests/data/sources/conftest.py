from collections.abc import Callable
from typing import Any

import pytest

from flowgmm_cli.api import DataContext, SourceData
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.sources.images import build


@pytest.fixture
def load(context: DataContext) -> Callable[..., SourceData]:
    """Load the source `images`: `load(path, size=4, resize="crop")`."""

    def make(path: object, **parameters: Any) -> SourceData:
        return build(ImagesConfig(path=str(path), **parameters), context).load()

    return make
