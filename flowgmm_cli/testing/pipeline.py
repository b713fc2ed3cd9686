"""The way of a recipe's rows to features, for the checks of data sources."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Column, DataContext, Encoder, Rows
from flowgmm_cli.data.feature_encoder import FeatureEncoder
from flowgmm_cli.plugins.registry import build


def features_of(
    rows: Rows, columns: tuple[Column, ...], config: Any, context: DataContext
) -> npt.NDArray[np.float64] | npt.NDArray[np.uint8]:
    """The feature matrix `(N, F)` of rows, before the transforms; of images uint8."""

    def encoder() -> Encoder:
        made: Encoder = build(config.encoder)
        return made

    make = encoder if getattr(config, "encoder", None) is not None else None
    missing: Any = getattr(config, "missing", "error")
    feature_encoder = FeatureEncoder.fit(rows, columns, missing=missing, encoder=make)
    return feature_encoder.transform(rows, context)
