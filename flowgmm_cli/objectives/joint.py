r"""The paper's objective, the exact likelihood of labelled and unlabelled rows.

.. math:: \max_\theta \textstyle\sum_{labelled} \log p(x, y) + \sum_{unlabelled} \log p(x)

(Izmailov et al., 2020, eq. 4), here as a mean over rows and divided by D, which changes neither the optimum
nor the direction of a step.

The paper's program weights the two means instead, and takes the unlabelled mean over all training rows: for
tables and text :math:`-\overline{\log p(x \mid y)} - a\, \overline{\log p(x)}`, with both weights equal for
its synthetic sets. With fixed, equal class weights p(x | y) and p(x, y) differ by a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from flowgmm_cli.api import Batch
from flowgmm_cli.objectives.specs import JointConfig


class Joint:
    """Negative joint log-likelihood per row and dimension.

    Args:
        config: weights of the two means; by default the rows' shares, the exact likelihood.
        features: D.
        labelled: number of labelled rows.
        unlabelled: number of rows without a label.
        dims: not used.
    """

    reads = frozenset({"weak"})
    temperature = 1.0

    def __init__(
        self,
        config: JointConfig,
        *,
        features: int,
        labelled: int,
        unlabelled: int,
        dims: int | None = None,
    ) -> None:
        if config.pool == "all":
            unlabelled += labelled
        total = max(1, labelled + unlabelled)
        self.pool: Literal["all", "unlabelled"] = config.pool
        self.class_weights = config.class_weights
        self.divisor = features if config.per_dimension else 1
        self.labelled = labelled / total if config.labelled is None else config.labelled
        self.unlabelled = unlabelled / total if config.unlabelled is None else config.unlabelled

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `labelled` and `unlabelled`; either is 0 without such rows."""
        labelled = batch.student["labelled"]
        by_class = labelled.class_log_prob
        if not self.class_weights:
            by_class = by_class - model.mixture.log_weights
        joint = by_class.gather(1, batch.labels[:, None])[:, 0] + labelled.log_det
        marginal = batch.student["weak"].log_prob()
        return {
            "labelled": -self.labelled / self.divisor * joint.sum() / max(1, len(joint)),
            "unlabelled": -self.unlabelled / self.divisor * marginal.sum() / max(1, len(marginal)),
        }
