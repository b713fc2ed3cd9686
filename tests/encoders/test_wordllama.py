import json
from pathlib import Path

import numpy as np
import pytest
import wordllama

from flowgmm_cli.encoders.specs import WordLlamaConfig
from flowgmm_cli.encoders.wordllama import WordLlamaEncoder
from flowgmm_cli.errors import DataError

TEXTS = ["The match ended 2-1.", "Stocks fell", "日本語のテキスト", "a", "word " * 300, "<unk> </s>"]


@pytest.fixture(scope="module")
def encoder():
    return WordLlamaEncoder(WordLlamaConfig())


def test_vectors_are_those_of_the_package(encoder):
    package = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    assert np.allclose(encoder.encode(TEXTS), package.embed(TEXTS), atol=1e-6)


def test_a_smaller_dim_keeps_the_leading_part(encoder):
    small = WordLlamaEncoder(WordLlamaConfig(dim=64))
    assert small.dim == 64
    assert np.allclose(small.encode(TEXTS), encoder.encode(TEXTS)[:, :64], atol=1e-6)
    assert small.cache_key() != encoder.cache_key()


def test_state_names_the_model_and_that_of_another_model_is_refused(encoder):
    values, arrays = encoder.state()
    assert arrays == {}
    encoder.load_state(json.loads(json.dumps(values)), {})
    with pytest.raises(DataError, match="other_model"):
        encoder.load_state(values | {"model": "other_model"}, {})
