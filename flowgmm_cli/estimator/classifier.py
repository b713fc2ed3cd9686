"""`FlowGMMClassifier`: training and use of a calibrated model behind scikit-learn's interface."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from flowgmm_cli.api import DataContext, ScoreInputs, plain_value
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.devices import deterministic
from flowgmm_cli.errors import DataError, PluginError, RecipeError, RunError, UsageError
from flowgmm_cli.estimator.labels import (
    FitParams,
    mark_unlabelled,
    read_labels,
    read_weights,
    select_labelled,
)
from flowgmm_cli.estimator.recipe import ARRAY, FRAME, build_recipe, choose_engine, to_value_error
from flowgmm_cli.estimator.rows import (
    explain_array,
    frame_of_features,
    read_frame,
    require_probabilities,
    rows_of_array,
    rows_of_frame,
    split_of_array,
    split_of_frame,
)
from flowgmm_cli.files import MALFORMED, read_json, write_json
from flowgmm_cli.inference.row_summary import summarise_rows
from flowgmm_cli.trained_model import TrainedModel
from flowgmm_cli.training.callbacks import Callbacks, Interrupt
from flowgmm_cli.training.fit_job import TrainContext
from flowgmm_cli.training.fit_model import fit_model
from flowgmm_cli.training.prepare import prepare_rows

FORMAT = "flowgmm/classifier/1"
_FILE = "classifier.json"
_MAX_SEED = 2**31 - 1

Matrix = npt.NDArray[np.float64]


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class FlowGMMClassifier(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin, BaseEstimator):
    """Semi-supervised classifier, density and generator: a normalizing flow with a Gaussian for each class.

    X is an array of numbers, or a data frame of pandas, polars or another library with Arrow's interface. A
    frame may have categories, dates and missing cells, which are encoded as those of a table on the command
    line; its columns are matched by name.

    A label -1 in `y` is missing, as in `sklearn.semi_supervised`; so are None, NaN and pandas' NA. Labels of
    -1 and a single other value are the two classes of the usual +-1 coding.

    Args:
        couplings: number of affine couplings of the flow; few labels need few.
        hidden: width of their networks.
        dropout: dropout rate of these networks.
        means: initializer of the class means, such as `labelled`, `logistic_regression` or `label_spreading`.
        noise: standard deviation of the noise in the strong view of a row, 0 for none; the features have
            about unit variance.
        drop: share of features dropped from the strong view, 0 for none.
        consistency: weight of the consistency between views of unlabelled rows.
        density: weight of the density of all rows.
        transforms: `quantile`, `standardise`, `pca`, `scale`, None, or a list as in a recipe, such as
            `[{"use": "pca", "dim": 32}]`.
        epochs: passes over the rows; None for as many steps as rows, at least 100.
        max_steps: maximum number of optimiser steps.
        batch_size: unlabelled rows in a step.
        lr: highest learning rate.
        ensemble: number of members, which differ in their seeds and are averaged.
        search: search noise, depth, initializer and weights first, by cross-validation on the labels of y;
            takes several times as long.
        calibrate: fit a temperature to the labelled rows, by cross-fitting, if there are enough.
        recipe: name, path or mapping of a recipe that replaces all settings above but `ensemble`,
            `search` and `calibrate`. Only transforms and views of its data section are used, and for data
            frames its columns.
        overlays: names of overlays of the recipe, such as `["cpu"]`.
        overrides: recipe keys and their values, such as `{"train.weight_decay": 0.1}`, or
            `{"data.text": "body"}` for a column of texts in a data frame.
        random_state: an int gives the same model every time.
        device: `auto`, `cpu`, `cuda` or `mps`, for training; all other computations use the CPU and
            float64.

    Attributes:
        classes_: the classes in sorted order, `(K,)`.
        n_features_in_: number of columns of X.
        feature_names_in_: their names, if X has any.
        n_iter_: optimiser steps taken.
        temperature_: divisor of the class log-probabilities.
        unknown_share_: estimated share of the unlabelled rows that look like none of the classes, or 0.
        trained_: the model with its preprocessing, `flowgmm_cli.trained_model.TrainedModel`.

    Source: Izmailov et al., Semi-Supervised Learning with Normalizing Flows, ICML 2020.

    >>> import numpy as np
    >>> from sklearn.datasets import make_blobs
    >>> from flowgmm_cli import FlowGMMClassifier
    >>> X, classes = make_blobs(200, centers=2, random_state=0, cluster_std=0.5)
    >>> y = np.where(np.arange(200) < 12, classes, -1)
    >>> model = FlowGMMClassifier(random_state=0).fit(X, y)
    >>> model.score(X, classes) > 0.95
    True
    """

    __metadata_request__fit: ClassVar = {"sample_weight": None}  # for scikit-learn's metadata routing

    couplings: int = 2
    hidden: int = 128
    dropout: float = 0.0
    means: str = "labelled"
    noise: float = 0.4
    drop: float = 0.1
    consistency: float = 0.3
    density: float = 0.2
    transforms: Any = "quantile"
    epochs: int | None = None
    max_steps: int = 1000
    batch_size: int = 512
    lr: float = 1e-3
    ensemble: int = 1
    search: bool = False
    calibrate: bool = True
    recipe: Any = None
    overlays: Any = None
    overrides: Any = None
    random_state: Any = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def fit(self, X: Any, y: Any, **params: Unpack[FitParams]) -> Self:  # noqa: N803
        """Train on rows X `(N, D)` with labels y `(N,)`, -1, None or NaN for missing ones; write no files.

        `sample_weight` `(N,)` weighs the labels; a row of weight 0 still counts as one without a label.

        Raises:
            ValueError: X, y, a weight or a parameter cannot be used.
            RunFailedError: the loss is not finite.
        """
        frame, y = read_frame(X), mark_unlabelled(y)
        if frame is None:
            x, y = self._validate_array(X, y, ensure_min_samples=2)
        else:
            validate_data(self, X, skip_check_array=True)
            check_consistent_length(frame.table, y)
        classes, codes = read_labels(column_or_1d(y, warn=True))
        seed = int(check_random_state(self.random_state).randint(_MAX_SEED))
        names = tuple(map(str, classes.tolist()))
        try:
            source = ARRAY if frame is None else FRAME
            recipe = build_recipe(self.get_params(deep=False), rows=len(codes), seed=seed, source=source)
            if frame is None:
                split = split_of_array(x, names, codes)
            else:
                split = split_of_frame(frame, recipe, names, codes)
            split = dataclasses.replace(split, weights=read_weights(params, codes))
            data = prepare_rows(recipe, split, DataContext())
            engine = choose_engine(recipe, data.preprocessor.dim)
            with deterministic(recipe.run.deterministic):
                learned = fit_model(TrainContext(recipe, data, engine, Callbacks(), Interrupt()))
        except (DataError, PluginError, RecipeError) as error:
            raise to_value_error(error) from error
        facts = {
            "calibration": learned.calibration.to_dict(),
            "rows": data.counts(),
            "unknown": learned.unknown.to_dict() if learned.unknown else None,
        }
        if frame is not None:
            facts["training_rows"] = summarise_rows(data.rows.train, data.preprocessor.columns)
        model, names, members = learned.model.cpu(), data.rows.class_names, learned.members
        trained = TrainedModel(
            recipe, data.preprocessor, model, names, facts, members, held_out=learned.held_out
        )
        return self._set_fitted(trained, classes, learned.steps)

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """Return the most probable class of each row, `(N,)`."""
        codes = self._encode(X).log_posterior.numpy().argmax(axis=1)
        return np.asarray(self.classes_[codes])

    def predict_set(self, X: Any, coverage: float = 0.9, *, by_class: bool = False) -> npt.NDArray[np.bool_]:  # noqa: N803
        """Return a mask of the classes in the set of each row, `(N, K)`, in the order of `classes_`.

        The sets hold the class of a share `coverage` of the rows, or of the rows of each class, by split
        conformal prediction on the labels that the calibration held out; `ValueError` if these are too few.
        A set may be empty.
        """
        check_is_fitted(self)
        trained = self.trained_
        try:
            thresholds = trained.held_out.class_thresholds(coverage, trained.class_names, by_class=by_class)
        except (DataError, UsageError) as error:
            raise to_value_error(error) from error
        return thresholds.sets(self._encode(X).log_posterior.numpy())

    def predict_unknown(self, X: Any) -> Matrix:  # noqa: N803
        """Return the probability that a row belongs to none of the classes, `(N,)`.

        It is 0 unless training found unknown kinds, see `prior.unknown` of a recipe.
        """
        return np.asarray(self._encode(X).latents.p_unknown().double().numpy())

    def predict_proba(self, X: Any) -> Matrix:  # noqa: N803
        """Return calibrated probabilities `(N, K)`, in the order of `classes_`."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> Matrix:  # noqa: N803
        """Return their logarithms, at least that of the smallest normal number, about -708."""
        smallest = np.log(np.finfo(np.float64).tiny)
        return np.asarray(np.maximum(self._encode(X).log_posterior.numpy(), smallest))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """Return the accuracy on the rows that have a label in y; the others are left out.

        Raises:
            ValueError: no row has a label.
        """
        check_is_fitted(self)
        known, labels = select_labelled(column_or_1d(y, warn=True), self.classes_)
        weight = None if sample_weight is None else np.asarray(sample_weight)[known]
        return float(accuracy_score(labels, self.predict(X)[known], sample_weight=weight))

    def score_samples(self, X: Any) -> Matrix:  # noqa: N803
        """Return `log p(x)` of each row in nats, `(N,)`: the density in the units of X."""
        return self._encode(X).log_density.numpy()

    def transform(self, X: Any) -> Matrix:  # noqa: N803
        """Return latent vectors `(N, D)`."""
        return np.asarray(self._encode(X).latents.z)

    def sample(self, n_samples: int = 1, y: Any = None) -> tuple[Matrix | pd.DataFrame, npt.NDArray[Any]]:
        """Draw rows and their classes; the same at each call if `random_state` is an int.

        Args:
            n_samples: number of rows.
            y: a class, or a class for each row; None draws classes by their weights. It is `class_name` of
                `FlowGMM.sample` and `--class` on the command line.

        Returns:
            Rows `(n_samples, D)` in the units of X, or a data frame if X had categories, dates or missing
            cells; and their classes `(n_samples,)`.

        Raises:
            ValueError: a class is unknown.
        """
        check_is_fitted(self)
        seed = int(check_random_state(self.random_state).randint(_MAX_SEED))
        codes = None
        if y is not None:
            labels = np.broadcast_to(np.asarray(y), (n_samples,))
            unknown = labels[~np.isin(labels, self.classes_)]
            if len(unknown):
                raise ValueError(f"y has the unknown class {unknown[0]}; classes: {self.classes_.tolist()}")
            codes = torch.from_numpy(np.searchsorted(self.classes_, labels).astype(np.int64))
        rows, codes = self.trained_.model.sample(n_samples, torch.Generator().manual_seed(seed), codes)
        with torch.no_grad():
            x: Matrix = self.trained_.preprocessor.transforms.inverse(rows.double()).numpy()
        drawn = x if self._takes_arrays() else frame_of_features(x, self.trained_)
        return drawn, self.classes_[codes.numpy()]

    def save(self, folder: str | Path) -> None:
        """Write the fitted estimator to a folder, which is created if necessary; no pickle.

        It replaces one in the folder. A `random_state` that is neither an int nor None is not saved.
        """
        check_is_fitted(self)
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        model = copy.deepcopy(self.trained_.model).float()  # exact: training was in float32
        dataclasses.replace(self.trained_, model=model).save(folder)
        parameters = plain_value(self.get_params(deep=False))
        if not isinstance(parameters["random_state"], int):
            parameters["random_state"] = None
        named = hasattr(self, "feature_names_in_")
        values = {
            "format": FORMAT,
            "parameters": parameters,
            "classes": self.classes_.tolist(),
            "dtype": self.classes_.dtype.str,
            "features": self.n_features_in_,
            "feature_names": self.feature_names_in_.tolist() if named else None,
            "steps": self.n_iter_,
        }
        write_json(folder / _FILE, values)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read the files of `save`.

        Raises:
            RunError: a file is missing, damaged or of another format.
        """
        folder = Path(folder)
        values = read_json(folder / _FILE, "classifier")
        if values.get("format") != FORMAT:
            raise RunError(f"{folder} holds a classifier of format {values.get('format')!r}, not {FORMAT!r}")
        trained = TrainedModel.load(folder)
        try:
            classifier = cls(**values["parameters"])
            classifier.n_features_in_ = values["features"]
            if values["feature_names"] is not None:
                classifier.feature_names_in_ = np.array(values["feature_names"], dtype=object)
            classes = np.array(values["classes"], dtype=values["dtype"])
            return classifier._set_fitted(trained, classes, values["steps"])
        except MALFORMED as error:
            raise RunError(f"the classifier in {folder} is damaged: {error}") from error

    def _set_fitted(self, trained: TrainedModel, classes: npt.NDArray[Any], steps: int) -> Self:
        # in float64 the result of a row does not depend on the other rows of its batch
        self.trained_ = dataclasses.replace(trained, model=trained.model.double().eval())
        self.classes_ = classes
        self.n_iter_ = steps
        self.temperature_ = float(trained.model.temperature)
        self.unknown_share_ = float((trained.facts.get("unknown") or {}).get("share", 0.0))
        self._n_features_out = trained.preprocessor.dim
        return self

    def _encode(self, X: Any) -> ScoreInputs:  # noqa: N803
        check_is_fitted(self)
        preprocessor = self.trained_.preprocessor
        if self._takes_arrays():
            rows = rows_of_array(self._validate_array(X, reset=False))
        else:
            rows = rows_of_frame(X, self.trained_, self.feature_names_in_)
        features = torch.from_numpy(preprocessor.feature_encoder.transform(rows, DataContext()))
        with torch.no_grad():
            x, log_det = preprocessor.transforms(features)
        return require_probabilities(self.trained_.encode_rows(Tensors(x, log_det=log_det)))

    def _takes_arrays(self) -> bool:
        """Return True if the rows of `fit` were numbers, False if they were a data frame of other cells."""
        return bool(self.trained_.recipe.data.use == ARRAY["use"])

    def _validate_array(self, X: Any, *y: Any, **options: Any) -> Any:  # noqa: N803
        try:
            return validate_data(self, X, *y, dtype=np.float64, **options)
        except ValueError as error:
            raise explain_array(error) from error
