"""Source `images`: folders of files, IDX (MNIST), npz, npy and parquet files, and data sets of the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.images.arrays import fit_pixels
from flowgmm_cli.data.images.files import list_files
from flowgmm_cli.data.images.load import Wanted, load_pictures
from flowgmm_cli.data.images.pictures import Pictures, joined
from flowgmm_cli.data.images.rule import size_of
from flowgmm_cli.data.images.store import PixelStore, of_array
from flowgmm_cli.data.sources.arrays import code_named
from flowgmm_cli.data.sources.columns import code_labels, lookup
from flowgmm_cli.data.sources.files import existing_file
from flowgmm_cli.data.sources.hub_tables import is_hub_id
from flowgmm_cli.data.sources.image_arrays import find_in_idx, find_in_npz, idx_files, is_idx
from flowgmm_cli.data.sources.image_folder import find_in_folder
from flowgmm_cli.data.sources.image_hub import find_in_hub
from flowgmm_cli.data.sources.image_parts import Found, Part, objects
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from flowgmm_cli.data.images.specs import ImagesConfig

    Codes = npt.NDArray[np.int64]

COLUMN = "image"
_GIB = 2**30


class ImagesSource:
    """One image column `image`, uint8 `(N, height, width)` or `(N, height, width, 3)`."""

    def __init__(self, config: ImagesConfig, context: DataContext) -> None:
        self._config = config
        self._context = context
        self._notes: list[str] = []
        self._wanted = Wanted(
            channels=config.channels,
            size=size_of(config.size),
            resize=config.resize,
            on_corrupt=config.on_corrupt,
            memory=int(config.memory * _GIB),
            cache=config.cache,
        )

    def load(self) -> SourceData:
        """Find the images and their labels, and decode them once."""
        found = self._found()
        self._notes += found.notes
        parts = dict(found.parts)
        if all(isinstance(part.images, Pictures) for part in parts.values()):
            pixels, parts = self._from_files(parts)
            class_names, labels = _coded(
                {name: part.labels for name, part in parts.items()}, found.class_names
            )
        else:
            pixels = self._from_arrays(parts)
            class_names, labels = code_named(
                {name: part.labels for name, part in parts.items()}, found.class_names
            )
        splits = {
            # a store is an array for all that rows are asked for
            name: Rows({COLUMN: cast(Any, pixels[name])}, labels[name], part.ids, part.extras)
            for name, part in parts.items()
        }
        column = Column(COLUMN, "image", pixels["train"].shape[1:])
        return SourceData((column,), class_names, splits, tuple(self._notes))

    def _found(self) -> Found:
        """What `path` holds, and as further splits what `test_path` and `val_path` do."""
        found = self._at(self._config.path)
        parts, notes = dict(found.parts), list(found.notes)
        files = isinstance(parts["train"].images, Pictures)
        for split, path in (("test", self._config.test_path), ("val", self._config.val_path)):
            if path is None:
                continue
            other = self._at(path)
            if isinstance(other.parts["train"].images, Pictures) is not files:
                raise DataError(
                    f"data.{split}_path and data.path are of different kinds: {path} and {self._config.path}",
                    hint="give both as files of images, or both as arrays",
                )
            part = other.parts.get(split, other.parts["train"])
            ids = [f"{split}:{one.removeprefix('train:').removeprefix(f'{split}:')}" for one in part.ids]
            parts[split] = replace(part, ids=objects(ids))
            notes += [note for note in other.notes if "data.split.test" not in note]
        return Found(parts, found.class_names, notes)

    def _at(self, path: str) -> Found:
        config = self._config.model_copy(update={"path": path})
        place = Path(path).expanduser()
        if place.is_dir():
            if files := idx_files(place):
                return find_in_idx(files, config)
            listing = list_files(place)
            if not listing.images and listing.others[".parquet"]:
                return find_in_hub(config, self._context)
            return find_in_folder(place.resolve(), listing, config)
        if not place.exists() and is_hub_id(path):
            return find_in_hub(config, self._context)
        file = existing_file(path)
        if is_idx(file.name):
            return find_in_idx({"train": file}, config)
        if file.suffix in (".npz", ".npy"):
            return find_in_npz(file, config)
        if file.suffix == ".parquet":
            return find_in_hub(config, self._context)
        raise DataError(
            f"{path} is no folder of images and no file that holds many",
            hint="known files: npz, npy, parquet, and IDX such as train-images-idx3-ubyte.gz",
        )

    def _from_files(
        self, parts: Mapping[str, Part]
    ) -> tuple[dict[str, npt.NDArray[np.uint8] | PixelStore], dict[str, Part]]:
        """Pixels by split, and the parts without the images that are left out."""
        together = joined([cast(Pictures, part.images) for part in parts.values()])
        loaded = load_pictures(replace(together, where=self._config.path), self._wanted, self._context)
        self._notes += loaded.notes
        ends = list(accumulate(len(part) for part in parts.values()))
        pixels: dict[str, npt.NDArray[np.uint8] | PixelStore] = {}
        left = {}
        for (name, part), end in zip(parts.items(), ends, strict=True):
            start = end - len(part)
            rows = slice(*np.searchsorted(loaded.kept, [start, end]).tolist())
            kept = loaded.kept[rows] - start
            pixels[name] = loaded.pixels[rows]
            extras = {key: cells[kept] for key, cells in part.extras.items()}
            left[name] = replace(part, labels=part.labels[kept], ids=part.ids[kept], extras=extras)
        return pixels, left

    def _from_arrays(self, parts: Mapping[str, Part]) -> dict[str, npt.NDArray[np.uint8] | PixelStore]:
        given = {name: cast("npt.NDArray[np.uint8]", part.images) for name, part in parts.items()}
        fitted, _, notes = fit_pixels(given, self._wanted, where=self._config.path)
        self._notes += notes
        mapped = [isinstance(one, np.memmap) for one in fitted.values()]
        if sum(one.nbytes for one in fitted.values()) > self._wanted.memory and all(mapped):
            return {name: of_array(one) for name, one in fitted.items()}
        return {name: np.array(one) if isinstance(one, np.memmap) else one for name, one in fitted.items()}


def _coded(
    labels: Mapping[str, npt.NDArray[np.object_]], names: tuple[str, ...] | None
) -> tuple[tuple[str, ...], dict[str, Codes]]:
    if names is None:
        return code_labels(labels)
    code: dict[Any, int] = {None: -1} | {name: index for index, name in enumerate(names)}
    return names, {split: lookup(cells, code.__getitem__) for split, cells in labels.items()}


def build(config: ImagesConfig, context: DataContext) -> ImagesSource:
    """Build the source."""
    return ImagesSource(config, context)
