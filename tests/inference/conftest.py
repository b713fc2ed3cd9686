"""Trained models without training: a fitted preprocessor and a flow with weights drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.prepare import SplitData, fit_preprocessor, load_rows
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import Ensemble, FlowMixture
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.trained_model import TrainedModel, build_model

MakeTrained = Callable[..., TrainedModel]


@pytest.fixture
def make_trained(moons: Callable[..., Recipe]) -> MakeTrained:
    """A model of the tiny recipe: `make_trained("data.name=digits", members=2, components=3)`."""

    def make(*words: str, members: int = 1, components: int = 1, size: float = 0.3) -> TrainedModel:
        recipe = moons(*words)
        context = DataContext()
        rows = load_rows(recipe.data, context)
        preprocessor = fit_preprocessor(rows, recipe.data, context)
        classes, features = len(rows.class_names), preprocessor.dim
        generator = torch.Generator().manual_seed(0)
        parts = []
        for _ in range(members):
            part = build_model(recipe, shape=(features,), classes=classes)
            assert isinstance(part, FlowMixture)
            means = 3 * torch.randn(classes * components, features, generator=generator)
            part.mixture = GaussianMixture(means, components=components)
            with torch.no_grad():
                for parameter in part.flow.parameters():
                    parameter.normal_(std=size / max(parameter.shape[-1:]) ** 0.5, generator=generator)
            parts.append(part)
        model = parts[0] if members == 1 else Ensemble(parts)
        with torch.no_grad():
            model.temperature.fill_(2.0)
        return TrainedModel(recipe, preprocessor, model.eval(), rows.class_names)

    return make


@dataclass(frozen=True)
class Imaged:
    """A model of images and rows for it."""

    trained: TrainedModel
    rows: Rows

    @property
    def x(self) -> torch.Tensor:
        """The flow's inputs."""
        return self.trained.preprocessor.apply(self.rows, DataContext()).x


MakeImaged = Callable[..., Imaged]
COLUMNS = {
    "grey": Column("photo", "image", (8, 8)),
    "colour": Column("photo", "image", (8, 8, 3)),
    "vector": Column("photo", "vector", (8, 8)),
    "vector colour": Column("photo", "vector", (3, 8, 8)),
}


@pytest.fixture
def make_imaged(moons: Callable[..., Recipe]) -> MakeImaged:
    """A model of images of 8 by 8 whole numbers from 0 to 255, `make_imaged("grey", scales=2)`."""

    def make(kind: str = "grey", *words: str, scales: int = 2, classes: int = 3) -> Imaged:
        flow = f"flow={{use: glow, scales: {scales}, steps: 1, hidden: 4}}"
        recipe = moons("data.transforms=[{use: dequantise}]", "data.views.strong=[]", flow, *words)
        rng = np.random.default_rng(0)
        column = COLUMNS[kind]
        pixels = rng.integers(0, 256, size=(24, *column.shape), dtype=np.uint8)
        cells = pixels if column.kind == "image" else pixels.astype(np.float64)
        ids = np.array([f"row{place}" for place in range(24)], dtype=object)
        rows = Rows({"photo": cells}, np.arange(24) % classes, ids)
        names = tuple("abcdefghij"[:classes])
        context = DataContext()
        split = SplitData((column,), names, {"train": rows, "test": rows})
        preprocessor = fit_preprocessor(split, recipe.data, context)
        model = build_model(recipe, shape=preprocessor.shape, classes=classes)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
            model.parts[0].mixture.means.normal_(generator=generator)
        return Imaged(TrainedModel(recipe, preprocessor, model.eval(), names), rows)

    return make
