"""What turns rows into tensors: fitted features and transforms, and the tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import Column, Component, DataConfig, DataContext, Encoder, Rows, iterate_batches
from flowgmm_cli.bijection import Sequential
from flowgmm_cli.data.feature_encoder import EncoderFactory, FeatureEncoder
from flowgmm_cli.data.images.format import image_shape
from flowgmm_cli.data.lazy_dataset import LazyDataset
from flowgmm_cli.data.transforms.base import Transform
from flowgmm_cli.errors import DataError
from flowgmm_cli.plugins.registry import build

if TYPE_CHECKING:
    import numpy.typing as npt

_CHUNK = 8192  # rows transformed at once


@dataclass(frozen=True)
class Tensors:
    """Rows as tensors.

    Attributes:
        x: float32 `(N, D)`.
        log_det: float64 `(N,)`, of all transforms together.
        labels: int64 `(N,)`, -1 where unlabelled.
        ids: `(N,)` strings.
        inputs: the feature matrix before the transforms, `(N, F)`, float32, of images uint8; None where
            nobody asked for it.
        copies: the rows with changed texts, by view, see `flowgmm_cli.training.viewing.Forms`.
    """

    x: Tensor
    log_det: Tensor
    labels: Tensor
    ids: npt.NDArray[Any]
    inputs: Tensor | None = None
    copies: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


class Preprocessor:
    """Everything between rows and the flow's input, fitted: features, then transforms.

    Attributes:
        feature_encoder: input columns to the matrix `(N, F)`.
        transforms: the matrix to the flow's input `(N, D)`, in float64 on the CPU.
    """

    def __init__(self, feature_encoder: FeatureEncoder, transforms: Sequential) -> None:
        self.feature_encoder = feature_encoder
        self.transforms = transforms.requires_grad_(False).eval()

    @property
    def dim(self) -> int:
        """D, the width of `Split.x`."""
        last = list(self._steps())[-1:]
        return last[0].out_features if last else len(self.feature_encoder.feature_names)

    @property
    def shape(self) -> tuple[int, ...]:
        """What a row of the flow's input is: `(channels, height, width)` of images, else `(D,)`.

        Images stay images if they are the only column and no transform mixes pixels.
        """
        columns = self.columns
        image = image_shape(columns[0]) if len(columns) == 1 else None
        mixed = any(step.mixes for step in self._steps())
        return (self.dim,) if image is None or mixed else image

    @property
    def pixels(self) -> int | None:
        """How many whole numbers `log p` is the log-probability of; None where it is a density."""
        first = self._steps()[:1]
        return len(self.feature_encoder.feature_names) if first and first[0].random and self.exact else None

    @property
    def random(self) -> bool:
        """Whether the transforms have noise in them, which training draws anew in each step."""
        return any(step.random for step in self._steps())

    @property
    def columns(self) -> tuple[Column, ...]:
        """The input columns in use."""
        return self.feature_encoder.columns

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest training value of each column of numbers, where they are known."""
        return self.feature_encoder.ranges

    @property
    def feature_names(self) -> list[str]:
        """Names of the columns of the feature matrix."""
        return self.feature_encoder.feature_names

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, one line each."""
        return self.feature_encoder.notes

    @property
    def inexact(self) -> tuple[str, ...]:
        """Why log p of a row is not the density of its input columns; empty if it is."""
        return (*self.feature_encoder.inexact, *(step.inexact for step in self._steps() if step.inexact))

    @property
    def exact(self) -> bool:
        """Whether the log-det makes log p the density of the input columns."""
        return not self.inexact

    def apply(self, rows: Rows, context: DataContext, *, with_inputs: bool = False) -> Tensors:
        """Turn rows into tensors.

        Args:
            rows: any rows with the columns of the training rows.
            context: surroundings.
            with_inputs: keep the feature matrix, too.

        Raises:
            DataError: a column or cell is missing, or a value is too large for float32.
        """
        features = torch.from_numpy(self.feature_encoder.transform(rows, context))
        x, log_det = self.transform_features(features)
        finite = _finite(x)
        if not finite.all():
            first = int((~finite).nonzero()[0])
            raise DataError(
                f"{int((~finite).sum()):,} rows are too large for 32-bit numbers, "
                f"the first is {rows.ids[first]}",
                hint="add `{use: standardise}` or `{use: clip}` to data.transforms",
            )
        labels = torch.from_numpy(rows.labels.astype(np.int64))
        return Tensors(x, log_det, labels, rows.ids, inputs=_narrow(features) if with_inputs else None)

    def apply_lazily(self, rows: Rows, context: DataContext) -> tuple[LazyDataset, LazyDataset]:
        """The flow's inputs and the feature matrix of rows that stay on the disk, both to be read by rows.

        What `apply` refuses is refused when it is read.
        """

        def x(positions: npt.NDArray[np.int64]) -> Tensor:
            return self.apply(rows.take(positions), context).x

        def features(positions: npt.NDArray[np.int64]) -> Tensor:
            return _narrow(torch.from_numpy(self.feature_encoder.transform(rows.take(positions), context)))

        everything = np.arange(len(rows))
        return (
            LazyDataset(x, everything, self.dim),
            LazyDataset(features, everything, len(self.feature_encoder.feature_names)),
        )

    def apply_usable(
        self, rows: Rows, context: DataContext, *, skip: Collection[int] = (), with_inputs: bool = False
    ) -> tuple[Tensors, dict[int, str]]:
        """Turn the rows into tensors that `apply` takes, and leave out those that it would refuse.

        Args:
            rows: as for `apply`.
            context: surroundings.
            skip: positions of rows to leave out in any case.
            with_inputs: keep the feature matrix, too.

        Returns:
            The rows that are left, in order; and of the refused ones the positions and reasons, without those
            in `skip`.

        Raises:
            DataError: a column is missing.
        """
        place = np.arange(len(rows))
        if len(skip):
            place = np.delete(place, list(skip))
            rows = rows.take(place)
        matrix, refused = self.feature_encoder.usable(rows, context)
        problems = {int(place[position]): error_text for position, error_text in refused.items()}
        if refused:
            good = np.delete(np.arange(len(rows)), list(refused))
            matrix, rows, place = matrix[good], rows.take(good), place[good]
        features = torch.from_numpy(matrix)
        x, log_det = self.transform_features(features)
        finite = _finite(x)
        if not finite.all():
            problems |= {int(one): "a value is too large" for one in place[~finite.numpy()]}
            x, log_det, features = x[finite], log_det[finite], features[finite]
            rows = rows.take(finite.numpy())
        labels = torch.from_numpy(rows.labels.astype(np.int64))
        split = Tensors(x, log_det, labels, rows.ids, inputs=_narrow(features) if with_inputs else None)
        return split, dict(sorted(problems.items()))

    def transform_features(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the feature matrix `(N, F)` as the flow's input, float32 `(N, D)`, and log-determinants."""
        x = torch.empty(len(features), self.dim)
        log_det = torch.empty(len(features), dtype=torch.float64)
        for batch in iterate_batches(len(features), _CHUNK):
            x[batch], log_det[batch] = self.transforms(features[batch].double())
        return x, log_det

    def invert(self, x: Tensor) -> dict[str, npt.NDArray[Any] | None]:
        """Turn the flow's inputs back into input columns, in the units and shapes of the input.

        `apply` of the result gives `x` again, up to rounding, as far as every step can be undone. The
        transforms `standardise`, `quantile`, `scale` and a `pca` that keeps all components can; one that
        drops some puts training means in their place, and `clip` leaves values as they are. Whole numbers
        and categories are rounded to, see `Featuriser.invert`.

        Args:
            x: `(N, D)`.

        Returns:
            Cells by column name; None for a column of texts, which have no inverse.
        """
        return self.feature_encoder.invert(self.invert_transforms(x).numpy())

    def to_images(self, inputs: Tensor) -> Tensor | None:
        """The pixels in a feature matrix `(N, F)`, `(N, height, width)` or with channels last.

        None where the rows are not images of one column.
        """
        columns = self.feature_encoder.columns
        if len(columns) != 1 or len(columns[0].shape) not in (2, 3):
            return None
        if (shape := image_shape(columns[0])) is None:
            return inputs.reshape(len(inputs), *columns[0].shape)
        images = inputs.reshape(len(inputs), *shape)
        return images.squeeze(1) if shape[0] == 1 else images.movedim(1, 3)

    def from_images(self, images: Tensor) -> Tensor:
        """Undo `images`: the feature matrix `(N, F)` of pixels in that form."""
        columns = self.feature_encoder.columns
        if image_shape(columns[0]) is not None and images.ndim == 4:
            images = images.movedim(3, 1)
        return images.reshape(len(images), -1)

    def invert_transforms(self, x: Tensor) -> Tensor:
        """The feature matrix, float64 `(N, F)`, that the transforms map to the flow's inputs `(N, D)`."""
        parts = [self.transforms.inverse(x[one].cpu().double()) for one in iterate_batches(len(x), _CHUNK)]
        return torch.cat(parts) if parts else torch.empty(0, len(self.feature_encoder.feature_names)).double()

    def log_det(self, features: Tensor) -> Tensor:
        """Log-determinant of the transforms at rows of the feature matrix `(N, F)`, float64 `(N,)`."""
        parts = [self.transforms(features[one])[1] for one in iterate_batches(len(features), _CHUNK)]
        return torch.cat(parts) if parts else torch.empty(0).double()

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return (JSON values, arrays) to restore it from, together with the recipe's `data` section."""
        values, arrays = self.feature_encoder.state()
        saved = {f"features.{name}": array for name, array in arrays.items()}
        saved |= {f"transforms.{name}": value.numpy() for name, value in self.transforms.state_dict().items()}
        return {"featuriser": values, "widths": [step.in_features for step in self._steps()]}, saved

    @classmethod
    def from_state(
        cls,
        values: Mapping[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]],
        *,
        data: Component,
        context: DataContext,
    ) -> Preprocessor:
        """Restore what `state` returned; `data` is the `data` section it was fitted with."""
        config = cast(DataConfig, data.config)
        feature_encoder = FeatureEncoder.from_state(
            values["featuriser"], _under("features.", arrays), encoder=encoder_factory(config, context)
        )
        transforms = Sequential(
            build(component, features=width)
            for component, width in zip(config.transforms, values["widths"], strict=True)
        )
        saved = {name: torch.from_numpy(np.array(one)) for name, one in _under("transforms.", arrays).items()}
        transforms.load_state_dict(saved)
        return cls(feature_encoder, transforms)

    def _steps(self) -> list[Transform]:
        return [cast(Transform, step) for step in self.transforms.layers]


def _finite(x: Tensor) -> Tensor:
    """Which rows are finite, `(N,)`; by parts, for it takes twice the memory of what it looks at."""
    found = torch.empty(len(x), dtype=torch.bool)
    for batch in iterate_batches(len(x), _CHUNK):
        found[batch] = x[batch].isfinite().all(dim=1)
    return found


def _narrow(features: Tensor) -> Tensor:
    """Features as they are kept for views: pixels as they are, other numbers in float32."""
    return features if features.dtype == torch.uint8 else features.float()


def _under(prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): one for name, one in arrays.items() if name.startswith(prefix)}


def encoder_factory(config: DataConfig, context: DataContext) -> EncoderFactory | None:
    """What builds the encoder of a `data` section; None where it has none."""
    component: Component | None = getattr(config, "encoder", None)
    if component is None:
        return None

    def make() -> Encoder:
        from flowgmm_cli.data.hub import hub_access

        with hub_access(offline=context.offline):
            encoder: Encoder = build(component)
        return encoder

    return make
