"""Profile a folder of images, and write a recipe for it: the bundled recipe `images` with its path."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowgmm_cli.data.images.encoded_images import list_files
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.sources.image_folder import ImageFolder
from flowgmm_cli.data.starter_recipe import comment_lines, quote_yaml, read_bundled

_MAX_OPENED = 500  # images whose sizes are read
_SIDE = 32  # pixels; the flow of the recipe suits small pictures


@dataclass(frozen=True)
class ImagesProfile:
    """A folder of images.

    Attributes:
        rows: number of images of each split.
        classes: number of images of each class, by name.
        sizes: height and width of images, in pixels.
    """

    rows: Mapping[str, int]
    classes: Mapping[str, int]
    sizes: Sequence[tuple[int, int]]

    @property
    def labelled(self) -> int:
        """Number of labelled images."""
        return sum(self.classes.values())

    @property
    def side(self) -> int | None:
        """Side of a square for images of different sizes, at most 32; None if all have one size."""
        return (
            None if len(set(self.sizes)) < 2 else min(_SIDE, round(statistics.median(map(min, self.sizes))))
        )


def holds_images(folder: Path) -> bool:
    """Return True for a folder of images without tables, but for tables of their labels."""
    listing = list_files(folder)
    return bool(listing.images) and not listing.others.keys() & {".csv", ".parquet", ".jsonl", ".tsv"}


def profile_images(folder: Path, note: Callable[[str], None]) -> ImagesProfile:
    """Profile a folder of images; `note` receives guesses about its layout."""
    from PIL import Image

    listing = list_files(folder)
    splits = ImageFolder(folder.resolve(), listing, ImagesConfig(path=str(folder)), note).read()
    labels = [label for split in splits.values() for label in split.labels.tolist() if label is not None]
    sizes = []
    for place in np.unique(np.linspace(0, len(listing.images) - 1, _MAX_OPENED).astype(int)).tolist():
        try:
            with Image.open(folder / listing.images[place]) as image:
                sizes.append((image.height, image.width))
        except OSError:  # training names damaged files
            continue
    rows = {name: len(split) for name, split in splits.items()}
    return ImagesProfile(rows, dict(Counter(labels).most_common()), sizes)


def render_images(profile: ImagesProfile, *, path: str, command: str) -> str:
    """Return the text of a recipe for the images in `path`; its head names the command line."""
    base = read_bundled("images")
    start = base.index("version: 1")
    classes = ", ".join(f"{name} ({count:,})" for name, count in list(profile.classes.items())[:12])
    total = sum(profile.rows.values())
    head = [
        f"{Path(path).name}: {total:,} images, {profile.labelled:,} of them labelled. Classes: {classes}.",
        f"Written by `{command}`; change it as needed. `flowgmm recipes show images` explains the settings.",
    ]
    key = next(index for index, line in enumerate(base) if line.startswith("  # path has no default"))
    lines = [f"  path: {quote_yaml(path)}"]
    if profile.side is not None:
        low, high = (f"{height} x {width}" for height, width in (min(profile.sizes), max(profile.sizes)))
        lines += [
            f"  size: {profile.side}  # the images have from {low} to {high} pixels",
            "  resize: crop",
        ]
    body = [line for line in [*base[start:key], *lines, *base[key + 1 :]] if line != "name: images"]
    return "\n".join([*(line for text in head for line in comment_lines(text)), *body]) + "\n"
