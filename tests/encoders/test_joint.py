import subprocess
import sys

import numpy as np
import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.cache import encode
from flowgmm_cli.encoders.joint import JointEncoder
from flowgmm_cli.encoders.specs import TfidfSvdConfig
from flowgmm_cli.encoders.tfidf_svd import TfidfSvdEncoder
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.recipe.load import load_recipe

TEXTS = ["ball goal match", "vote law party", "stock price bank", "code chip data", "goal vote", ""] * 3
WORDS = ["data.path=x.csv", "data.label=y", "data.text=t"]


class Lengths:
    """Counts letters and words; needs no fitting."""

    dim = 2
    calls = 0

    def fit(self, texts):
        pass

    def encode(self, texts):
        self.calls += len(texts)
        return np.array([[len(text), text.count(" ")] for text in texts], dtype=np.float32)

    def cache_key(self):
        return "lengths"

    def state(self):
        return {}, {}

    def load_state(self, values, arrays):
        pass


def make(weights=(1.0, 0.5)):
    return JointEncoder([Lengths(), TfidfSvdEncoder(TfidfSvdConfig(dim=50, min_df=1))], weights)


def test_each_part_has_the_length_of_its_weight_and_zero_stays_zero():
    encoder = make()
    encoder.fit(TEXTS)
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.dim)
    assert vectors.dtype == np.float32
    filled = [bool(text) * (encoder.dim / 2) ** 0.5 for text in TEXTS]
    assert np.allclose(np.linalg.norm(vectors[:, :2], axis=1), np.multiply(filled, 1.0))
    assert np.allclose(np.linalg.norm(vectors[:, 2:], axis=1), np.multiply(filled, 0.5), rtol=1e-5)


def test_a_restored_encoder_gives_the_same_vectors():
    encoder, again = make(), make()
    encoder.fit(TEXTS)
    again.load_state(*encoder.state())
    assert again.dim == encoder.dim
    assert (again.encode(TEXTS) == encoder.encode(TEXTS)).all()


def test_vectors_of_a_pretrained_part_are_cached(tmp_path):
    context = DataContext(cache_dir=str(tmp_path))
    first, second = make(), make()
    for encoder in (first, second):
        encoder.fit(TEXTS)
    assert (encode(first, TEXTS, context) == encode(second, TEXTS, context)).all()
    assert (first.parts[0].calls, second.parts[0].calls) == (len(set(TEXTS)), 0)


def test_a_recipe_has_one_encoder_or_several():
    both = [{"use": "wordllama"}, {"use": "tfidf_svd", "weight": 0.5}]
    recipe = load_recipe("text", [*WORDS, "data.encoder=[{use: wordllama}, {use: tfidf_svd, weight: 0.5}]"])
    assert [part.use for part in recipe.data.config.encoder] == [part["use"] for part in both]
    assert recipe.data.config.encoder[1].config.weight == 0.5
    assert recipe.to_dict()["data"]["encoder"][1]["weight"] == 0.5
    assert {"wordllama", "tfidf_svd"} <= {component.use for component in recipe.components()}


def test_use_replaces_a_list_and_a_number_changes_one_of_it():
    several = "data.encoder=[{use: wordllama}, {use: tfidf_svd}]"
    recipe = load_recipe("text", [*WORDS, several, "data.encoder.use=tfidf_svd", "data.encoder.dim=99"])
    assert (recipe.data.config.encoder.use, recipe.data.config.encoder.config.dim) == ("tfidf_svd", 99)
    changed = load_recipe("text", [*WORDS, several, "data.encoder.1.dim=99"])
    assert changed.data.config.encoder[1].config.dim == 99


@pytest.mark.parametrize("value", ["wordllama", "[wordllama]"])
def test_other_values_are_refused(value):
    with pytest.raises(RecipeError):
        load_recipe("text", [*WORDS, f"data.encoder={value}"])


def test_encoding_does_not_import_scikit_learn_and_leaves_the_root_logger_alone():
    code = (
        "import sys, logging; before = logging.root.level, list(logging.root.handlers)\n"
        "from flowgmm_cli.encoders.tfidf_svd import TfidfSvdEncoder as E\n"
        "from flowgmm_cli.encoders.specs import TfidfSvdConfig\n"
        "from flowgmm_cli.api import DataContext\n"
        "from flowgmm_cli.data.preprocessor import encoder_factory\n"
        "from flowgmm_cli.recipe.load import load_recipe\n"
        "data = load_recipe('text', ['data.path=x', 'data.label=y']).data\n"
        "assert len(encoder_factory(data, DataContext(offline=True))().parts) == 2\n"
        "import numpy as np; encoder = E(TfidfSvdConfig(dim=1, ngrams=[1, 1]))\n"
        "encoder.load_state({'vocabulary': ['a']}, {'idf': np.ones(1), 'components': np.ones((1, 1))})\n"
        "assert encoder.encode(['a a', 'b']).tolist() == [[1.0], [0.0]]\n"
        "assert not {'sklearn', 'pandas', 'datasets'} & set(sys.modules)\n"
        "assert 'wordllama' in sys.modules and (logging.root.level, logging.root.handlers) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
