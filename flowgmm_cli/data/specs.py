"""Specs of the built-in data sources and transforms.

Two parameters mean the same in every source, plugins included: `encoder` turns text columns into vectors, and
`missing` says what happens to empty numeric cells. A source without them has no text or no empty cells.
"""

from __future__ import annotations

from typing import Annotated, Literal

from flowgmm_cli.api import (
    Component,
    Config,
    DataConfig,
    DataSpec,
    Field,
    Spec,
    TransformSpec,
    component_field,
)
from flowgmm_cli.data.images.specs import ImagesConfig

MissingPolicy = Literal["median", "mean", "error"]
DatePart = Literal["elapsed", "month", "weekday", "hour"]
DATE_PARTS: tuple[DatePart, ...] = ("elapsed", "month", "weekday", "hour")

# --- sources ----------------------------------------------------------------------------------------------


class CsvConfig(DataConfig):
    """Parameters of `csv`."""

    path: str = Field(
        description="training rows: a csv, tsv, jsonl, parquet or arrow (feather) file, or a folder or "
        "pattern of such files; csv and jsonl also as .gz, .bz2, .xz or .zst; or a folder with a folder of "
        "text files for each class, which has the columns id, text and label"
    )
    test_path: str | None = Field(None, description="rows of the final test, same columns")
    val_path: str | None = Field(None, description="rows of the validation split, same columns")
    label: str = Field(description="column of the class; an empty cell is an unlabelled row")
    unlabelled: list[str] = Field(
        default_factory=list, description="further cells of the label column that mean no label"
    )
    text: str | list[str] | None = Field(
        None, description="column of text, or several that are joined by a line break"
    )
    features: list[str] | None = Field(
        None, description="input columns; by default the text if there is one, else every other column"
    )
    drop: list[str] = Field(default_factory=list, description="columns that are not inputs")
    categorical: list[str] | None = Field(
        None,
        description="columns of categories, numbers too, each category a feature; by default the non-numeric "
        "ones, hashed if they are many",
    )
    dates: list[DatePart] | Literal["drop"] = Field(
        default_factory=lambda: list(DATE_PARTS),
        min_length=1,
        description="features of a date: days since the first, and the places in the year, the week and the "
        "day as cycles; drop = leave dates out",
    )
    missing: MissingPolicy = Field("median", description="replacement of an empty or infinite numeric cell")
    id: str | None = Field(None, description="column that names a row; by default the row number")
    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="by default inferred from suffix and header line"
    )
    encoding: str | None = Field(
        None, description="encoding of text files; by default UTF-8, or UTF-16 with a byte order mark"
    )
    decimal: str = Field(
        ".", min_length=1, max_length=1, description="decimal point of csv files, `.` or `,`"
    )
    thousands: str | None = Field(
        None, min_length=1, max_length=1, description="mark between thousands in numbers of csv files"
    )
    on_error: Literal["fail", "keep"] | None = Field(
        None,
        description="lines that cannot be read, and cells that do not fit their column: `fail` stops at the "
        "first, `keep` leaves all such rows out; by default a few are left out, and more of them stop",
    )
    memory: float = Field(
        2.0, ge=0, description="memory for the cells of a table, in GiB; a larger one is read in chunks"
    )
    encoder: Component | list[Component] = component_field(
        "encoder",
        {"use": "wordllama"},
        description="text to vectors, where `text` is set; the vectors of several stand side by side",
    )


class HfTextConfig(DataConfig):
    """Parameters of `hf_text`."""

    path: str | list[str] = Field(description="hub id, hub-style local folder, or local file(s)")
    revision: str | None = Field(None, description="commit, tag or branch on the hub")
    name: str | None = Field(None, description="configuration of the data set")
    train_split: str = Field("train", description="split with the training rows")
    test_split: str | None = Field("test", description="split of the final test; drawn if there is no `test`")
    val_split: str | None = Field(None, description="split of the validation rows; by default drawn")
    text: str | list[str] = Field("text", description="column of text, or several joined by a line break")
    label: str = Field("label", description="column of the class; null or -1 is an unlabelled row")
    encoder: Component | list[Component] = component_field(
        "encoder",
        {"use": "wordllama"},
        description="text to vectors; the vectors of several stand side by side",
    )
    transforms: list[Component] = component_field(
        "transform",
        [{"use": "pca"}],
        description="maps of the feature matrix, fitted on training rows, first to last",
    )


class SklearnConfig(DataConfig):
    """Parameters of `sklearn`."""

    name: Literal["digits", "two_moons", "two_circles", "eight_gaussians", "pinwheel"] = Field(
        description="digits: 1,797 real images of 8x8 pixels; the others are synthetic, in 2-D"
    )
    n: int = Field(1000, ge=10, description="training rows of a synthetic set")
    test_n: int = Field(1000, ge=0, description="test rows of a synthetic set, a separate draw")
    noise: float | None = Field(
        None, ge=0, description="standard deviation of the noise of a synthetic set; each set has its default"
    )
    seed: int = Field(0, ge=0, description="seed of a synthetic set")


