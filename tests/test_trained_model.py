from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.data import preprocessor
from flowgmm_cli.data.prepare import fit_preprocessor, load_rows
from flowgmm_cli.data.preprocessor import Tensors
from flowgmm_cli.errors import RunError
from flowgmm_cli.files import read_tensors, write_tensors
from flowgmm_cli.inference import inputs
from flowgmm_cli.inference.sampling import recentre_components
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run
from flowgmm_cli.scores.detector import fit_detector
from flowgmm_cli.trained_model import TrainedModel, build_model, chunk_rows, encode

MakeRecipe = Callable[..., Recipe]
CONTEXT = DataContext()


@pytest.fixture
def trained(moons: MakeRecipe) -> TrainedModel:
    """As after training: a fitted preprocessor, weights that are not the first ones, a temperature."""
    recipe = moons("data.transforms=[{use: standardise}, {use: quantile}]")
    rows = load_rows(recipe.data, CONTEXT)
    preprocessor = fit_preprocessor(rows, recipe.data, CONTEXT)
    model = build_model(recipe, shape=(2,), classes=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
        model.temperature.fill_(2.5)
    facts = {"calibration": {"method": "cross_fit", "temperature": 2.5, "rows": 3}}
    return TrainedModel(recipe, preprocessor, model.eval(), rows.class_names, facts)


def held_out(model: TrainedModel) -> Tensors:
    rows = load_rows(model.recipe.data, CONTEXT).test
    assert rows is not None
    return model.preprocessor.apply(rows, CONTEXT)


def test_a_run_and_its_rows_are_read_without_the_network(
    trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.save(tmp_path)
    contexts: list[DataContext] = []

    def record(*args: Any, context: DataContext, **options: Any) -> None:
        contexts.append(context)
        raise RunError("recorded")

    monkeypatch.setattr(preprocessor.Preprocessor, "from_state", record)
    monkeypatch.setattr(inputs, "load_rows", lambda data, context, **_: record(context=context))
    with pytest.raises(RunError, match="recorded"):
        TrainedModel.load(tmp_path, context=CONTEXT)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunError, match="recorded"):
        inputs.load_run_rows(Run(tmp_path), trained, CONTEXT)
    assert [context.offline for context in contexts] == [True, True]
    assert not CONTEXT.offline


def test_a_saved_model_predicts_the_same_in_every_bit(trained: TrainedModel, tmp_path: Path) -> None:
    trained.save(tmp_path)
    loaded = TrainedModel.load(tmp_path)
    before, after = held_out(trained), held_out(loaded)
    assert torch.equal(before.x, after.x)
    first, second = trained.encode_rows(before), loaded.encode_rows(after)
    assert torch.equal(first.log_posterior, second.log_posterior)
    assert torch.equal(first.log_density, second.log_density)
    assert loaded.class_names == trained.class_names
    assert loaded.recipe.to_dict() == trained.recipe.to_dict()
    assert loaded.facts == trained.facts
    assert float(loaded.model.temperature) == 2.5
    assert not loaded.model.training
    assert (trained.detector, loaded.detector) == (None, None)
    loaded.save(tmp_path / "again")
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()
    components = json.loads((tmp_path / "model.json").read_text())["components"]
    kinds = {(item["kind"], item["name"]) for item in components}
    assert {("flow", "realnvp"), ("prior", "gmm"), ("transform", "quantile"), ("view", "noise")} <= kinds


def test_the_sampling_model_is_saved_and_shares_the_flow(trained: TrainedModel, tmp_path: Path) -> None:
    x = held_out(trained).x
    source = recentre_components(trained.model, x)
    replace(trained, sampling_model=source).save(tmp_path)
    loaded = TrainedModel.load(tmp_path)
    assert loaded.sampling_model is not None
    drawn = [one.sample(20, torch.Generator().manual_seed(1))[0] for one in (source, loaded.sampling_model)]
    assert torch.equal(*drawn)
    assert loaded.sampling_model.parts[0].flow is loaded.model.parts[0].flow
    assert torch.equal(loaded.model.log_prob(x), trained.model.log_prob(x))


def test_predictions_are_calibrated_and_densities_count_the_transforms(trained: TrainedModel) -> None:
    split = held_out(trained)
    found = trained.encode_rows(split)
    assert (len(found), found.images, trained.image) == (60, None, None)
    assert torch.equal(found.x, split.x)
    assert not found.latents.z.requires_grad
    assert found.log_posterior.shape == (60, 2)
    assert found.log_posterior.dtype == found.log_density.dtype == torch.float64
    np.testing.assert_allclose(found.log_posterior.exp().sum(1), 1)
    with torch.no_grad():
        joint = trained.model.class_log_prob(split.x)
        posterior = torch.log_softmax(joint.double() / 2.5, 1).numpy()
        np.testing.assert_allclose(found.log_posterior, posterior, atol=1e-5)
        expected = joint.logsumexp(1).double() + split.log_det
    np.testing.assert_allclose(found.log_density, expected.numpy(), rtol=1e-5)
    assert float(split.log_det.std()) > 0


def test_rows_are_encoded_in_pieces_and_none_are_no_trouble(
    trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = held_out(trained)
    whole = encode(trained.model, split.x)
    monkeypatch.setattr("flowgmm_cli.trained_model._CHUNK_ROWS", 7)
    pieces = encode(trained.model, split.x)
    torch.testing.assert_close(whole.class_log_prob, pieces.class_log_prob)
    torch.testing.assert_close(whole.log_det, pieces.log_det)
    assert encode(trained.model, split.x[:0]).class_log_prob.shape == (0, 2)


def test_a_missing_or_truncated_file_is_a_run_error(trained: TrainedModel, tmp_path: Path) -> None:
    trained.save(tmp_path)
    for name in ("model.json", "model.safetensors"):
        file = tmp_path / name
        whole = file.read_bytes()
        for content in (whole[: len(whole) // 2], b"", b"foreign"):
            file.write_bytes(content)
            with pytest.raises(RunError) as caught:
                TrainedModel.load(tmp_path)
            assert caught.value.exit_code == 6
        file.unlink()
        with pytest.raises(RunError, match="does not exist"):
            TrainedModel.load(tmp_path)
        file.write_bytes(whole)
    TrainedModel.load(tmp_path)


@pytest.mark.parametrize("key", ["class_names", "features", "facts", "preprocessor", "recipe", "format"])
@pytest.mark.parametrize("value", ["missing", 5, {}])
def test_any_damage_to_the_description_is_a_run_error(
    trained: TrainedModel, tmp_path: Path, key: str, value: object
) -> None:
    if key == "facts" and value == {}:
        value = None  # an empty one is no damage
    trained.save(tmp_path)
    file = tmp_path / "model.json"
    values = json.loads(file.read_text())
    if value == "missing":
        del values[key]
    else:
        values[key] = value
    file.write_text(json.dumps(values))
    with pytest.raises(RunError):
        TrainedModel.load(tmp_path)


def test_weights_that_do_not_fit_are_a_run_error(trained: TrainedModel, tmp_path: Path) -> None:
    trained.save(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors, metadata = read_tensors(file, "model")
    for name in ("model.mixture.means", "model.temperature", "preprocessor.transforms.layers.0.mean"):
        if name.startswith("model."):  # a transform takes its shapes from the file
            write_tensors(file, {**tensors, name: torch.ones(7, 7)}, metadata)
            with pytest.raises(RunError, match="damaged"):
                TrainedModel.load(tmp_path)
        write_tensors(file, {one: value for one, value in tensors.items() if one != name}, metadata)
        with pytest.raises(RunError, match="damaged"):
            TrainedModel.load(tmp_path)
    write_tensors(file, tensors)
    with pytest.raises(RunError, match="format"):
        TrainedModel.load(tmp_path)


def test_encoded_images_are_those_before_the_transforms(moons: MakeRecipe) -> None:
    recipe = moons("data.name=digits", "data.transforms=[{use: pca, dim: 4}]")
    rows = load_rows(recipe.data, CONTEXT)
    preprocessor = fit_preprocessor(rows, recipe.data, CONTEXT)
    model = build_model(recipe, shape=(4,), classes=10).eval()
    trained = TrainedModel(recipe, preprocessor, model, rows.class_names)
    assert rows.test is not None
    assert trained.image is not None
    (pixels,) = rows.test.columns.values()
    seen = trained.encode_rows(preprocessor.apply(rows.test, CONTEXT, with_inputs=True))
    assert seen.images is not None
    assert np.array_equal(seen.images.numpy(), pixels.astype(np.float32))
    assert trained.encode_rows(preprocessor.apply(rows.test, CONTEXT)).images is None


def test_scores_are_saved_with_the_model(trained: TrainedModel, tmp_path: Path) -> None:
    seen = trained.encode_rows(held_out(trained))
    components = trained.recipe.ood.scores
    detector = fit_detector(components, seen, seen, trained.model, 0).with_default("nll")
    replace(trained, detector=detector).save(tmp_path)
    loaded = TrainedModel.load(tmp_path).detector
    assert loaded is not None
    assert loaded.names == detector.names
    for name, values in detector(seen).items():
        assert np.array_equal(loaded(seen)[name], values)
        assert loaded.threshold(name) == detector.threshold(name)


def test_chunks_have_fewer_rows_with_thousands_of_components() -> None:
    model = FlowMixture(torch.nn.Identity(), GaussianMixture(torch.zeros(16_384, 2)))
    assert chunk_rows(2) == 4096
    assert chunk_rows(2, model) == 256
    assert chunk_rows(2**20, model) == 64
