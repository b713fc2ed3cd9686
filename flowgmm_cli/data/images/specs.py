"""Parameters of the data source `images`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from flowgmm_cli.api import Component, DataConfig, Field, ViewsConfig, component_field
from flowgmm_cli.data.images.format import Channels, Resize

SPLIT_FOLDERS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
"""Names of folders of splits, with the split of each."""
UNLABELLED_FOLDERS = ("unlabelled", "unlabeled")
"""Names of folders of files without a label."""
_Pixels = Annotated[int, Field(ge=1, le=65_536)]


class ImageViewsConfig(ViewsConfig):
    """Random changes of images: weak ones for the teacher, strong ones for the student."""

    weak: list[Component] = component_field(
        "view",
        [{"use": "affine", "pixels": 1.0}],
        description="changes before the teacher sees a row, and of the labelled rows",
    )
    strong: list[Component] = component_field(
        "view",
        [{"use": "affine", "pixels": 2.0, "degrees": 10.0}, {"use": "noise", "scale": 0.5}],
        description="changes before the student sees an unlabelled row",
    )


class ImagesConfig(DataConfig):
    """Parameters of `images`."""

    path: str = Field(
        description="folder with a folder of images for each class, or with a labels file; MNIST's (IDX) "
        "files; npz, npy or parquet file; or hub id"
    )
    test_path: str | None = Field(None, description="images of the final test, in the same form as `path`")
    val_path: str | None = Field(None, description="images of the validation split, in the same form")
    channels: Channels = Field("auto", description="auto = grey where all are grey")
    size: _Pixels | Annotated[list[_Pixels], Field(min_length=2, max_length=2)] | None = Field(
        None, description="[height, width] in pixels, or one number for both; by default as they are"
    )
    resize: Resize = Field(
        "error",
        description="treatment of an image of another size: refused, deformed, cropped about its centre, or "
        "padded with black",
    )
    on_error: Literal["fail", "keep"] | None = Field(
        None,
        description="images that cannot be read: `fail` stops, `keep` leaves them all out; by default a few "
        "are left out, and more of them stop",
    )
    on_corrupt: Literal["error", "skip"] | None = Field(
        None, description="former name of `on_error`: error = fail, skip = keep"
    )
    unlabelled: str = Field(
        "unlabelled", description="folder of images without a label, beside the folders of the classes"
    )
    labels_file: str | None = Field(
        None,
        description="table of labels, in the folder; by default labels.csv, or metadata.csv as on the hub. "
        "Images that it does not name, or with an empty cell, are unlabelled",
    )
    file: str | None = Field(
        None,
        description="column of a labels file with the path of an image in the folder; by default file or "
        "file_name",
    )
    label: str = Field("label", description="column of the class in a labels file or a data set of the hub")
    x: str | None = Field(None, description="array of training images (N, ...); by default x or x_train")
    y: str | None = Field(None, description="array of labels (N,), -1 = unlabelled; by default y or y_train")
    x_test: str | None = Field(None, description="array of test images; by default x_test if it is there")
    y_test: str | None = Field(None, description="array of test labels; by default y_test")
    class_names: list[str] | None = Field(
        None,
        description="names of the labels 0, 1, ... of arrays; by default the array `names` if it is there",
    )
    name: str | None = Field(None, description="configuration of a data set on the hub")
    revision: str | None = Field(None, description="commit, tag or branch on the hub")
    image: str | None = Field(None, description="column of images on the hub; by default the only one")
    train_split: str = Field("train", description="split of the hub with the training rows")
    test_split: str | None = Field("test", description="split of the final test; drawn if there is no `test`")
    val_split: str | None = Field(None, description="split of the validation rows; by default drawn")
    unlabelled_split: str | None = Field(
        None, description="split whose images are further training rows, without their labels"
    )
    encoder: Component | None = component_field(
        "encoder", None, description="images to vectors: efficientnet_lite0; null = the pixels themselves"
    )
    memory: float = Field(2.0, ge=0, description="memory for pixels, in GiB; further pixels stay on disk")
    cache: Literal["auto", "never", "always"] = Field(
        "auto", description="when decoded pixels are cached on disk; auto = if they do not fit in `memory`"
    )
    transforms: list[Component] = component_field(
        "transform",
        [{"use": "pca", "dim": 128}],
        description="maps of the feature matrix, fitted on training rows, first to last",
    )
    views: ImageViewsConfig = Field(
        default_factory=lambda: ImageViewsConfig(), description="random changes of training rows"
    )

    @property
    def height_width(self) -> tuple[int, int] | None:
        """`size` as (height, width)."""
        if self.size is None or isinstance(self.size, int):
            return None if self.size is None else (self.size, self.size)
        return self.size[0], self.size[1]

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes."""
        return int(self.memory * 2**30)

    @property
    def unlabelled_names(self) -> tuple[str, ...]:
        """`unlabelled`, of the default also the American spelling."""
        return UNLABELLED_FOLDERS if self.unlabelled == "unlabelled" else (self.unlabelled,)

    @property
    def damage_policy(self) -> Literal["fail", "keep"] | None:
        """`on_error`, or the former `on_corrupt`."""
        if self.on_error is None and self.on_corrupt is not None:
            return "fail" if self.on_corrupt == "error" else "keep"
        return self.on_error

    @model_validator(mode="after")
    def _require_size(self) -> ImagesConfig:
        if self.resize != "error" and self.size is None:
            raise ValueError(f"resize is {self.resize}, and size is not given: [height, width] in pixels")
        return self