class ArraysConfig(DataConfig):
    """Parameters of `arrays`."""

    path: str = Field(
        description="npz file; or npy file of the training rows, the others then name npy files"
    )
    x: str = Field("train", description="training rows (N, ...)")
    y: str = Field("train_label", description="training labels (N,); -1, NaN or '' is an unlabelled row")
    x_test: str | None = Field("test", description="test rows; drawn if there is no `test`")
    y_test: str | None = Field("test_label", description="test labels")
    class_names: list[str] | None = Field(None, description="names of the labels 0, 1, ...")
    missing: MissingPolicy = Field("error", description="replacement of a NaN or infinite cell")


SPECS: dict[str, Spec] = {
    "csv": DataSpec(
        config=CsvConfig,
        build="flowgmm_cli.data.sources.csv:build",
        summary="Your own table: csv, tsv, parquet or jsonl, with numbers, categories and text",
        docs="Of tables whose cells would take more than `memory`, the features are written once to a file "
        "in the user's cache (FLOWGMM_CACHE_DIR), and training reads them through a buffer of shuffled rows; "
        "labelled, held-out and a sample of other rows stay in memory. At most 20,000 test and 20,000 "
        "validation rows are then held out.",
    ),
    "hf_text": DataSpec(
        config=HfTextConfig,
        build="flowgmm_cli.data.sources.tables:build",
        summary="Text classification data from the Hugging Face hub or a local copy",
    ),
    "sklearn": DataSpec(
        config=SklearnConfig,
        build="flowgmm_cli.data.sources.sklearn:build",
        summary="Digits and synthetic 2-D sets; needs no file and no network",
    ),
    "arrays": DataSpec(
        config=ArraysConfig,
        build="flowgmm_cli.data.sources.arrays:build",
        summary="NumPy arrays: an npz file or npy files, such as precomputed embeddings",
    ),
    "images": DataSpec(
        config=ImagesConfig,
        build="flowgmm_cli.data.sources.images:build",
        summary="Images: folders of files, IDX (MNIST), npz and npy, or a data set of the hub",
        docs="A folder holds a folder for each class, and one named `unlabelled` for the rest; or images and "
        "labels.csv, or metadata.csv as on the hub. Folders `train`, `test` and `val` of this form make the "
        "splits. Images are rotated "
        "upright, transparency becomes white, only the first frame is read, and 16 bits are scaled to 8; "
        "notes say so. Pixels beyond `memory` are decoded once and cached on disk (FLOWGMM_CACHE_DIR).",
    ),
}

# --- transforms -------------------------------------------------------------------------------------------


class StandardiseConfig(Config):
    """Parameters of `standardise`: none."""


class QuantileConfig(Config):
    """Parameters of `quantile`."""

    n_quantiles: int = Field(256, ge=2, le=10_000, description="knots of each feature's piecewise-linear map")


class PcaConfig(Config):
    """Parameters of `pca`."""

    dim: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="components kept: a number, a share of the variance, or all"
    )


class ClipConfig(Config):
    """Parameters of `clip`."""

    limit: float = Field(8.0, gt=0, description="largest magnitude, in the units of the preceding transform")


class ScaleConfig(Config):
    """Parameters of `scale`."""

    factor: float | None = Field(
        None, gt=0, description="multiply by this; the default makes the mean variance 1"
    )


class DequantiseConfig(Config):
    """Parameters of `dequantise`."""

    levels: int = Field(256, ge=2, le=65_536, description="number of whole numbers, from 0")


TRANSFORMS: dict[str, Spec] = {
    "standardise": TransformSpec(
        config=StandardiseConfig,
        build="flowgmm_cli.data.transforms.elementwise:Standardise",
        summary="Mean 0 and standard deviation 1 for each feature",
    ),
    "quantile": TransformSpec(
        config=QuantileConfig,
        build="flowgmm_cli.data.transforms.quantile:Quantile",
        summary="Each feature to a standard normal through its training quantiles",
    ),
    "pca": TransformSpec(
        config=PcaConfig,
        build="flowgmm_cli.data.transforms.pca:Pca",
        summary="Rotation to principal components, divided by one number",
    ),
    "clip": TransformSpec(
        config=ClipConfig,
        build="flowgmm_cli.data.transforms.elementwise:Clip",
        summary="Limit the magnitude of each feature; cannot be undone",
    ),
    "scale": TransformSpec(
        config=ScaleConfig,
        build="flowgmm_cli.data.transforms.elementwise:Scale",
        summary="All features times one number",
    ),
    "dequantise": TransformSpec(
        config=DequantiseConfig,
        build="flowgmm_cli.data.transforms.elementwise:Dequantise",
        summary="Whole numbers such as pixels to [0, 1), by noise within each step",
        docs="For flows of images: without it a density of whole numbers is unbounded. `log p` is then that "
        "of the pixels, and `eval` reports bits per dimension. Noise is drawn in each training step; "
        "otherwise it is a function of the row, so results are reproducible.",
    ),
}
