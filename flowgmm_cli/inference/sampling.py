"""Rows that a trained model makes: drawn by class, class means, and everything that is known of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import Column
from flowgmm_cli.data.lazy_dataset import RowStore
from flowgmm_cli.errors import RunFailedError, UsageError, did_you_mean
from flowgmm_cli.model import Ensemble, FlowMixture, Model
from flowgmm_cli.trained import TrainedModel, encode

if TYPE_CHECKING:
    import numpy.typing as npt


TEMPERATURE = 0.7
"""The factor on standard deviations that samples are drawn with unless another is asked for.

In D dimensions nearly all of a Gaussian lies at the distance of about sqrt(D) from its mean, where a flow
that was trained on little data is least sure; a factor below 1 draws closer to the class. The value is that
of Glow's samples (Kingma and Dhariwal, 2018, section 6). The figures of Izmailov et al. (2020) use 0.25,
which shows the class and little of its variety; 1 draws from the model's own density, which is what
statistics of samples need.
"""

OWN_COLUMNS = ("id", "class", "log_density", "confidence")


@dataclass(frozen=True)
class GeneratedRows:
    """Rows made by a model.

    Attributes:
        x: the flow's input, float32 `(n, D)`, on the CPU.
        classes: the class that each row was made for, or, where it was made for none, that the model
            predicts, int64 `(n,)`.
        log_probabilities: calibrated `log p(k | x)`, float64 `(n, K)`.
        log_density: `log p(x)` in nats, the transforms' log-determinant included, float64 `(n,)`; before
            whole numbers and categories are rounded to.
        features: the matrix that the transforms map to `x`, float64 `(n, F)`.
        cells: input columns by name in the units of the input; None for texts.
        ids: names of the rows, strings `(n,)`.
        columns: the input columns.
        class_names: index -> name.
        whole: names of the columns of whole numbers.
        further: other columns of the answer, by name, such as the place on a path.
    """

    x: Tensor
    classes: npt.NDArray[np.int64]
    log_probabilities: npt.NDArray[np.float64]
    log_density: npt.NDArray[np.float64]
    features: npt.NDArray[np.float64]
    cells: Mapping[str, npt.NDArray[Any] | None]
    ids: npt.NDArray[Any]
    columns: tuple[Column, ...]
    class_names: tuple[str, ...]
    whole: frozenset[str] = frozenset()
    further: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def confidence(self) -> npt.NDArray[np.float64]:
        """Calibrated probability of each row's class, `(n,)`."""
        found: npt.NDArray[np.float64] = np.exp(self.log_probabilities[np.arange(len(self)), self.classes])
        return found

    def take(self, places: npt.NDArray[np.int64]) -> GeneratedRows:
        """Some of the rows, in the order of `places`."""
        return replace(
            self,
            x=self.x[torch.from_numpy(places)],
            classes=self.classes[places],
            log_probabilities=self.log_probabilities[places],
            log_density=self.log_density[places],
            features=self.features[places],
            cells={name: None if one is None else one[places] for name, one in self.cells.items()},
            ids=self.ids[places],
            further={name: one[places] for name, one in self.further.items()},
        )

    def table(self, *, flat: bool = True) -> dict[str, npt.NDArray[Any]]:
        """The answer by columns: `id, class, log_density, confidence`, `further`, then the input columns.

        Where an input column has the name of one of ours, ours is called `sample_<name>`.

        Args:
            flat: give each entry of a vector a column of its own, `name[0]`, `name[1]`, ...
        """
        names = np.array(self.class_names, dtype=object)
        own = dict(
            zip(OWN_COLUMNS, (self.ids, names[self.classes], self.log_density, self.confidence), strict=True)
        )
        inputs: dict[str, npt.NDArray[Any]] = {}
        for column in self.columns:
            cells = self.cells[column.name]
            if cells is None:
                continue
            values = _integers(cells) if column.name in self.whole else cells
            if column.kind in ("vector", "image") and flat:
                matrix = values.reshape(len(values), -1)
                inputs |= {f"{column.name}[{entry}]": one for entry, one in enumerate(matrix.T)}
            else:
                inputs[column.name] = values
        taken = inputs.keys() | {column.name for column in self.columns}
        ours = {**own, **self.further}
        return {(f"sample_{name}" if name in taken else name): one for name, one in ours.items()} | inputs


