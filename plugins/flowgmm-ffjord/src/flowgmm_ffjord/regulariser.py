r"""Regularised paths of a continuous flow (Finlay et al., 2020, "How to train your neural ODE").

.. math:: \frac{1}{D} \int_0^T a \, \|f(x(t), t)\|^2
          + b \, \left\| \frac{\partial f}{\partial x(t)} \right\|_F^2 dt
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.api import Batch, RecipeError
from flowgmm_ffjord.plugin import RnodeConfig


class Rnode:
    """Kinetic energy and Jacobian norm along the paths of unlabelled rows."""

    reads: frozenset[str] = frozenset()

    def __init__(self, config: RnodeConfig) -> None:
        self.config = config

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `rnode_kinetic` and `rnode_jacobian`; the teacher is not used.

        Raises:
            RecipeError: the model's flow follows no paths.
        """
        flow = getattr(model, "flow", None)
        if flow is None or not hasattr(flow, "path_energies"):
            raise RecipeError(
                f"the regulariser `rnode` needs the flow `ffjord`; this model has a `{type(flow).__name__}`",
                hint="set flow.use=ffjord, or take `rnode` out of the recipe's regularisers",
            )
        x = batch.weak[: self.config.rows]
        paths = flow.path_energies(x)
        # The sum over no rows is 0 where their mean would be NaN.
        share = 1 / (max(1, len(x)) * x.shape[1])
        return {
            "rnode_kinetic": self.config.kinetic * share * torch.sum(paths.kinetic),
            "rnode_jacobian": self.config.jacobian * share * torch.sum(paths.jacobian),
        }
