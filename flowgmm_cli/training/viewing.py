"""Rows under a view: from the forms in which a row is kept to what the flow sees of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from flowgmm_cli.api import Component, View
from flowgmm_cli.bijection import Sequential
from flowgmm_cli.data.images.format import image_shape
from flowgmm_cli.data.large.stream import RowStream
from flowgmm_cli.data.lazy_dataset import LazyDataset, RowStore, load_tensor
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.data.transforms.base import Transform
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.training.copies import Copies
from flowgmm_cli.views.specs import select_level

Name = Literal["weak", "strong"]


class HasForms(Protocol):
    """A split, of whatever kind."""

    @property
    def x(self) -> RowStore:
        """See `Forms`."""
        ...

    @property
    def inputs(self) -> RowStore | None:
        """See `Forms`."""
        ...

    @property
    def copies(self) -> Mapping[str, Tensor]:
        """By view, `(N, copies, D)`."""
        ...


@dataclass(frozen=True)
class Forms:
    """Rows in every form from which a view may start.

    Attributes:
        x: after the transforms, `(N, D)`; rows that stay on the disk are read when they are needed.
        inputs: the feature matrix before them, `(N, F)`, of images uint8; None where no view starts from it.
        copies: `weak` and `strong`, where texts are changed under that view: the rows with changed texts,
            of D numbers, or F where the view goes on to change inputs.
        stream: of a table larger than memory all training rows, of which these are some; else None.
    """

    x: RowStore
    inputs: RowStore | None = None
    copies: Mapping[str, Copies] = field(default_factory=dict)
    stream: RowStream | None = None

    @classmethod
    def of(cls, split: HasForms) -> Forms:
        """The forms of a split's rows."""
        copies = {name: Copies(table) for name, table in split.copies.items()}
        return cls(split.x, split.inputs, copies, getattr(split, "stream", None))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor | slice) -> Forms:
        """Some of the rows: positions, a mask or a slice; all but copies, and `x` by `inputs`, are read."""
        inputs = None if self.inputs is None else self.inputs[index]
        x = self.x.subset(index) if isinstance(self.x, LazyDataset) and inputs is not None else self.x[index]
        return Forms(x, inputs, {name: rows[index] for name, rows in self.copies.items()})

    def to(self, device: torch.device) -> Forms:
        """The same on a device."""
        inputs = None if self.inputs is None else self.inputs.to(device)
        copies = {name: rows.to(device) for name, rows in self.copies.items()}
        return Forms(self.x.to(device), inputs, copies, self.stream)

    def finite(self) -> bool:
        """Whether every number is; this waits for the device."""
        forms = (load_tensor(self.x), *(() if self.inputs is None else (load_tensor(self.inputs),)))
        copies = (one.all() for one in self.copies.values())
        return all(bool(form.isfinite().all()) for form in (*forms, *copies))


class Viewing:
    """A view of a recipe as a whole: changes of texts, then of inputs, then of features.

    Texts are changed before training; of the changed copies of each row one is picked at random.

    Args:
        name: `weak` or `strong`; which of a row's copies to pick from.
        texts: whether texts are changed.
        inputs: changes of the feature matrix, first to last.
        transforms: from the matrix to the flow's input, in float32 on the device of the rows; given where
            rows start from the matrix, because it is changed or because the transforms have noise in them.
        features: changes of the flow's input, first to last.
    """

    def __init__(
        self,
        name: Name,
        *,
        texts: bool = False,
        inputs: Sequence[View] = (),
        transforms: Sequential | None = None,
        features: Sequence[View] = (),
    ) -> None:
        self.name = name
        self.texts = texts
        self.inputs = tuple(inputs)
        self.transforms = transforms if transforms is not None or not inputs else Sequential()
        self.features = tuple(features)

    def __call__(self, rows: Forms, generator: torch.Generator) -> Tensor:
        """What the flow sees of the rows, `(N, D)`; random numbers come from `generator` alone."""
        x = self._start(rows, generator)
        if self.transforms is not None:
            # A matrix product in bfloat16 would make other rows of them than those the flow sees later.
            with torch.autocast(x.device.type, enabled=False):
                x = x.float()
                for change in self.inputs:
                    x = change(x, generator)
                for step in self.transforms.layers:
                    x = cast(Transform, step).draw(x, generator)
        for change in self.features:
            x = change(x, generator)
        return x

    def _start(self, rows: Forms, generator: torch.Generator) -> Tensor:
        if self.texts:
            return rows.copies[self.name].pick(generator)
        if self.transforms is None:
            return load_tensor(rows.x)
        if rows.inputs is None:
            raise ValueError(f"the {self.name} view starts from inputs, and the rows come without them")
        return load_tensor(rows.inputs)


def build_viewing(
    name: Name, views: Sequence[Component], *, preprocessor: Preprocessor | None, device: torch.device
) -> Viewing:
    """Build what a recipe lists under `data.views.weak` or `data.views.strong`.

    Args:
        name: which of the two.
        views: the list.
        preprocessor: of the rows; may be None where no view changes inputs and no transform is random.
        device: of the rows.

    Raises:
        RecipeError: a view changes images, and there are none.
    """
    texts = bool(select_level("text", views))
    features = [build(view) for view in select_level("features", views)]
    listed = select_level("inputs", views)
    if not listed and (preprocessor is None or not preprocessor.random):
        return Viewing(name, texts=texts, features=features)
    if preprocessor is None:
        raise ValueError("views of inputs need the preprocessor of the rows")
    # not every device has float64
    transforms = copy.deepcopy(preprocessor.transforms).to(torch.float32).to(device)
    inputs = [change for view in listed for change in _on_images(view, preprocessor)]
    return Viewing(name, texts=texts, inputs=inputs, transforms=transforms, features=features)


class OnColumn:
    """A change of one column's images; the rest of the matrix stays as it is.

    Args:
        change: sees the images, `(N, channels, height, width)`.
        place: the column's place in the matrix.
        shape: of an image.
    """

    def __init__(self, change: View, place: slice, shape: tuple[int, int, int]) -> None:
        self.change = change
        self.place = place
        self.shape = shape

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a matrix of the shape of `x`, `(N, F)`."""
        entries = x[:, self.place]
        changed = self.change(entries.reshape(len(x), *self.shape), generator)
        return torch.cat(
            [x[:, : self.place.start], changed.reshape(entries.shape), x[:, self.place.stop :]], dim=1
        )


def _on_images(view: Component, preprocessor: Preprocessor) -> list[OnColumn]:
    layout, ranges = preprocessor.feature_encoder.layout, preprocessor.ranges
    images = [(column, place, image_shape(column)) for column, place in layout]

    def white(name: str) -> float:
        low, high = ranges.get(name, (0.0, 1.0))
        return high if low >= 0 else math.nan

    found = [
        OnColumn(build(view, shape=shape, high=white(column.name)), place, shape)
        for column, place, shape in images
        if shape is not None
    ]
    if not found:
        raise RecipeError(
            f"the view `{view.use}` changes images, and no column of the data holds images",
            details=[
                f"column `{column.name}` is {column.kind}" + (f" {column.shape}" if column.shape else "")
                for column, _ in layout
            ],
            hint="keep the shape of images in the arrays, (N, height, width) or (N, channels, height, "
            "width), or take the view out of data.views",
        )
    return found
