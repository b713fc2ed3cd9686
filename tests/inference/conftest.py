"""Trained models without training: a fitted preprocessor and a flow with weights drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.prepare import fit_preprocessor, load_rows
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import Ensemble, FlowMixture
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.trained import TrainedModel, empty_model

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
            part = empty_model(recipe, shape=(features,), classes=classes)
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
        trained = TrainedModel(recipe, preprocessor, model.eval(), rows.class_names)
        return replace(trained)

    return make
