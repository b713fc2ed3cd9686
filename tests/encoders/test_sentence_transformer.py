import sys
from types import ModuleType

import numpy as np
import pytest

from flowgmm_cli.encoders import sentence_transformer
from flowgmm_cli.encoders.sentence_transformer import SentenceTransformerEncoder
from flowgmm_cli.encoders.specs import SentenceTransformerConfig
from flowgmm_cli.errors import DataError, PluginError


class FakeModel:
    """Replacement of the package's class: records its arguments and returns vectors of length 4."""

    def __init__(self, model, revision=None):
        if model == "missing":
            raise OSError("missing is not a local folder\nand more")
        self.max_seq_length = None
        self.calls = []

    def get_sentence_embedding_dimension(self):
        return 4

    def encode(self, texts, **options):
        self.calls.append(options)
        return np.ones((len(texts), 4), dtype=np.float64)


def make(**parameters):
    return SentenceTransformerEncoder(SentenceTransformerConfig(**parameters))


@pytest.fixture
def package(monkeypatch):
    module = ModuleType("sentence_transformers")
    module.SentenceTransformer = FakeModel
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    monkeypatch.setattr(sentence_transformer, "version", lambda name: "9.9")


def test_parameters_reach_the_model(package):
    encoder = SentenceTransformerEncoder(
        SentenceTransformerConfig(model="m", max_tokens=96, batch_size=7, normalise=False)
    )
    vectors = encoder.encode(["a", ""])
    assert vectors.dtype == np.float32
    assert vectors.shape == (2, encoder.dim)
    assert encoder._model.max_seq_length == 96
    (options,) = encoder._model.calls
    assert (options["batch_size"], options["normalize_embeddings"]) == (7, False)
    assert not options["show_progress_bar"]


def test_the_cache_key_differs_where_vectors_differ(package):
    variants = [{}, {"model": "m"}, {"revision": "r"}, {"max_tokens": 96}, {"normalise": False}]
    keys = {make(**variant).cache_key() for variant in variants}
    assert len(keys) == len(variants)
    assert make(batch_size=1).cache_key() in keys


def test_the_state_of_another_model_is_refused(package):
    values, arrays = make(model="m").state()
    make(model="m").load_state(values, arrays)
    with pytest.raises(DataError, match="made with m"):
        make(model="n").load_state(values, arrays)


def test_a_missing_model_is_an_error_with_a_hint(package):
    with pytest.raises(DataError, match=r"missing is not a local folder$") as caught:
        make(model="missing")
    assert "local folder" in caught.value.hint


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(PluginError) as caught:
        make()
    assert "flowgmm-cli[text]" in caught.value.hint
