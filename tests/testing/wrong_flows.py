"""A small correct flow, and versions of it that are each wrong in one way."""

from __future__ import annotations

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


class LogDetOfWrongSign(Right):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z, -log_det


class LogDetSummedOverRows(Right):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z, log_det.sum()


class LossyInverse(Right):
    def inverse(self, z: Tensor) -> Tensor:
        return (super().inverse(z) * 512).round() / 512


class Float32Inside(Right):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z.float().to(z.dtype), log_det


class InverseFromLastForward(Right):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.last = len(x), x.detach().mean().item()
        z, log_det = super().forward(x)
        return z + self.last[1], log_det

    def inverse(self, z: Tensor) -> Tensor:
        return super().inverse(z - self.last[1])


class CountsItsCalls(Right):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return super().forward(x)


class ChangesItsInput(Right):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not x.requires_grad:
            x.clamp_(-2, 2)
        return super().forward(x)


class BatchStatistics(Right):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return (z - z.mean(0) if len(z) > 1 and self.training else z), log_det


class FrozenParameter(Right):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = x[:, self.order] * self.log_scale.exp() + self.shift.detach()
        return z, self.log_scale.sum().expand(len(x)).to(torch.promote_types(x.dtype, torch.float32))


class FrozenRows(Right):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x.detach())


class GlobalRandomWeights(Right):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        nn.init.normal_(self.shift)


class SameWeightsForEverySeed(Right):
    def __init__(self, config: Settings, *, shape: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__(config, shape=shape, generator=torch.Generator().manual_seed(0))


class SeedsTheProcess(Right):
    def inverse(self, z: Tensor) -> Tensor:
        torch.manual_seed(0)
        return super().inverse(z)


class StateOutsideOfTheStateDict(Right):
    def __init__(self, config: Settings, *, shape: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__(config, shape=shape, generator=generator)
        self.places = torch.randperm(self.features, generator=generator).tolist()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x[:, self.places])

    def inverse(self, z: Tensor) -> Tensor:
        back = sorted(range(self.features), key=self.places.__getitem__)
        return super().inverse(z)[:, back]


class SharedMemory(Right):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        both = torch.zeros(2, self.features)
        self.register_buffer("first", both[0])
        self.register_buffer("second", both[1])


class NotContiguous(Right):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("table", torch.ones(self.features + 2, 3).t())


class ExpandedBuffer(Right):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("wide", torch.zeros(1).expand(self.features + 1))


class ConstantThatStays(Right):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offset = [torch.zeros(self.features)]


class CpuInForward(Right):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z + torch.zeros(self.features), log_det


class CannotBeCopied(Right):
    def __init__(self, config: Settings, *, shape: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__(config, shape=shape, generator=generator)
        self.words = (word for word in "ab")


class LeavesItsTraces(Right):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offset = 0.0

    def train(self, mode: bool = True) -> Right:
        self.offset = getattr(self, "offset", 0.0) + (0.5 if mode else 0.0)
        return super().train(mode)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z + self.offset, log_det


class MeanOverNothing(Right):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z.reshape(-1, len(x) and self.features), log_det


class Squeezes(Right):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return (z.squeeze(0) if len(z) == 1 else z), log_det


class EvenOnly(Right):
    def __init__(self, config: Settings, *, shape: tuple[int, ...], generator: torch.Generator) -> None:
        if shape[0] % 2:
            raise ValueError("the halves of an odd number")
        super().__init__(config, shape=shape, generator=generator)


class Explodes(Right):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = x[:, self.order] * self.log_scale.exp()
        return z.sinh() + self.shift, self.log_scale.sum() + z.cosh().log().sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        return ((z - self.shift).asinh() / self.log_scale.exp())[:, self.order.argsort()]


class LogDetInBfloat16(Right):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z, log_det.bfloat16() if torch.is_autocast_enabled("cpu") else log_det


class CannotBeCompiled(Right):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return (z + 1 if torch.compiler.is_compiling() else z), log_det


class BadStart(Right):
    def initialise(self, x: Tensor) -> None:
        with torch.no_grad():
            self.log_scale.copy_(-x.std(0).log())


WRONG: dict[str, type[Right]] = {
    "test_log_det_is_that_of_the_jacobian": LogDetOfWrongSign,
    "test_shapes": LogDetSummedOverRows,
    "test_round_trip": LossyInverse,
    "test_round_trip_in_float64": Float32Inside,
    "test_no_state_between_calls": InverseFromLastForward,
    "test_no_state_between_calls (buffer)": CountsItsCalls,
    "test_no_state_between_calls (input)": ChangesItsInput,
    "test_rows_are_independent": BatchStatistics,
    "test_gradients_reach_every_parameter": FrozenParameter,
    "test_gradients_reach_every_parameter (rows)": FrozenRows,
    "test_same_seed_same_weights": GlobalRandomWeights,
    "test_same_seed_same_weights (one for all)": SameWeightsForEverySeed,
    "test_global_random_numbers_are_left_alone": GlobalRandomWeights,
    "test_global_random_numbers_are_left_alone (inverse)": SeedsTheProcess,
    "test_state_survives_safetensors": StateOutsideOfTheStateDict,
    "test_state_survives_safetensors (expanded)": ExpandedBuffer,
    "test_state_owns_its_memory": SharedMemory,
    "test_state_owns_its_memory (strides)": NotContiguous,
    "test_constants_are_buffers": ConstantThatStays,
    "test_moves_between_devices": CpuInForward,
    "test_can_be_copied": CannotBeCopied,
    "test_training_mode": LeavesItsTraces,
    "test_no_rows": MeanOverNothing,
    "test_one_row": Squeezes,
    "test_builds_for_every_dimension": EvenOnly,
    "test_far_rows_stay_finite": Explodes,
    "test_precision": LogDetInBfloat16,
    "test_start_from_data": BadStart,
    "test_survives_compiling": CannotBeCompiled,
}
"""Check (and a word to tell two of them apart) -> a flow that only breaks that part of the contract."""


def spec(flow: type[Right]) -> FlowSpec:
    """The spec of one of them."""
    return FlowSpec(config=Settings, build=f"wrong_flows:{flow.__name__}", summary=flow.__name__)
