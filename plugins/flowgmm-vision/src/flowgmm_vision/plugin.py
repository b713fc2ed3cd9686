"""Parameters and spec; imports neither torch nor torchvision."""

from __future__ import annotations

from typing import Literal

from flowgmm_cli.api import DataConfig, DataSpec, Field


class ImageFeaturesConfig(DataConfig):
    """Parameters of `image_features`."""

    path: str = Field(
        description="folder with a folder of training images for each class; images beside these, and in the "
        "folder `unlabelled`, have no label"
    )
    test_path: str | None = Field(None, description="the same for the final test")
    val_path: str | None = Field(None, description="the same for the validation split")
    unlabelled: str = Field("unlabelled", min_length=1, description="name of the folder without labels")
    library: Literal["torchvision", "timm"] = Field("torchvision", description="library of the model")
    model: str = Field("resnet18", min_length=1, description="name of the model in its library")
    weights: str = Field(
        min_length=1,
        description="a file (safetensors, or a state dict saved by torch), `download` for the library's own "
        "pretrained weights, or `random` to try things out",
    )
    image_size: int | None = Field(
        None, ge=8, le=4096, description="height and width that the model sees; by default its own"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of random weights")
    batch_size: int = Field(64, ge=1, description="images that are encoded at a time")
    workers: int = Field(4, ge=1, le=64, description="threads that decode images")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="device of the model")
    unreadable: Literal["error", "skip"] = Field("error", description="treatment of damaged images")


IMAGE_FEATURES = DataSpec(
    config=ImageFeaturesConfig,
    build="flowgmm_vision.source:build",
    summary="Folders of images, each turned into a vector by a model of torchvision or timm",
    docs="The vectors are the inputs of the model's last layer. They are kept in flowgmm's cache by the "
    "image's digest, so each is encoded once. Nothing is downloaded unless `weights` is `download`.",
    conformance="flowgmm_vision.conformance:ImageFeaturesConformance",
)
