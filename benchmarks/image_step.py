"""One training step of `realnvp_image` beside the same couplings in the layout of the paper's own code.

    python benchmarks/image_step.py                       MNIST's size, batches of 64
    python benchmarks/image_step.py --size 32 --channels 3 --batch 32
    python benchmarks/image_step.py --json results.json   save the results

Both have the same numbers of scales, couplings, hidden channels and residual blocks, the same batch and the
same optimiser; only the layout differs. The other layout is a plain port of izmailovpavel/flowgmm, written
for this benchmark. Its checkerboard couplings run a network on the whole image with one colour masked, and
mask half of the output. Its convolutions are weight-normalised, with batch norm before each, and every block
has a 1 by 1 convolution to the output. Each class is a Gaussian with a dense covariance, factorised in every
step. (The port factorises it once per step, the original about four times. The port keeps the number of
hidden channels, the original doubles them after the squeeze.)

Steps (forward, backward, optimiser) of both alternate in one process, so that other programs slow both
alike. A ratio compares two neighbouring steps, and the table has the median of the ratios."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal
from torch.nn.utils.parametrizations import weight_norm

from flowgmm_cli.flows.realnvp_image import RealNVPImage
from flowgmm_cli.flows.specs import RealNVPImageConfig
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture

SCHEMA = "flowgmm/benchmark/image_step/1"


@dataclass(frozen=True)
class Setting:
    """Sizes of the models and of the measurement.

    Attributes:
        size: height and width of the images, divisible by 4.
        channels: channels of the images.
        batch: images in a step.
        hidden: channels of the networks.
        blocks: residual blocks of a network.
        couplings: of each kind in each of the two scales; the last has one checkerboard coupling more.
        classes: K.
        rounds: measured steps of each, after two for warm-up.
    """

    size: int = 28
    channels: int = 1
    batch: int = 64
    hidden: int = 64
    blocks: int = 2
    couplings: int = 3
    classes: int = 10
    rounds: int = 7


@dataclass(frozen=True)
class StepResult:
    """One layout in one precision.

    Attributes:
        what: the layout.
        precision: precision of the networks, `fp32` or `bf16` (autocast).
        seconds: median time of a step.
        images_per_second: batch over `seconds`.
        parameters: number of weights.
        ratio: median time of a step over that of `realnvp_image` in the same precision beside it.
    """

    what: str
    precision: str
    seconds: float
    images_per_second: float
    parameters: int
    ratio: float


class OtherBlock(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for bias in (False, True):
            layers += [nn.BatchNorm2d(hidden), nn.ReLU()]
            layers.append(weight_norm(nn.Conv2d(hidden, hidden, 3, padding=1, bias=bias)))
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


class OtherNet(nn.Module):
    def __init__(self, inputs: int, outputs: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.stem = weight_norm(nn.Conv2d(2 * inputs, hidden, 3, padding=1))
        self.blocks = nn.ModuleList(OtherBlock(hidden) for _ in range(blocks))
        self.taps = nn.ModuleList(weight_norm(nn.Conv2d(hidden, hidden, 1)) for _ in range(blocks + 1))
        self.last = nn.Sequential(
            nn.BatchNorm2d(hidden), nn.ReLU(), weight_norm(nn.Conv2d(hidden, outputs, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        x = self.stem(torch.relu(torch.cat([x, -x], dim=1)))
        total = self.taps[0](x)
        for block, tap in zip(self.blocks, self.taps[1:], strict=True):
            x = block(x)
            total = total + tap(x)
        return self.last(total)


class OtherCoupling(nn.Module):
    """One masked coupling; it masks a checkerboard or halves of the channels."""

    def __init__(self, channels: int, setting: Setting, *, checkerboard: bool, flip: bool) -> None:
        super().__init__()
        self.checkerboard, self.flip = checkerboard, flip
        inputs = channels if checkerboard else channels // 2
        self.net = OtherNet(inputs, 2 * inputs, setting.hidden, setting.blocks)
        self.rescale = nn.Parameter(torch.ones(inputs, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.checkerboard:
            places = torch.arange(x.shape[2])[:, None] + torch.arange(x.shape[3])
            mask = ((places + self.flip) % 2).to(x)
            s, t = self._scale_and_shift(x * mask)
            s, t = s * (1 - mask), t * (1 - mask)
            return (x + t) * s.exp(), s.flatten(1).sum(1)
        kept, changed = x.chunk(2, dim=1)[:: -1 if self.flip else 1]
        s, t = self._scale_and_shift(kept)
        both = [kept, (changed + t) * s.exp()]
        return torch.cat(both[:: -1 if self.flip else 1], dim=1), s.flatten(1).sum(1)

    def _scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self.net(x).float().chunk(2, dim=1)
        return self.rescale * torch.tanh(s), t


class OtherLayout(nn.Module):
    """Two scales and dense Gaussians; `forward` returns `log p(x)`."""

    def __init__(self, setting: Setting, means: Tensor) -> None:
        super().__init__()
        channels, count = setting.channels, setting.couplings
        self.first = self._couplings(channels, count, setting, checkerboard=True)
        self.second = self._couplings(4 * channels, count, setting, checkerboard=False)
        self.third = self._couplings(2 * channels, count + 1, setting, checkerboard=True)
        self.register_buffer("means", means)
        self.register_buffer("covariances", torch.eye(means.shape[1]).repeat(len(means), 1, 1))

    @staticmethod
    def _couplings(channels: int, count: int, setting: Setting, *, checkerboard: bool) -> nn.ModuleList:
        return nn.ModuleList(
            OtherCoupling(channels, setting, checkerboard=checkerboard, flip=bool(index % 2))
            for index in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = 0.05 + 0.9 * x
        z = y.log() - (1 - y).log()
        total = (nn.functional.softplus(z) + nn.functional.softplus(-z) + math.log(0.9)).flatten(1).sum(1)
        for coupling in self.first:
            z, log_det = coupling(z)
            total = total + log_det
        z = nn.functional.pixel_unshuffle(z, 2)
        for coupling in self.second:
            z, log_det = coupling(z)
            total = total + log_det
        z, left = z.chunk(2, dim=1)
        for coupling in self.third:
            z, log_det = coupling(z)
            total = total + log_det
        z = torch.cat([left.flatten(1), z.flatten(1)], dim=1)
        with torch.autocast(z.device.type, enabled=False):
            dense = MultivariateNormal(self.means, self.covariances, validate_args=False)
            return dense.log_prob(z[:, None]).logsumexp(1) - math.log(len(self.means)) + total


class Layout(nn.Module):
    """The flow and mixture of a run; `forward` returns `log p(x)`."""

    def __init__(self, setting: Setting, means: Tensor) -> None:
        super().__init__()
        config = RealNVPImageConfig(
            checkerboard=setting.couplings,
            channel=setting.couplings,
            hidden=setting.hidden,
            blocks=setting.blocks,
        )
        shape = (setting.channels, setting.size, setting.size)
        flow = RealNVPImage(config, shape=shape, generator=torch.Generator().manual_seed(0))
        self.model = FlowMixture(flow, GaussianMixture(means))

    def forward(self, x: Tensor) -> Tensor:
        return self.model.log_prob(x)


def create_step(model: nn.Module, x: Tensor, precision: str) -> Callable[[], float]:
    """Create a function that takes one step and returns its seconds."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = -model(x).mean() / x[0].numel()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return time.perf_counter() - start

    return step


