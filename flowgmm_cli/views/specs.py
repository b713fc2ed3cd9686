"""Specs of the built-in views, and the selection of views by level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from pydantic import field_validator

from flowgmm_cli.api import Component, Config, Field, Level, TextViewConfig, ViewSpec
from flowgmm_cli.plugins.registry import registry


class NoiseConfig(Config):
    """Parameters of `noise`."""

    scale: float = Field(0.5, ge=0, description="standard deviation, in units of the transformed features")


class DropConfig(Config):
    """Parameters of `drop`."""

    rate: float = Field(0.2, ge=0, lt=1, description="share of the features set to 0, their mean")


class CorruptConfig(Config):
    """Parameters of `corrupt`."""

    rate: float = Field(0.2, ge=0, lt=1, description="share of the features replaced by another row's")


Padding = Literal["zeros", "border", "reflection"]


def _padding() -> Any:
    return Field("zeros", description="pixels outside the image: 0, the nearest pixel, or the mirrored image")


class AffineConfig(Config):
    """Parameters of `affine`; each change is uniform between -1 and 1 times the largest."""

    pixels: float = Field(1.0, ge=0, description="largest shift along either side, in pixels")
    degrees: float = Field(0.0, ge=0, le=180, description="largest rotation")
    zoom: float = Field(0.0, ge=0, le=4, description="largest change of size; 0.1 = from 1/1.1 to 1.1")
    shear: float = Field(0.0, ge=0, lt=90, description="largest shear, in degrees")
    padding: Padding = _padding()


class FlipConfig(Config):
    """Parameters of `flip`."""

    horizontal: float = Field(0.5, ge=0, le=1, description="probability of a mirror image, left to right")
    vertical: float = Field(0.0, ge=0, le=1, description="probability of an upside-down image")


class CropConfig(Config):
    """Parameters of `crop`."""

    pixels: int = Field(4, ge=0, description="largest reach of the window beyond each edge, in pixels")
    area: float = Field(
        1.0, gt=0, le=1, description="smallest share of the image's area in the window; 1 = all of it"
    )
    stretch: float = Field(
        1.0,
        ge=1,
        description="largest ratio of the window's width to its height or of height to width; 1 = "
        "the ratio of the image",
    )
    padding: Padding = _padding()


class CutoutConfig(Config):
    """Parameters of `cutout`."""

    side: float = Field(0.5, gt=0, le=1, description="side of a square, a share of the image's shorter side")
    count: int = Field(1, ge=1, le=64, description="number of squares")
    fill: Literal["zeros", "mean", "grey"] = Field(
        "zeros", description="content of the squares: black, the image's own mean colour, or half of white"
    )


class ColourConfig(Config):
    """Parameters of `colour`; each change is uniform between -1 and 1 times the largest."""

    brightness: float = Field(0.4, ge=0, le=1, description="largest change of the factor on all values")
    contrast: float = Field(
        0.4, ge=0, le=1, description="largest change of the factor on the distance from the mean"
    )
    saturation: float = Field(
        0.4,
        ge=0,
        le=1,
        description="largest change of the factor on the distance from grey; no effect on grey images",
    )
    hue: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="largest rotation on the hue circle, as a share of it; no effect on grey images",
    )


class BlurConfig(Config):
    """Parameters of `blur`."""

    sigma: float = Field(
        1.0, ge=0, le=32, description="largest standard deviation of the Gaussian, in pixels"
    )


class ElasticConfig(Config):
    """Parameters of `elastic`."""

    pixels: float = Field(
        1.5,
        ge=0,
        description="largest displacement at a knot, in pixels; images begin to fold above a third of the "
        "distance between knots",
    )
    knots: int = Field(4, ge=2, le=64, description="knots along either side; more make smaller bends")
    padding: Padding = _padding()


Operation = Literal[
    "identity",
    "shift",
    "rotate",
    "shear",
    "zoom",
    "brightness",
    "contrast",
    "saturation",
    "sharpness",
    "posterise",
    "solarise",
    "autocontrast",
    "equalise",
]


class RandAugmentConfig(Config):
    """Parameters of `rand_augment`."""

    count: int = Field(2, ge=1, le=16, description="number of operations on each image")
    magnitude: float = Field(
        0.5,
        ge=0,
        le=1,
        description="largest strength of an operation; 1 = shifts and shears by 0.3 of a side, rotations by "
        "30 degrees, zooms by 1.4, factors from 0.1 to 1.9, 4 of 8 bits, all values inverted",
    )
    operations: list[Operation] = Field(
        list(get_args(Operation)),
        min_length=1,
        description="operations to draw from; images without colours get no saturation",
    )
    padding: Padding = _padding()

    @field_validator("operations")
    @classmethod
    def _no_duplicates(cls, operations: list[Operation]) -> list[Operation]:
        if len(set(operations)) < len(operations):
            raise ValueError("each operation can be named only once")
        return operations


class DropWordsConfig(TextViewConfig):
    """Parameters of `drop_words`."""

    rate: float = Field(0.1, ge=0, lt=1, description="share of the words removed")


SPECS: dict[str, ViewSpec] = {
    "noise": ViewSpec(config=NoiseConfig, build="flowgmm_cli.views.rows:Noise", summary="Add Gaussian noise"),
    "drop": ViewSpec(
        config=DropConfig,
        build="flowgmm_cli.views.rows:Drop",
        summary="Set a random share of the features to 0",
    ),
    "corrupt": ViewSpec(
        config=CorruptConfig,
        build="flowgmm_cli.views.rows:Corrupt",
        summary="Replace a random share of the features by those of other rows",
        docs="SCARF (Bahri et al., 2022): the replacement is a draw from the feature's marginal distribution "
        "in the batch, so it is a value that the column can have.",
    ),
    "affine": ViewSpec(
        config=AffineConfig,
        build="flowgmm_cli.views.geometry:Affine",
        level="inputs",
        summary="Shift, rotate, scale and shear images a little",
        docs="Acts on the pixels of image columns, before the transforms. All changes share one linear "
        "interpolation. Suits images of all kinds, photographs with `padding: reflection`; digits and "
        "letters tolerate rotations of up to about 15 degrees.",
    ),
    "flip": ViewSpec(
        config=FlipConfig,
        build="flowgmm_cli.views.geometry:Flip",
        level="inputs",
        summary="Mirror images",
        docs="For photographs and clothing, left to right; upside down only for images without an "
        "orientation, such as cells or satellite images. Not for digits and letters: a mirrored 2 is no 2.",
    ),
    "crop": ViewSpec(
        config=CropConfig,
        build="flowgmm_cli.views.geometry:Crop",
        level="inputs",
        summary="Cut a window out of images, shifted by whole pixels or enlarged",
        docs="The default is the shift by up to 4 pixels with zero padding of the FlowGMM paper (Izmailov et "
        "al., 2020), which suits images of all kinds; use 2 pixels for small ones. For photographs `area: "
        "0.3, stretch: 1.33, pixels: 0` is the usual random resized crop, which cuts digits off.",
    ),
    "cutout": ViewSpec(
        config=CutoutConfig,
        build="flowgmm_cli.views.degradations:Cutout",
        level="inputs",
        summary="Hide squares of images",
        docs="DeVries and Taylor (2017), who hide half a side of CIFAR-10 and less with more classes. For "
        "photographs; a third of a side is often all that distinguishes one digit from another.",
    ),
    "colour": ViewSpec(
        config=ColourConfig,
        build="flowgmm_cli.views.colour:Colour",
        level="inputs",
        summary="Change brightness, contrast, saturation and hue of images",
        docs="Always in this order, with luminances of ITU-R BT.601 and the hues of HSV, as in Pillow. For "
        "photographs; in grey images only brightness and contrast change. Less contrast makes a black "
        "background grey: set `contrast: 0` for digits.",
    ),
    "blur": ViewSpec(
        config=BlurConfig,
        build="flowgmm_cli.views.degradations:Blur",
        level="inputs",
        summary="Blur images",
        docs="For photographs of at least about 64 pixels a side; images of 28 or 32 pixels have little "
        "detail to lose, and half a pixel is much.",
    ),
    "elastic": ViewSpec(
        config=ElasticConfig,
        build="flowgmm_cli.views.geometry:Elastic",
        level="inputs",
        summary="Distort images smoothly",
        docs="Simard et al. (2003). For handwriting, which it changes as another writer would; less suited "
        "to photographs, whose edges `padding: reflection` should then continue.",
    ),
    "rand_augment": ViewSpec(
        config=RandAugmentConfig,
        build="flowgmm_cli.views.rand_augment:RandAugment",
        level="inputs",
        summary="Make a few strong changes of images, drawn at random",
        docs="RandAugment (Cubuk et al., 2020) with the operations and strengths of FixMatch (Sohn et al., "
        "2020), as the strong view of photographs. Strengths are uniform up to the largest, in either "
        "direction. The geometric operations share one linear interpolation, before the changes of values. "
        "For digits use the geometric ones only, `operations: [identity, shift, rotate, shear, zoom]`.",
    ),
    "drop_words": ViewSpec(
        config=DropWordsConfig,
        build="flowgmm_cli.views.rows:DropWords",
        level="text",
        summary="Remove a random share of the words of a text",
        docs="Acts on the texts, before the encoder: `copies` changed copies of each training text are "
        "encoded before training, and each step uses one of them.",
    ),
}


def select_level(level: Level, views: Sequence[Component]) -> list[Component]:
    """Return the views of a recipe that act on one level, texts, inputs or features, in their order."""
    known = registry()
    return [view for view in views if known.spec(ViewSpec, view.use).level == level]
