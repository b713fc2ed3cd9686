"""Source `openml`: data sets of openml.org, through scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import DataContext, DataError, Rows, SourceData
from flowgmm_sklearn_data.arguments import suggest
from flowgmm_sklearn_data.classes import code_targets
from flowgmm_sklearn_data.columns import MAX_NAMED_COLUMNS, Choice, choose_columns
from flowgmm_sklearn_data.network import downloads

if TYPE_CHECKING:
    import pandas as pd

    from flowgmm_sklearn_data.plugin import OpenMLConfig


class OpenMLSource:
    """One data set; the split is flowgmm's, since OpenML's tasks are no part of a data set."""

    def __init__(self, config: OpenMLConfig, context: DataContext) -> None:
        self._config = config
        self._context = context
        version = f" version {config.version}" if config.version is not None else ""
        self._what = f"OpenML's data set {config.id or config.name}{version}"

    def load(self) -> SourceData:
        """Read the data set, from scikit-learn's folder if it is there."""
        config = self._config
        frame, targets = self._fetch()
        label = config.label or self._target(targets)
        if label not in frame.columns:
            raise DataError(
                f"{self._what} has no column `{label}` (data.label){suggest(label, list(frame.columns))}",
                hint=f"its columns are {', '.join(list(frame.columns)[:30])}",
            )
        inputs = {name: _array(frame[name]) for name in frame.columns if name != label}
        parts = [config.text] if isinstance(config.text, str) else list(config.text or ())
        if not (parts or config.drop or config.categorical) and len(inputs) > MAX_NAMED_COLUMNS:
            inputs = _stack_columns(inputs)
        choice = Choice(config.drop, config.categorical, parts)
        columns, cells = choose_columns({"train": inputs}, choice, self._what)
        names, labels = code_targets(
            {"train": _array(frame[label])},
            bins=config.bins,
            unlabelled=config.unlabelled,
            what=self._what,
        )
        ids = np.array([f"train:{row}" for row in range(1, len(frame) + 1)], dtype=object)
        return SourceData(columns, names, {"train": Rows(cells["train"], labels["train"], ids)})

    def _fetch(self) -> tuple[pd.DataFrame, list[str]]:
        """Fetch the whole table, and the columns that OpenML declares as targets."""
        from sklearn.datasets import fetch_openml

        config, offline = self._config, self._context.offline
        self._context.progress(0, 1, f"loading {self._what}")
        with downloads(self._what, config.data_home, offline=offline):
            dataset = fetch_openml(
                data_id=config.id,
                name=config.name,
                version="active" if config.version is None else config.version,
                data_home=config.data_home,
                target_column=None,  # as a target, a column may have no empty cell
                as_frame="auto",
                parser=config.parser,
                n_retries=1 if offline else 3,
                delay=1e-3 if offline else 1.0,
            )
        if dataset.frame is None:
            raise DataError(
                f"{self._what} is a sparse table, which this source does not read",
                hint="load it with scikit-learn, reduce it, and train on the arrays: {use: arrays, ...}",
            )
        target = str(dataset.details.get("default_target_attribute") or "")
        targets = (
            [target] if target in dataset.frame.columns else [name for name in target.split(",") if name]
        )
        return dataset.frame, targets

    def _target(self, targets: list[str]) -> str:
        if len(targets) == 1:
            return targets[0]
        raise DataError(
            f"{self._what} names {'several targets' if targets else 'no target'}",
            hint=f"choose one: data.label={targets[0]}"
            if targets
            else "name the column of the class: data.label=COLUMN",
        )


def _array(series: pd.Series[Any]) -> npt.NDArray[Any]:
    """Return cells as NumPy arrays: categories and strings as objects, None for a missing cell."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(series.dtype):
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    cells: npt.NDArray[Any] = series.astype(object).to_numpy(dtype=object, copy=True)
    cells[pd.isna(cells)] = None
    return cells


def _stack_columns(inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Stack many numeric columns, such as pixels, to a single column of vectors."""
    if all(cells.dtype == np.float64 for cells in inputs.values()):
        return {"x": np.stack(list(inputs.values()), axis=1)}
    return inputs


def build(config: OpenMLConfig, context: DataContext) -> OpenMLSource:
    """Build the source."""
    return OpenMLSource(config, context)
