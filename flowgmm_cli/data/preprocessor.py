"""Fitted preprocessing: encode rows as features, and transform features to the flow's input."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import Column, Component, DataContext, Rows, iterate_batches
from flowgmm_cli.bijection import Sequential
from flowgmm_cli.data.array_types import Array, Bools, Ints
from flowgmm_cli.data.column_encoders import as_strings
from flowgmm_cli.data.feature_encoder import EncoderFactory, FeatureEncoder, Features
from flowgmm_cli.data.images.format import image_shape
from flowgmm_cli.data.tensors import Store, StoredRows, Tensors
from flowgmm_cli.data.transforms.base import Transform
from flowgmm_cli.encoders.joint import JointEncoder
from flowgmm_cli.errors import DataError, RunError
from flowgmm_cli.files import (
    MALFORMED,
    load_strictly,
    read_json,
    read_tensors,
    select_prefix,
    write_json,
    write_tensors,
)
from flowgmm_cli.plugins.registry import build

LOCAL_ENCODERS = ("wordllama", "tfidf_svd", "efficientnet_lite0")
"""Encoders that never use the hub."""
_BATCH_ROWS = 8192
_TENSORS, _VALUES = "preprocessor.safetensors", "preprocessor.json"


class Preprocessor:
    """The fitted map from rows to the flow's input: column encoders, then transforms.

    Attributes:
        feature_encoder: input columns to the matrix `(N, F)`.
        transforms: the matrix to the flow's input `(N, D)`, in float64 on the CPU.
        columns, ranges, feature_names, notes: see `FeatureEncoder`.
    """

    def __init__(self, feature_encoder: FeatureEncoder, transforms: Sequential) -> None:
        self.feature_encoder = feature_encoder
        self.transforms = transforms.requires_grad_(False).eval()
        self.columns, self.ranges = feature_encoder.columns, feature_encoder.ranges
        self.feature_names, self.notes = feature_encoder.feature_names, feature_encoder.notes

    @property
    def dim(self) -> int:
        """D, the width of `Tensors.x`."""
        last = self._steps()[-1:]
        return last[0].out_features if last else len(self.feature_names)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a row of the flow's input: `(channels, height, width)` of images, else `(D,)`.

        Images stay images if they are the only column and no transform mixes pixels.
        """
        is_image = len(self.columns) == 1 and not self.feature_encoder.encoded
        image = image_shape(self.columns[0]) if is_image else None
        mixed = any(step.mixes for step in self._steps())
        return (self.dim,) if image is None or mixed else image

    @property
    def pixels(self) -> int | None:
        """The number of whole numbers whose log-probability is `log p`; None if `log p` is a density."""
        first = self._steps()[:1]
        return len(self.feature_names) if first and first[0].random and not self.inexact else None

    @property
    def random(self) -> bool:
        """True if a transform has noise, which training draws in each step."""
        return any(step.random for step in self._steps())

    @property
    def inexact(self) -> tuple[str, ...]:
        """Reasons that log p of a row is not the density of its input columns; empty if it is."""
        return (*self.feature_encoder.inexact, *(step.inexact for step in self._steps() if step.inexact))

    def apply(
        self,
        rows: Rows,
        context: DataContext,
        *,
        with_inputs: bool = False,
        features: Features | None = None,
    ) -> Tensors:
        """Preprocess rows; `with_inputs` keeps the feature matrix, `features` is this matrix if it is known.

        Raises:
            DataError: a column or cell is missing, or a value is too large for float32.
        """
        matrix = self.feature_encoder.transform(rows, context) if features is None else features
        tensors, finite = self._to_tensors(matrix, rows, with_inputs)
        if not finite.all():
            raise DataError(
                f"{(~finite).sum():,} rows are too large for 32-bit numbers, the first is "
                f"{rows.ids[finite.argmin()]}",
                hint="add `{use: standardise}` or `{use: clip}` to data.transforms",
            )
        return tensors

    def _to_tensors(self, matrix: Features, rows: Rows, with_inputs: bool) -> tuple[Tensors, Bools]:
        """Return the tensors of the rows that 32-bit numbers can hold, and a mask of these rows."""
        features = torch.from_numpy(matrix)
        x, log_det = self.transform_features(features)
        finite = _finite_rows(x).numpy()
        if not finite.all():
            x, log_det, features, rows = x[finite], log_det[finite], features[finite], rows.take(finite)
        labels = torch.from_numpy(rows.labels.astype(np.int64))
        inputs = _compact(features) if with_inputs else None
        return Tensors(x, labels, log_det, rows.ids, inputs=inputs), finite

    def apply_lazily(self, rows: Rows, context: DataContext, *, with_inputs: bool, memory: int) -> Tensors:
        """Return the tensors of rows on disk; `apply` runs on access.

        `memory` are the bytes that reading may take.
        """

        def read_x(positions: Ints) -> Tensor:
            return self.apply(rows.take(positions), context).x

        def read_features(positions: Ints) -> Tensor:
            features = self.feature_encoder.transform(rows.take(positions), context)
            return _compact(torch.from_numpy(features))

        read, width = (read_features, len(self.feature_names)) if with_inputs else (read_x, self.dim)
        positions = np.arange(len(rows))
        store = Store(
            rows=len(rows),
            width=width,
            dtype=read(positions[:1]).numpy().dtype,
            read=lambda start, stop: read(positions[start:stop]).numpy(),
            left_out=positions[:0],
            resident=positions,
            memory=memory,
            dim=self.dim,
            transform=(lambda features: self.transform_features(features)[0]) if with_inputs else None,
        )
        return Tensors(
            StoredRows(read_x, positions, self.dim).as_tensor(),
            torch.from_numpy(rows.labels.astype(np.int64)),
            inputs=StoredRows(read_features, positions, width).as_tensor() if with_inputs else None,
            store=store,
        )

    def apply_valid(
        self, rows: Rows, context: DataContext, *, skip: Collection[int] = (), with_inputs: bool = False
    ) -> tuple[Tensors, dict[int, str]]:
        """Preprocess rows and leave out those that `apply` would refuse, and those at the positions `skip`.

        Returns:
            The valid rows in order, and positions and reasons of the refused ones, without those in `skip`.
        """
        positions = np.arange(len(rows))
        without_text = set(np.flatnonzero(has_no_text(rows, self.columns)).tolist()) - set(skip)
        if skip := {*skip, *without_text}:
            positions = np.delete(positions, list(skip))
            rows = rows.take(positions)
        matrix, refused = self.feature_encoder.transform_valid(rows, context)
        problems = dict.fromkeys(without_text, "the text is empty")
        problems |= {int(positions[index]): reason for index, reason in refused.items()}
        if refused:
            valid = np.delete(np.arange(len(rows)), list(refused))
            matrix, rows, positions = matrix[valid], rows.take(valid), positions[valid]
        tensors, finite = self._to_tensors(matrix, rows, with_inputs)
        problems |= dict.fromkeys(positions[~finite].tolist(), "a value is too large")
        return tensors, dict(sorted(problems.items()))

    def transform_features(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map the feature matrix `(N, F)` to the flow's input, float32 `(N, D)`, and log-determinants."""
        x = torch.empty(len(features), self.dim)
        log_det = torch.empty(len(features), dtype=torch.float64)
        for batch in iterate_batches(len(features), _BATCH_ROWS):
            x[batch], log_det[batch] = self.transforms(features[batch].double())
        return x, log_det

    def invert_transforms(self, x: Tensor) -> Tensor:
        """Return the feature matrix, float64 `(N, F)`, of the flow's inputs `(N, D)`."""
        batches = iterate_batches(len(x), _BATCH_ROWS)
        parts = [self.transforms.inverse(x[batch].cpu().double()) for batch in batches]
        return torch.cat(parts) if parts else torch.empty(0, len(self.feature_names)).double()

    def invert(self, x: Tensor) -> dict[str, Array | None]:
        """Return the input columns of the flow's inputs `(N, D)`, in the units and shapes of the input.

        `apply` of the result gives `x` again, up to rounding, if every step is invertible. A `pca` that drops
        components returns their training means; `clip` leaves values unchanged; see `FeatureEncoder.invert`.
        """
        return self.feature_encoder.invert(self.invert_transforms(x).numpy())

    def to_images(self, features: Tensor) -> Tensor | None:
        """Return the images, channels last, of features `(N, F)`; None unless they are of one column."""
        columns = self.columns
        if len(columns) != 1 or len(columns[0].shape) not in (2, 3) or self.feature_encoder.encoded:
            return None
        if (shape := image_shape(columns[0])) is None:
            return features.reshape(len(features), *columns[0].shape)
        images = features.reshape(len(features), *shape)
        return images.squeeze(1) if shape[0] == 1 else images.movedim(1, 3)

    def from_images(self, images: Tensor) -> Tensor:
        """Undo `to_images`: return the feature matrix `(N, F)` of pixels."""
        if image_shape(self.columns[0]) is not None and images.ndim == 4:
            images = images.movedim(3, 1)
        return images.reshape(len(images), -1)

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return (JSON values, arrays) to restore it from, together with the recipe's `data` section."""
        values, arrays = self.feature_encoder.state()
        saved = {f"features.{name}": array for name, array in arrays.items()}
        saved |= {f"transforms.{name}": value.numpy() for name, value in self.transforms.state_dict().items()}
        return {"featuriser": values, "widths": [step.in_features for step in self._steps()]}, saved

    @classmethod
    def from_state(
        cls, values: Mapping[str, Any], arrays: Mapping[str, Array], *, data: Component, context: DataContext
    ) -> Preprocessor:
        """Restore the result of `state`; `data` is the `data` section it was fitted with."""
        feature_encoder = FeatureEncoder.from_state(
            values["featuriser"], select_prefix("features.", arrays), encoder=encoder_factory(data, context)
        )
        components = dict(data.config)["transforms"]
        transforms = Sequential(
            build(component, features=width)
            for component, width in zip(components, values["widths"], strict=True)
        )
        saved = select_prefix("transforms.", arrays)
        load_strictly(transforms, {name: torch.from_numpy(np.array(array)) for name, array in saved.items()})
        widths = [len(feature_encoder.feature_names), *(step.out_features for step in transforms.layers)]
        if any(step.in_features != width for step, width in zip(transforms.layers, widths, strict=False)):
            raise ValueError(f"widths of {values['widths']} for {widths[0]} features")
        return cls(feature_encoder, transforms)

    def save(self, folder: Path) -> None:
        """Write `state` to a folder: the arrays, then the JSON values."""
        values, arrays = self.state()
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        write_tensors(folder / _TENSORS, tensors)
        write_json(folder / _VALUES, values)

    @classmethod
    def load(cls, folder: Path, *, data: Component, context: DataContext) -> Preprocessor | None:
        """Read the result of `save`; None before the first. Raises `RunError` if it is damaged."""
        if not (folder / _VALUES).is_file():
            return None
        values = read_json(folder / _VALUES, "preprocessor")
        tensors, _ = read_tensors(folder / _TENSORS, "preprocessor")
        try:
            arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
            return cls.from_state(values, arrays, data=data, context=context)
        except MALFORMED as error:
            raise RunError(
                f"{folder / _TENSORS} does not fit {_VALUES}",
                details=[str(error).strip().splitlines()[0]],
                hint="start a new run with the same recipe",
            ) from error

    def _steps(self) -> list[Transform]:
        return [step for step in self.transforms.layers if isinstance(step, Transform)]


def has_no_text(rows: Rows, columns: Sequence[Column]) -> Bools:
    """Return a mask of the rows without input, `(N,)`: all columns hold texts, and all texts are empty."""
    empty = np.full(len(rows), bool(columns) and all(column.kind == "text" for column in columns))
    if empty.any():
        for column in columns:
            empty &= [not text.strip() for text in as_strings(rows.columns[column.name])]
    return empty


def _finite_rows(x: Tensor) -> Tensor:
    """Return a mask of the finite rows, `(N,)`; `x.isfinite()` would need twice the memory of x."""
    low, high = x.aminmax(dim=1)  # NaN if a number is NaN
    return low.isfinite() & high.isfinite()


def _compact(features: Tensor) -> Tensor:
    """Return features as they are kept for views: uint8 pixels, other numbers in float32."""
    return features if features.dtype == torch.uint8 else features.float()


def encoder_factory(data: Component, context: DataContext) -> EncoderFactory | None:
    """Return a function that builds the text encoder of a `data` section; None if it has none."""
    component: Component | list[Component] | None = dict(data.config).get("encoder")
    if not component:
        return None

    def build_encoder() -> Any:
        if isinstance(component, Component):
            return _build_encoder(component, context)
        weights = [dict(part.config).get("weight", 1.0) for part in component]
        return JointEncoder([_build_encoder(part, context) for part in component], weights)

    return build_encoder


def _build_encoder(component: Component, context: DataContext) -> Any:
    if component.use in LOCAL_ENCODERS:
        return build(component)
    from flowgmm_cli.data.sources.hub_tables import hub_access  # imports `datasets`, which takes a second

    with hub_access(offline=context.offline):
        return build(component)
