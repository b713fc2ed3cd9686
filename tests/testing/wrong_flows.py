"""A small correct flow, and versions of it that are each wrong in one way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm_cli.api import Config, Field, FlowSpec


class Settings(Config):
    """Parameters of all of them."""

    layers: int = Field(2, ge=1, description="number of layers")


class Right(nn.Module):
    """Scales and shifts each feature, each row by itself; correct."""

    def __init__(self, config: Settings, *, shape: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__()
        (self.features,) = shape
        drawn = torch.randn(self.features, generator=generator)
        self.log_scale = nn.Parameter(0.3 * drawn)
        self.shift = nn.Parameter(torch.zeros(self.features))
        self.register_buffer("order", torch.randperm(self.features, generator=generator))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = x[:, self.order] * self.log_scale.exp() + self.shift
        return z, self.log_scale.sum().expand(len(x)).to(torch.promote_types(x.dtype, torch.float32))

    def inverse(self, z: Tensor) -> Tensor:
        return ((z - self.shift) / self.log_scale.exp())[:, self.order.argsort()]

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        self.shift.copy_(-x.mean(0))


Members = dict[str, Any]


def forward(change: Callable[[Any, Tensor, Tensor, Tensor], Any], before: Any = None) -> Members:
    """Return a forward that returns `change(flow, x, z, log_det)`, after `before(flow, x)` for the rows."""

    def call(self: Right, x: Tensor) -> Any:
        x = x if before is None else before(self, x)
        return change(self, x, *Right.forward(self, x))

    return {"forward": call}


def inverse(change: Callable[[Any, Tensor], Tensor], after: Any = lambda self, x: x) -> Members:
    """Return an inverse that changes its input with `change`, and its result with `after`."""
    return {"inverse": lambda self, z: after(self, Right.inverse(self, change(self, z)))}


def init(change: Callable[[Any, torch.Generator], Any]) -> Members:
    """Return an __init__ that calls `change(flow, generator)` at the end."""

    def call(self: Right, config: Settings, *, shape: tuple[int, ...], generator: torch.Generator) -> None:
        Right.__init__(self, config, shape=shape, generator=generator)
        change(self, generator)

    return {"__init__": call}


def buffer(name: str, make: Callable[[Any], Tensor]) -> Members:
    """Return an __init__ that registers a buffer."""
    return init(lambda self, generator: self.register_buffer(name, make(self)))


def remember_mean(self: Any, x: Tensor) -> Tensor:
    self.last = x.detach().mean().item()
    return x


def count_call(self: Any, x: Tensor) -> Tensor:
    self.calls += 1
    return x


def clamp_in_place(self: Any, x: Tensor) -> Tensor:
    return x if x.requires_grad else x.clamp_(-2, 2)


def seed_process(self: Any, z: Tensor) -> Tensor:
    torch.manual_seed(0)
    return z


def forward_without_shift(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    z = x[:, self.order] * self.log_scale.exp() + self.shift.detach()
    return z, Right.forward(self, x)[1]


def init_with_one_seed(self: Any, config: Settings, *, shape: tuple[int, ...], **kwargs: Any) -> None:
    Right.__init__(self, config, shape=shape, generator=torch.Generator().manual_seed(0))


def refuse_odd(self: Any, generator: torch.Generator) -> None:
    if self.features % 2:
        raise ValueError("the halves of an odd number")


def draw_places(self: Any, generator: torch.Generator) -> None:
    self.places = torch.randperm(self.features, generator=generator).tolist()


def share_memory(self: Any, generator: torch.Generator) -> None:
    both = torch.zeros(2, self.features)
    self.register_buffer("first", both[0])
    self.register_buffer("second", both[1])


def count_training(self: Any, mode: bool = True) -> Any:
    self.offset = getattr(self, "offset", 0.0) + (0.5 if mode else 0.0)
    return nn.Module.train(self, mode)


def explode(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    z = x[:, self.order] * self.log_scale.exp()
    return z.sinh() + self.shift, self.log_scale.sum() + z.cosh().log().sum(1)


@torch.no_grad()
def scale_by_std(self: Any, x: Tensor) -> None:
    self.log_scale.copy_(-x.std(0).log())


WRONG: dict[str, Members] = {
    "test_log_det_is_that_of_the_jacobian": forward(lambda self, x, z, log_det: (z, -log_det)),
    "test_shapes": forward(lambda self, x, z, log_det: (z, log_det.sum())),
    "test_round_trip": inverse(lambda self, z: z, lambda self, x: (x * 512).round() / 512),
    "test_round_trip_in_float64": forward(lambda self, x, z, log_det: (z.float().to(z.dtype), log_det)),
    "test_no_state_between_calls": {
        **forward(lambda self, x, z, log_det: (z + self.last, log_det), remember_mean),
        **inverse(lambda self, z: z - self.last),
    },
    "test_no_state_between_calls (buffer)": {
        **buffer("calls", lambda self: torch.zeros(())),
        **forward(lambda self, x, z, log_det: (z, log_det), count_call),
    },
    "test_no_state_between_calls (input)": forward(lambda self, x, z, log_det: (z, log_det), clamp_in_place),
    "test_rows_are_independent": forward(
        lambda self, x, z, log_det: (z - z.mean(0) if len(z) > 1 and self.training else z, log_det)
    ),
    "test_gradients_reach_every_parameter": {"forward": forward_without_shift},
    "test_gradients_reach_every_parameter (rows)": forward(
        lambda self, x, z, log_det: (z, log_det), lambda self, x: x.detach()
    ),
    "test_same_seed_same_weights": init(lambda self, generator: nn.init.normal_(self.shift)),
    "test_same_seed_same_weights (one for all)": {"__init__": init_with_one_seed},
    "test_global_random_numbers_are_left_alone": init(lambda self, generator: nn.init.normal_(self.shift)),
    "test_global_random_numbers_are_left_alone (inverse)": inverse(seed_process),
    "test_state_survives_safetensors": {
        **init(draw_places),
        **forward(lambda self, x, z, log_det: (z, log_det), lambda self, x: x[:, self.places]),
        **inverse(lambda self, z: z, lambda self, x: x[:, torch.tensor(self.places).argsort()]),
    },
    "test_state_survives_safetensors (expanded)": buffer(
        "wide", lambda self: torch.zeros(1).expand(self.features + 1)
    ),
    "test_state_owns_its_memory": init(share_memory),
    "test_state_owns_its_memory (strides)": buffer(
        "table", lambda self: torch.ones(self.features + 2, 3).t()
    ),
    "test_constants_are_buffers": init(
        lambda self, generator: setattr(self, "offset", [torch.zeros(self.features)])
    ),
    "test_moves_between_devices": forward(
        lambda self, x, z, log_det: (z + torch.zeros(self.features), log_det)
    ),
    "test_can_be_copied": init(lambda self, generator: setattr(self, "words", (word for word in "ab"))),
    "test_training_mode": {
        "train": count_training,
        **forward(lambda self, x, z, log_det: (z + getattr(self, "offset", 0.0), log_det)),
    },
    "test_no_rows": forward(lambda self, x, z, log_det: (z.reshape(-1, len(x) and self.features), log_det)),
    "test_one_row": forward(lambda self, x, z, log_det: (z.squeeze(0) if len(z) == 1 else z, log_det)),
    "test_builds_for_every_dimension": init(refuse_odd),
    "test_far_rows_stay_finite": {
        "forward": explode,
        "inverse": lambda self, z: ((z - self.shift).asinh() / self.log_scale.exp())[:, self.order.argsort()],
    },
    "test_precision": forward(
        lambda self, x, z, log_det: (z, log_det.bfloat16() if torch.is_autocast_enabled("cpu") else log_det)
    ),
    "test_start_from_data": {"initialise": scale_by_std},
    "test_survives_compiling": forward(
        lambda self, x, z, log_det: (z + 1 if torch.compiler.is_compiling() else z, log_det)
    ),
}
"""Check (and a word more) -> members of a flow that only breaks that part of the contract."""
SPEC = FlowSpec(config=Settings, build="wrong_flows:Right", summary="A correct flow")
