import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from flowgmm_cli.encoders.specs import TfidfSvdConfig
from flowgmm_cli.encoders.tfidf_svd import TfidfSvdEncoder
from flowgmm_cli.errors import DataError

WORDS = ["ball", "goal", "match", "vote", "law", "party", "stock", "price", "bank", "code", "chip", "data"]


@pytest.fixture
def texts():
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, 8)) for _ in range(80)]


def fit_encoder(texts, **parameters):
    encoder = TfidfSvdEncoder(TfidfSvdConfig(**parameters))
    encoder.fit(texts)
    return encoder


def test_inner_products_are_those_of_scikit_learn(texts):
    vectors = fit_encoder(texts, dim=len(texts), min_df=2).encode(texts)  # all directions
    weights = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit_transform(texts)
    assert np.allclose(vectors @ vectors.T, (weights @ weights.T).toarray(), atol=1e-3)
    assert vectors.dtype == np.float32


def test_a_text_without_known_words_is_the_zero_vector(texts):
    vectors = fit_encoder(texts, dim=5).encode(["", "unheard of", "ball"])
    assert (vectors[:2] == 0).all()
    assert (vectors[2] != 0).any()


def test_dim_is_at_most_the_rank_of_the_texts():
    encoder = fit_encoder(["ball goal", "vote law", "ball goal"], dim=100, min_df=1)
    assert encoder.dim == 2
    assert encoder.encode(["ball"]).shape == (1, 2)


def test_words_of_one_letter_count():
    encoder = fit_encoder(["球 門", "法 票"], dim=2, min_df=1)
    assert (encoder.encode(["球"]) != 0).any()


@pytest.mark.parametrize("texts", [["", ""], ["all", "words", "differ"], ["!?", "..."]])
def test_too_few_words_are_an_error(texts):
    with pytest.raises(DataError, match="no n-gram occurs in 2"):
        fit_encoder(texts)


def test_many_texts_are_fitted_to_at_equal_distances(texts, monkeypatch):
    monkeypatch.setattr("flowgmm_cli.encoders.tfidf_svd.MAX_FIT_TEXTS", 40)
    every_other = [texts[place] for place in np.linspace(0, 79, 40).astype(int)]
    assert (fit_encoder(texts).encode(texts) == fit_encoder(every_other).encode(texts)).all()