def measure(setting: Setting, precisions: list[str]) -> list[StepResult]:
    """Time both layouts in each precision, in alternation."""
    generator = torch.Generator().manual_seed(0)
    features = setting.channels * setting.size**2
    means = torch.randn(setting.classes, features, generator=generator)
    x = torch.rand(setting.batch, setting.channels, setting.size, setting.size, generator=generator)
    results = []
    for precision in precisions:
        torch.manual_seed(0)  # of the port's layers
        models = {"other layout": OtherLayout(setting, means), "realnvp_image": Layout(setting, means)}
        steps = {name: create_step(model, x, precision) for name, model in models.items()}
        for _ in range(2):
            for step in steps.values():
                step()
        times = {name: [0.0] * setting.rounds for name in steps}
        for index in range(setting.rounds):
            for name, step in steps.items():
                times[name][index] = step()
        for name, model in models.items():
            seconds = statistics.median(times[name])
            pairs = zip(times[name], times["realnvp_image"], strict=True)
            results.append(
                StepResult(
                    name,
                    precision,
                    seconds,
                    setting.batch / seconds,
                    sum(parameter.numel() for parameter in model.parameters()),
                    statistics.median(own / reference for own, reference in pairs),
                )
            )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, value in asdict(Setting()).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--precisions", default="fp32,bf16", help="comma-separated")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="file for the results")
    options = vars(parser.parse_args())
    path, precisions, threads = (options.pop(name) for name in ("json", "precisions", "threads"))
    torch.set_num_threads(threads)
    setting = Setting(**options)
    results = measure(setting, precisions.split(","))
    size = f"{setting.channels}x{setting.size}x{setting.size}"
    print(f"images of {size}, batches of {setting.batch}, {threads} threads, torch {torch.__version__}")
    print(f"{'':14} {'':5} {'step':>9} {'images/s':>9} {'weights':>10} {'of realnvp_image':>17}")
    for result in results:
        figures = f"{1000 * result.seconds:>6.0f} ms {result.images_per_second:>9,.0f}"
        figures += f" {result.parameters:>10,} {result.ratio:>16.2f}x"
        print(f"{result.what:14} {result.precision:5} {figures}")
    if path:
        value = {
            "schema": SCHEMA,
            "setting": asdict(setting),
            "threads": threads,
            "torch": torch.__version__,
            "measured": [asdict(result) for result in results],
        }
        path.write_text(json.dumps(value, indent=2))


if __name__ == "__main__":
    main()
