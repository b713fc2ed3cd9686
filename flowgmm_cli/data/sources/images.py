"""Source `images`: folders of files, IDX (MNIST), npz, npy and parquet files, and data sets of the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.array_types import Bytes
from flowgmm_cli.data.images.arrays import fit_pixels
from flowgmm_cli.data.images.encoded_images import EncodedImages, concatenate_images, list_files
from flowgmm_cli.data.images.lazy_pixels import LazyPixels, lazy_pixels_of
from flowgmm_cli.data.images.load import load_images
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.labels import encode_labels
from flowgmm_cli.data.sources.arrays import encode_label_arrays
from flowgmm_cli.data.sources.files import require_file
from flowgmm_cli.data.sources.hub_tables import is_hub_id
from flowgmm_cli.data.sources.image_arrays import idx_files, is_idx, read_array_images, read_idx_images
from flowgmm_cli.data.sources.image_folder import read_folder_images
from flowgmm_cli.data.sources.image_hub import read_hub_images
from flowgmm_cli.data.sources.image_set import ImageSet, ImageSplit, object_array
from flowgmm_cli.errors import DataError

Pixels = Bytes | LazyPixels

COLUMN = "image"


class ImagesSource:
    """One image column `image`, uint8 `(N, height, width)` or `(N, height, width, 3)`."""

    def __init__(self, config: ImagesConfig, context: DataContext) -> None:
        self._config = config
        self._context = context
        self._notes: list[str] = []

    def load(self) -> SourceData:
        """Find the images and their labels, and decode them once."""
        images = self._read_all()
        self._notes += images.notes
        splits = dict(images.splits)
        decoded = not all(isinstance(split.images, EncodedImages) for split in splits.values())
        if decoded:
            pixels = self._convert_arrays(splits)
        else:
            pixels, splits = self._decode_files(splits)
        encode = encode_label_arrays if decoded else encode_labels
        class_names, labels = encode(
            {name: split.labels for name, split in splits.items()},
            images.class_names,
            where=f"{self._config.path}: labels",
            note=self._notes.append,
            unlabelled=(self._config.unlabelled,),
            remedy="set data.unlabelled={}",
            single_class=self._config.labels.single_class,
        )
        rows = {
            name: Rows({COLUMN: cast(Any, pixels[name])}, labels[name], split.ids, split.extras)
            for name, split in splits.items()
        }
        column = Column(COLUMN, "image", pixels["train"].shape[1:])
        return SourceData((column,), class_names, rows, tuple(self._notes))

    def _read_all(self) -> ImageSet:
        """Read the images at `path`, and those at `test_path` and `val_path` as further splits."""
        images = self._read(self._config.path)
        splits, notes = dict(images.splits), list(images.notes)
        encoded = isinstance(splits["train"].images, EncodedImages)
        for split, path in (("test", self._config.test_path), ("val", self._config.val_path)):
            if path is None:
                continue
            other = self._read(path)
            if isinstance(other.splits["train"].images, EncodedImages) is not encoded:
                raise DataError(
                    f"data.{split}_path and data.path are of different kinds: {path} and {self._config.path}",
                    hint="give both as files of images, or both as arrays",
                )
            part = other.splits.get(split, other.splits["train"])
            ids = [f"{split}:{name.removeprefix('train:').removeprefix(f'{split}:')}" for name in part.ids]
            splits[split] = replace(part, ids=object_array(ids))
            notes += [note for note in other.notes if "data.split.test" not in note]
        return ImageSet(splits, images.class_names, notes)

    def _read(self, path: str) -> ImageSet:
        config = self._config.model_copy(update={"path": path})
        local = Path(path).expanduser()
        if local.is_dir():
            if files := idx_files(local):
                return read_idx_images(files, config)
            listing = list_files(local)
            if not listing.images and listing.others[".parquet"]:
                return read_hub_images(config, self._context)
            return read_folder_images(local.resolve(), listing, config)
        if not local.exists() and is_hub_id(path):
            return read_hub_images(config, self._context)
        file = require_file(path)
        if is_idx(file.name):
            return read_idx_images({"train": file}, config)
        if file.suffix in (".npz", ".npy"):
            return read_array_images(file, config)
        if file.suffix == ".parquet":
            return read_hub_images(config, self._context)
        raise DataError(
            f"{path} is neither a folder of images nor a file of image arrays",
            hint="known files: npz, npy, parquet, and IDX such as train-images-idx3-ubyte.gz",
        )

    def _decode_files(
        self, splits: Mapping[str, ImageSplit]
    ) -> tuple[dict[str, Pixels], dict[str, ImageSplit]]:
        """Return pixels by split, and the splits without the images that are left out."""
        images = concatenate_images([cast(EncodedImages, split.images) for split in splits.values()])
        loaded = load_images(replace(images, where=self._config.path), self._config, self._context)
        self._notes += loaded.notes
        pixels: dict[str, Pixels] = {}
        usable = {}
        start = 0
        for name, split in splits.items():
            end = start + len(split)
            rows = slice(*np.searchsorted(loaded.kept, [start, end]).tolist())
            kept = loaded.kept[rows] - start
            pixels[name] = loaded.pixels[rows]
            extras = {key: cells[kept] for key, cells in split.extras.items()}
            usable[name] = replace(split, labels=split.labels[kept], ids=split.ids[kept], extras=extras)
            start = end
        return pixels, usable

    def _convert_arrays(self, splits: Mapping[str, ImageSplit]) -> dict[str, Pixels]:
        arrays = {name: cast(Bytes, split.images) for name, split in splits.items()}
        pixels, notes = fit_pixels(arrays, self._config, where=self._config.path)
        self._notes += notes
        mapped = all(isinstance(array, np.memmap) for array in pixels.values())
        if mapped and sum(array.nbytes for array in pixels.values()) > self._config.memory_bytes:
            return {name: lazy_pixels_of(array) for name, array in pixels.items()}
        return {
            name: np.array(array) if isinstance(array, np.memmap) else array for name, array in pixels.items()
        }


build = ImagesSource
