r"""Virtual adversarial training (Miyato et al., 2018).

.. math:: \mathrm{KL}\big(p(\cdot \mid x)\ \|\ p(\cdot \mid x + r)\big), \qquad
          r = \arg\max_{\|r\| \le \epsilon} \mathrm{KL}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.api import Batch
from flowgmm_cli.regularisers.ramp import linear_ramp
from flowgmm_cli.regularisers.specs import VatConfig


class Vat:
    """Divergence of the student's tempered posterior under the worst small change of a row.

    The direction of the change is found by power iteration on the divergence's curvature.
    """

    reads: frozenset[str] = frozenset()

    def __init__(self, config: VatConfig) -> None:
        self.config = config

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `{"vat": scalar}`; target and direction take no gradient."""
        x = batch.weak
        unit = float(x[0].numel()) ** 0.5 if len(x) else 1.0
        with torch.no_grad():
            target = torch.softmax(model(x).class_log_prob / batch.temperature, dim=1)

        def divergence(change: Tensor) -> Tensor:
            log_p = torch.log_softmax(model(x + change).class_log_prob / batch.temperature, dim=1)
            return torch.nn.functional.kl_div(log_p, target, reduction="sum") / max(1, len(x))

        change = _directions(torch.empty_like(x).normal_(generator=batch.generator))
        for _ in range(self.config.iterations):
            probe = (self.config.probe * unit * change).requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(divergence(probe), probe)
            change = _directions(slope)
        loss = divergence(self.config.radius * unit * change)
        return {"vat": linear_ramp(batch.epoch, self.config.ramp_epochs) * loss}


def _directions(x: Tensor) -> Tensor:
    """Rows scaled to length 1; a row of zeros stays one."""
    length: Tensor = x.flatten(1).norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny)
    return x / length.reshape(-1, *[1] * (x.ndim - 1))
