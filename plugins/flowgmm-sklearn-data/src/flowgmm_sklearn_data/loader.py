"""Source `sklearn_loader`: the data of a function of `sklearn.datasets`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import DataContext, DataError, Rows, SourceData
from flowgmm_sklearn_data.arguments import accepts, check_arguments, find_loader
from flowgmm_sklearn_data.classes import clean_cell, code_targets
from flowgmm_sklearn_data.columns import Choice, choose_columns, matrix_columns
from flowgmm_sklearn_data.network import downloads

if TYPE_CHECKING:
    from flowgmm_sklearn_data.plugin import SklearnLoaderConfig

Cells = npt.NDArray[Any]


@dataclass(frozen=True)
class _Loaded:
    """The data of one call of a loader.

    Attributes:
        columns: name -> cells.
        target: `(N,)`, not converted.
        names: of the targets 0, 1, ...
        text: names of the columns that hold texts.
        files: a file name for each row, if rows have files.
    """

    columns: dict[str, Cells]
    target: Cells
    names: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class LoaderSource:
    """Rows of a loader: images and texts as one column, numbers as a column a feature."""

    def __init__(self, config: SklearnLoaderConfig, context: DataContext) -> None:
        self._config = config
        self._context = context
        self._loader = find_loader(config.loader)
        self._calls: dict[str, Mapping[str, Any]] = {"train": config.arguments}
        if config.test_arguments is not None:
            self._calls["test"] = {**config.arguments, **config.test_arguments}
        for split, arguments in self._calls.items():
            key = "data.arguments" if split == "train" else "data.test_arguments"
            check_arguments(self._loader, arguments, key)

    def load(self) -> SourceData:
        """Call the loader, and once more for the test rows where the recipe says how."""
        config = self._config
        loaded = {split: self._call(arguments) for split, arguments in self._calls.items()}
        first = loaded["train"]
        for split, item in loaded.items():
            if list(item.columns) != list(first.columns):
                raise DataError(
                    f"{config.loader}: the {split} rows have other columns than the training rows",
                    hint="data.test_arguments is to choose rows only",
                )
        choice = Choice(config.drop, config.categorical, first.text)
        columns, cells = choose_columns(
            {split: item.columns for split, item in loaded.items()}, choice, config.loader
        )
        names, labels = code_targets(
            {split: item.target for split, item in loaded.items()},
            names=first.names,
            bins=config.bins,
            unlabelled=config.unlabelled,
            what=config.loader,
        )
        splits = {
            split: Rows(cells[split], labels[split], _ids(split, item)) for split, item in loaded.items()
        }
        return SourceData(columns, names, splits)

    def _call(self, arguments: Mapping[str, Any]) -> _Loaded:
        config, loader, offline = self._config, self._loader, self._context.offline
        own: dict[str, Any] = {}
        if accepts(loader, "random_state"):
            own["random_state"] = config.seed
        if accepts(loader, "data_home"):
            own["data_home"] = config.data_home
        if accepts(loader, "download_if_missing"):
            own["download_if_missing"] = not offline
        if config.loader.startswith("fetch_"):
            self._context.progress(0, 1, f"loading {config.loader}")
        with downloads(config.loader, config.data_home, offline=offline):
            bunch = loader(**{**arguments, **own})
        return _read(bunch, config.loader)


def _read(bunch: Any, what: str) -> _Loaded:
    """Read the result of a loader: a `Bunch`, or a tuple of rows and targets."""
    if isinstance(bunch, tuple) and len(bunch) == 2:
        bunch = dict(zip(("data", "target"), bunch, strict=True))
    if not isinstance(bunch, Mapping) or "data" not in bunch or "target" not in bunch:
        raise DataError(f"{what} gives no rows with a target", hint="choose a loader for classification")
    data, target = bunch["data"], bunch["target"]
    if hasattr(target, "toarray"):
        raise DataError(
            f"{what} has several labels for each row",
            hint="flowgmm learns one class for each row; choose another data set",
        )
    target = np.asarray(target)
    names = tuple(str(clean_cell(name)) for name in _as_list(bunch.get("target_names")))
    if isinstance(data, list):
        texts = [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in data]
        files = tuple(map(str, _as_list(bunch.get("filenames"))))
        return _Loaded({"text": np.array(texts, dtype=object)}, target, names, ("text",), files)
    images = np.asarray(bunch["images"]) if "images" in bunch else None
    if images is None and isinstance(data, np.ndarray) and data.ndim > 2:
        images = data
    if images is not None and images.ndim in (3, 4):
        return _Loaded({"pixels": _unit(images)}, target, names)
    features = [str(clean_cell(name)) for name in _as_list(bunch.get("feature_names"))]
    return _Loaded(matrix_columns(data, features, what), target, names)


def _unit(images: Cells) -> Cells:
    """Scale images to 0..1 from 0..1, 0..16 (digits) or 0..255 (bytes)."""
    largest = float(images.max())
    scale = 1.0 if largest <= 1 else 16.0 if largest <= 16 else 255.0
    return images.astype(np.float32) / np.float32(scale)


def _as_list(values: Any) -> list[Any]:
    return [] if values is None else list(values)


def _ids(split: str, loaded: _Loaded) -> Cells:
    """Return file names with their folder if each row has its own, else numbers from 1."""
    short = ["/".join(PurePath(file).parts[-2:]) for file in loaded.files]
    if len(short) != len(loaded.target) or len(set(short)) < len(short):
        short = [str(row) for row in range(1, len(loaded.target) + 1)]
    return np.array([f"{split}:{item}" for item in short], dtype=object)


def build(config: SklearnLoaderConfig, context: DataContext) -> LoaderSource:
    """Build the source.

    Raises:
        RecipeError: there is no such loader, or it cannot be called with the arguments.
    """
    return LoaderSource(config, context)