def concatenate_generated(
    parts: Sequence[GeneratedRows], *, further: Mapping[str, Sequence[Any]] | None = None, count: bool = True
) -> GeneratedRows:
    """Several lots of made rows of one model, one after the other; at least one lot.

    Args:
        parts: the lots.
        further: columns to add, with a value for each lot.
        count: number the rows from 1; else they keep their names.
    """
    first, sizes = parts[0], [len(one) for one in parts]
    added = {name: np.repeat(np.asarray(values), sizes) for name, values in (further or {}).items()}
    kept = {name: np.concatenate([one.further[name] for one in parts]) for name in first.further}
    cells = {
        name: None if values is None else np.concatenate([np.asarray(one.cells[name]) for one in parts])
        for name, values in first.cells.items()
    }
    ids = np.concatenate([one.ids for one in parts])
    return replace(
        first,
        x=torch.cat([one.x for one in parts]),
        classes=np.concatenate([one.classes for one in parts]),
        log_probabilities=np.concatenate([one.log_probabilities for one in parts]),
        log_density=np.concatenate([one.log_density for one in parts]),
        features=np.concatenate([one.features for one in parts]),
        cells=cells,
        ids=np.array([str(one + 1) for one in range(sum(sizes))], dtype=object) if count else ids,
        further={**added, **kept},
    )


def draw_samples(
    trained: TrainedModel,
    n: int,
    *,
    classes: Sequence[int] | None = None,
    temperature: float = TEMPERATURE,
    generator: torch.Generator,
    source: Model | None = None,
) -> GeneratedRows:
    """Draw rows from the model; each member of an ensemble draws its share by itself.

    Args:
        trained: the model.
        n: rows of each class, or, without `classes`, rows in all.
        classes: draw `n` rows of each of these; None draws classes by the model's class weights.
        temperature: factor on the components' standard deviations, see `TEMPERATURE`; 0 gives the means.
        generator: source of randomness, on the CPU.
        source: what to draw from; None for the model's own `source`, whose components stand where rows lie,
            if it has one. Densities and posteriors are the model's in any case.

    Raises:
        RunFailedError: the flow's inverse is not finite.
    """
    wanted = None if classes is None else torch.tensor(classes, dtype=torch.int64).repeat_interleave(n)
    count = n if wanted is None else len(wanted)
    x, found = (source or trained.source or trained.model).sample(
        count, generator, wanted, temperature=temperature
    )
    return describe_rows(trained, x, classes=found.cpu().numpy())


@torch.no_grad()
def class_means(trained: TrainedModel, *, source: Model | None = None) -> GeneratedRows:
    """The means of the classes, mapped back; of classes with several components, each component's.

    Of an ensemble these are the first member's. `source` as in `draw`.
    """
    part = (source or trained.source or trained.model).parts[0]
    means, _ = part.mixture.moments()
    classes = part.mixture.component_classes.cpu().numpy()
    names = [trained.class_names[index] for index in classes]
    if (count := part.mixture.components) > 1:
        names = [f"{name}.{index % count + 1}" for index, name in enumerate(names)]
    x = part.flow.inverse(means)  # type: ignore[operator]
    return describe_rows(trained, x, classes=classes, ids=names)


@torch.no_grad()
def describe_rows(
    trained: TrainedModel,
    x: Tensor,
    *,
    classes: npt.NDArray[np.int64] | None = None,
    ids: Sequence[str] | npt.NDArray[Any] | None = None,
    further: Mapping[str, npt.NDArray[Any]] | None = None,
) -> GeneratedRows:
    """What the model makes of flow inputs `(n, D)`, and the input columns they stand for.

    Args:
        trained: the model.
        x: rows.
        classes: what the rows were made for; None takes the predicted classes.
        ids: names; None counts from 1.
        further: see `Made`.

    Raises:
        RunFailedError: a row is not finite.
    """
    x = x.detach().cpu().float()
    bad = ~x.isfinite().all(dim=1)
    if bad.any():
        raise RunFailedError(
            f"the inverse of the flow gave numbers that are not finite in {int(bad.sum()):,} of "
            f"{len(x):,} rows",
            hint="`flowgmm check` finds out where; a lower --temperature stays closer to the data",
        )
    preprocessor = trained.preprocessor
    features = preprocessor.invert_transforms(x)
    latents = encode(trained.model, x)
    log_probabilities = trained.model.log_posterior(latents).cpu().numpy()
    log_density = latents.log_prob().double() + preprocessor.log_det(features)
    return GeneratedRows(
        x=x,
        classes=log_probabilities.argmax(1) if classes is None else classes,
        log_probabilities=log_probabilities,
        log_density=log_density.numpy(),
        features=features.numpy(),
        cells=preprocessor.feature_encoder.invert(features.numpy()),
        ids=np.array([str(one) for one in (range(1, len(x) + 1) if ids is None else ids)], dtype=object),
        columns=preprocessor.columns,
        class_names=trained.class_names,
        whole=preprocessor.feature_encoder.whole,
        further=further or {},
    )


