"""A folder of drawn shapes to try the source with: `python -m flowgmm_vision.demo shapes`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle")


def draw_shapes(
    folder: str | Path, *, per_class: int = 40, unlabelled: int = 120, size: int = 32, seed: int = 0
) -> None:
    """Write images of shapes in random places, sizes and colours.

    Args:
        folder: is made; gets a folder for each shape, and `unlabelled`.
        per_class: images of each shape with a label.
        unlabelled: images without one.
        size: height and width in pixels.
        seed: of the drawing.
    """
    numbers = np.random.default_rng(seed)
    rows = [(shape, shape) for shape in SHAPES for _ in range(per_class)]
    rows += [("unlabelled", SHAPES[row % len(SHAPES)]) for row in range(unlabelled)]
    for row, (place, shape) in enumerate(rows):
        file = Path(folder, place, f"{row:04d}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        _draw(shape, size, numbers).save(file)


def _draw(shape: str, size: int, numbers: np.random.Generator) -> Image.Image:
    back, front = numbers.integers(0, 90, 3), numbers.integers(150, 256, 3)
    image = Image.new("RGB", (size, size), tuple(back.tolist()))
    radius = numbers.uniform(0.2, 0.35) * size
    x, y = numbers.uniform(radius, size - radius, 2)
    box = (x - radius, y - radius, x + radius, y + radius)
    pen, colour = ImageDraw.Draw(image), tuple(front.tolist())
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    else:
        pen.polygon([(x, box[1]), (box[2], box[3]), (box[0], box[3])], fill=colour)
    return image


def main(words: Sequence[str]) -> int:
    """Draw into the folder that is named."""
    if len(words) != 1:
        sys.stderr.write("usage: python -m flowgmm_vision.demo FOLDER\n")
        return 2
    draw_shapes(words[0])
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
