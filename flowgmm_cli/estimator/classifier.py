"""`FlowGMMClassifier`: the whole way from rows to a calibrated model behind scikit-learn's interface."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.prepare import SplitRows
from flowgmm_cli.data.preprocessor import Tensors
from flowgmm_cli.devices import find_device
from flowgmm_cli.errors import DataError, FlowgmmError, PluginError, RecipeError, RunError
from flowgmm_cli.estimator.labels import read_labels
from flowgmm_cli.estimator.recipe import make_recipe, plain
from flowgmm_cli.files import read_json, write_json
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.trained_model import Predictions, TrainedModel, encode
from flowgmm_cli.training.engine import Engine, deterministic, make_engine
from flowgmm_cli.training.fitting import Fitting, Talk
from flowgmm_cli.training.inputs import prepare_rows
from flowgmm_cli.training.interrupt import Interrupt
from flowgmm_cli.training.learn import learn

FORMAT = "flowgmm/classifier/1"
_FILE = "classifier.json"
_SEEDS = 2**31 - 1

Matrix = npt.NDArray[np.float64]


class FlowGMMClassifier(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    ClassifierMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Semi-supervised classifier, density and generator: a normalizing flow with a Gaussian for each class.

    Rows of `y` that are -1 have no label, as in `sklearn.semi_supervised`; in an array of objects None means
    the same. Labels that hold -1 and just one other value are the two classes of the usual +-1 coding.

    Args:
        couplings: number of affine couplings of the flow; few labels want few.
        hidden: width of their networks.
        dropout: share of their units dropped in training.
        means: where the class means start, such as `labelled`, `logistic_regression` or `label_spreading`.
        noise: standard deviation of the noise on the strong view of a row, 0 for none; the features have
            about unit variance.
        drop: share of features dropped from the strong view, 0 for none.
        consistency: weight of the agreement between views of unlabelled rows.
        density: weight of the density of all rows.
        transforms: `quantile`, `standardise`, `pca`, `scale`, None, or a list as in a recipe, such as
            `[{"use": "pca", "dim": 32}]`.
        epochs: passes over the rows; None: as many steps as there are rows, at least 100.
        max_steps: most optimiser steps.
        batch_size: unlabelled rows in a step.
        lr: highest learning rate.
        ensemble: differently started members that are averaged.
        search: choose noise, depth, start and weights first, in a race that sees no label beyond those of y;
            takes several times as long.
        calibrate: fit a temperature to the labelled rows, by cross-fitting, if there are enough.
        recipe: name, path or mapping of a recipe in the place of all settings above but `ensemble`, `search`
            and `calibrate`. Of its data section only transforms and views count.
        overlays: names of overlays that the recipe has, such as `["cpu"]`; None for none.
        overrides: recipe keys and their values, such as `{"train.weight_decay": 0.1}`.
        random_state: an int gives the same model every time.
        device: `auto`, `cpu`, `cuda` or `mps`, for training; everything else is done on the CPU in float64.

    Attributes:
        classes_: the classes in sorted order, `(K,)`.
        n_features_in_: number of columns of X.
        feature_names_in_: their names, if X has any.
        n_iter_: optimiser steps taken.
        temperature_: divisor of the class log-probabilities.
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

    def __init__(
        self,
        *,
        couplings: int = 2,
        hidden: int = 128,
        dropout: float = 0.0,
        means: str = "labelled",
        noise: float = 0.4,
        drop: float = 0.1,
        consistency: float = 0.3,
        density: float = 0.2,
        transforms: Any = "quantile",
        epochs: int | None = None,
        max_steps: int = 1000,
        batch_size: int = 512,
        lr: float = 1e-3,
        ensemble: int = 1,
        search: bool = False,
        calibrate: bool = True,
        recipe: Any = None,
        overlays: Any = None,
        overrides: Any = None,
        random_state: Any = None,
        device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    ) -> None:
        self.couplings = couplings
        self.hidden = hidden
        self.dropout = dropout
        self.means = means
        self.noise = noise
        self.drop = drop
        self.consistency = consistency
        self.density = density
        self.transforms = transforms
        self.epochs = epochs
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.lr = lr
        self.ensemble = ensemble
        self.search = search
        self.calibrate = calibrate
        self.recipe = recipe
        self.overlays = overlays
        self.overrides = overrides
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Train on rows X `(N, D)` with labels y `(N,)`, -1 where there is none; writes no file.

        Raises:
            ValueError: X, y or a parameter cannot be used.
            RunFailedError: the loss is not finite.
        """
        x, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        classes, codes = read_labels(column_or_1d(y, warn=True))
        seed = int(check_random_state(self.random_state).randint(_SEEDS))
        try:
            recipe = make_recipe(self.get_params(deep=False), rows=len(x), seed=seed)
            data = prepare_rows(recipe, _split_rows(x, codes, classes), DataContext())
            engine = _engine(recipe, data.preprocessor.dim)
            with deterministic(recipe.run.deterministic):
                learned = learn(Fitting(recipe, data, engine, Talk(), Interrupt()))
        except (DataError, PluginError, RecipeError) as error:
            raise ValueError(_said(error)) from error
        facts = {"calibration": learned.calibration.to_dict(), "rows": data.counts()}
        trained = TrainedModel(
            recipe, data.preprocessor, learned.model.cpu(), data.rows.class_names, facts, learned.members
        )
        self._keep(trained, classes, learned.steps)
        return self

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """The most likely class of each row, `(N,)`."""
        best = self._see(X).log_probabilities.argmax(axis=1)
        found: npt.NDArray[Any] = self.classes_[best]
        return found

    def predict_proba(self, X: Any) -> Matrix:  # noqa: N803
        """Calibrated probabilities `(N, K)`, in the order of `classes_`."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> Matrix:  # noqa: N803
        """Their logarithms; no lower than that of the smallest normal number, about -708."""
        floored: Matrix = np.maximum(self._see(X).log_probabilities, np.log(np.finfo(np.float64).tiny))
        return floored

    def score_samples(self, X: Any) -> Matrix:  # noqa: N803
        """`log p(x)` of each row in nats, `(N,)`: the density in the units of X."""
        return self._see(X).log_density

    def transform(self, X: Any) -> Matrix:  # noqa: N803
        """Latent vectors `(N, D)`."""
        split = self._inputs(X)
        z: Matrix = encode(self._model(), split.x).z.numpy()
        return z

    def sample(self, n_samples: int = 1, y: Any = None) -> tuple[Matrix, npt.NDArray[Any]]:
        """Draw rows and their classes; the same ones at each call if `random_state` is an int.

        Args:
            n_samples: how many.
            y: a class, or one for each row; None draws them by the class weights.

        Returns:
            Rows `(n_samples, D)` in the units of X, and their classes `(n_samples,)`.

        Raises:
            ValueError: a class is unknown.
        """
        check_is_fitted(self)
        seed = int(check_random_state(self.random_state).randint(_SEEDS))
        codes = None
        if y is not None:
            wanted = np.broadcast_to(np.asarray(y), (n_samples,))
            unknown = wanted[~np.isin(wanted, self.classes_)]
            if len(unknown):
                raise ValueError(f"y has the unknown class {unknown[0]}; classes: {self.classes_.tolist()}")
            codes = torch.from_numpy(np.searchsorted(self.classes_, wanted).astype(np.int64))
        rows, drawn = self._model().sample(n_samples, torch.Generator().manual_seed(seed), codes)
        with torch.no_grad():
            x: Matrix = self.trained_.preprocessor.transforms.inverse(rows.double()).numpy()
        return x, self.classes_[drawn.numpy()]

    def save(self, folder: str | Path) -> None:
        """Write the fitted estimator to a folder, which is made if need be; no pickle.

        A `random_state` that is neither an int nor None is not kept.
        """
        check_is_fitted(self)
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        single = copy.deepcopy(self._model()).float()  # the numbers of training, of which these are copies
        dataclasses.replace(self.trained_, model=single).save(place)
        parameters = plain(self.get_params(deep=False))
        if not isinstance(parameters["random_state"], int):
            parameters["random_state"] = None
        names = getattr(self, "feature_names_in_", None)
        write_json(
            place / _FILE,
            {
                "format": FORMAT,
                "parameters": parameters,
                "classes": self.classes_.tolist(),
                "dtype": self.classes_.dtype.str,
                "features": self.n_features_in_,
                "feature_names": None if names is None else names.tolist(),
                "steps": self.n_iter_,
            },
        )

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            RunError: a file is missing, damaged or foreign.
        """
        place = Path(folder)
        values = read_json(place / _FILE, "classifier")
        if values.get("format") != FORMAT:
            raise RunError(
                f"{place} holds a classifier in the format {values.get('format')!r}, not {FORMAT!r}"
            )
        trained = TrainedModel.load(place)
        try:
            made = cls(**values["parameters"])
            made.n_features_in_ = values["features"]
            if values["feature_names"] is not None:
                made.feature_names_in_ = np.array(values["feature_names"], dtype=object)
            made._keep(trained, np.array(values["classes"], dtype=values["dtype"]), values["steps"])
        except (LookupError, TypeError, ValueError) as error:
            raise RunError(f"the classifier in {place} is damaged: {error}") from error
        return made

    def _keep(self, trained: TrainedModel, classes: npt.NDArray[Any], steps: int) -> None:
        # float64: rows must not depend on the others that are looked at with them
        self.trained_ = dataclasses.replace(trained, model=trained.model.double().eval())
        self.classes_ = classes
        self.n_iter_ = steps
        self.temperature_ = float(trained.model.temperature)
        self._n_features_out = trained.preprocessor.dim

    def _model(self) -> Any:
        return self.trained_.model

    def _see(self, X: Any) -> Predictions:  # noqa: N803
        split = self._inputs(X)  # first: it says so if there is no model yet
        return self.trained_.predict(split)

    def _inputs(self, X: Any) -> Tensors:  # noqa: N803
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        rows = _rows(x, np.full(len(x), -1, dtype=np.int64))
        preprocessor = self.trained_.preprocessor
        features = torch.from_numpy(preprocessor.feature_encoder.transform(rows, DataContext()))
        with torch.no_grad():
            seen, log_det = preprocessor.transforms(features)
        return Tensors(seen, log_det, torch.from_numpy(rows.labels), rows.ids)


def _rows(x: Matrix, codes: npt.NDArray[np.int64]) -> Rows:
    return Rows({"x": x}, codes, np.arange(len(x)).astype(str))


def _split_rows(x: Matrix, codes: npt.NDArray[np.int64], classes: npt.NDArray[Any]) -> SplitRows:
    return SplitRows(
        columns=(Column("x", "vector", x.shape[1:]),),
        class_names=tuple(map(str, classes.tolist())),
        train=_rows(x, codes),
        val=None,
        test=None,
        val_labels=False,
        notes=(),
        fingerprint="",
    )


def _engine(recipe: Recipe, features: int) -> Engine:
    """On a CPU in float32, for what is faster is found by a measurement that may turn out either way."""
    automatic = recipe.train.precision == "auto" and find_device(recipe.run.device).type == "cpu"
    precision = "fp32" if automatic else recipe.train.precision
    return make_engine(device=recipe.run.device, precision=precision, features=features)


def _said(error: FlowgmmError) -> str:
    return "; ".join([error.message, *error.details])