def class_index(trained: TrainedModel, name: str) -> int:
    """The index of a class. Raises `UsageError` for a name that the model does not know."""
    try:
        return trained.class_names.index(name)
    except ValueError:
        raise UsageError(
            f"the model has no class `{name}`{did_you_mean(name, trained.class_names)}",
            hint=f"its classes are {', '.join(trained.class_names[:20])}",
        ) from None


def image_column(columns: Sequence[Column]) -> Column | None:
    """The column whose entries are pictures, if it is the only column; else None.

    A picture has the shape `(height, width)`, `(height, width, channels)` or `(channels, height, width)`
    with 1, 3 or 4 channels.
    """
    if len(columns) != 1 or columns[0].kind not in ("vector", "image"):
        return None
    shape = columns[0].shape
    channels = len(shape) == 3 and (shape[-1] in (1, 3, 4) or shape[0] in (1, 3, 4))
    return columns[0] if channels or len(shape) == 2 else None


def _integers(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Whole numbers as integers where they fit; pixels are that already."""
    if values.dtype.kind in "iu":
        return values
    return values.astype(np.int64) if bool((np.abs(values) < 2**53).all()) else values


_ROWS = 20_000  # enough for a mean to a hundredth of a standard deviation


@torch.no_grad()
def recentre_components(model: Model, x: RowStore) -> Model:
    r"""A copy of a model whose components stand where rows lie in the latent space, to draw samples from.

    The loss of the labelled rows moves means to where they tell classes apart best, which need not be where
    the rows are: differences of means count for it, and the density has little weight against it. The
    classes stay right, but what is drawn around a mean that lies beside its rows looks like none of them.
    So each mean becomes

    .. math:: \bar z_k = \frac{1}{n_k} \textstyle\sum_{i : k(x_i) = k} f(x_i)

    over the rows for which its component is the most responsible, and one factor fits all scales to the
    distances from the new means. This is a fit of the latent density after training (Ghosh et al., 2020,
    "From variational to deterministic autoencoders"); densities and posteriors need the model itself.

    Args:
        model: as trained; an ensemble's members are treated one by one.
        x: the flow's inputs of training rows, `(N, D)`; labels are not needed.

    Returns:
        The copy; it shares the flows. A component that no row falls to stays where it is.
    """
    some = x[:: -(-len(x) // _ROWS) or 1]  # of a file sorted by class, some of each class
    parts = [_centred(part, some) for part in model.parts]
    return parts[0] if len(parts) == 1 else Ensemble(parts)


def _centred(part: FlowMixture, x: Tensor) -> FlowMixture:
    mixture = copy.deepcopy(part.mixture)
    z = encode(part, x).z.to(mixture.means.device)
    z = z[z.isfinite().all(1)]
    component = mixture.component_log_prob(z).argmax(1)
    near = z[:, : mixture.dims]
    counts = component.bincount(minlength=len(mixture.means))
    sums = torch.zeros_like(mixture.means).index_add_(0, component, near)
    centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], mixture.means)
    scales = mixture.scales.expand_as(centres)
    if len(near) > len(centres):
        spread = ((near - centres[component]) / scales[component]).square().mean().sqrt()
        mixture.raw_scales += spread.log().to(mixture.raw_scales)
    mixture.means.copy_(centres)
    return FlowMixture(part.flow, mixture)
