"""A trained model as an ONNX graph: the feature matrix to probabilities, densities, scores and latents."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.data.array_types import Array, Floats
from flowgmm_cli.errors import PluginError
from flowgmm_cli.export.scores import Operation
from flowgmm_cli.messages import first_line
from flowgmm_cli.plugins.registry import provenance
from flowgmm_cli.trained_model import TrainedModel

OUTPUTS = ("probabilities", "p_unknown", "log_density", "ood_score", "latents")
"""Names of the outputs of the graph."""
INPUT = "features"
"""Name of the input, float64 `(N, F)`."""
EXTRA = "flowgmm-cli[onnx]"
_OPSET = 20
_MAX_INSIDE = 2**30  # bytes of parameters; protobuf limits a file to 2 GiB


class Graph(nn.Module):
    """The steps from a feature matrix to the outputs, as a module that can be traced.

    Args:
        trained: the model.
        score: the out-of-distribution score.
    """

    def __init__(self, trained: TrainedModel, score: Operation) -> None:
        super().__init__()
        self.transforms = trained.preprocessor.transforms
        self.model = trained.model
        self._score = score

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the names `OUTPUTS`, each with a row for each row of features `(N, F)`."""
        x, log_det = self.transforms(features)
        x = x.float()
        latents = self.model(x)
        log_density = latents.log_prob().double() + log_det
        log_posterior = self.model.calibrate(latents.class_log_prob)
        p_unknown = latents.p_unknown().double()
        score = self._score(ScoreInputs(x, latents, log_posterior, log_density))
        return log_posterior.exp() * (1 - p_unknown[:, None]), p_unknown, log_density, score, latents.z


def require_onnx() -> None:
    """Raise `PluginError` if a package is missing that the export needs."""
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise PluginError(
            f"the export needs the package {error.name}", hint=f"pip install '{EXTRA}'"
        ) from error


def write_graph(trained: TrainedModel, score: Operation, path: Path) -> None:
    """Write the graph as an ONNX file.

    Raises:
        PluginError: a plugin's flow computes in a way that a graph cannot hold.
    """
    graph = Graph(trained, score).eval()
    example = torch.zeros(2, len(trained.preprocessor.feature_names), dtype=torch.float64)
    size = sum(value.nbytes for value in graph.state_dict().values())
    try:
        with torch.no_grad(), _silence():
            program = torch.export.export(
                graph, (example,), dynamic_shapes=({0: torch.export.Dim("rows")},), strict=False
            )
            steps = {torch.ops.aten.searchsorted.Tensor: search, torch.ops.aten.log1p.default: log1p}
            program = program.run_decompositions(steps)
            exported: Any = torch.onnx.export(
                program,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
            exported.save(path, external_data=size > _MAX_INSIDE)
    except Exception as error:
        origin = provenance(trained.recipe.flow)
        if origin["package"] == "flowgmm-cli":
            raise
        raise PluginError(
            f"flow `{trained.recipe.flow.use}` of {origin['package']} cannot be exported: it computes in a "
            "way that an ONNX graph cannot hold, such as the steps of a solver",
            details=[first_line(error)],
            hint="train with another flow, such as flow.use=realnvp; `flowgmm predict` serves this run",
        ) from error


def run_graph(path: Path, features: Array, *, batch: int = 1024) -> dict[str, Floats]:
    """Compute the outputs of a graph by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    starts = range(0, len(features), batch)
    parts = [
        session.run(None, {INPUT: features[start : start + batch].astype(np.float64)}) for start in starts
    ]
    return {name: np.concatenate(values) for name, *values in zip(OUTPUTS, *parts, strict=True)}


def search(
    knots: Tensor,
    values: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Compute `torch.searchsorted` of rising knots `(D, K)` and values `(D, N)` by plain steps.

    ONNX has no operation for it.
    """
    is_before = torch.le if right or side == "right" else torch.lt
    knots = knots if sorter is None else knots.gather(1, sorter)
    if len(knots) == 1:  # a large intermediate result, but a small graph
        return is_before(knots[:, None], values[..., None]).sum(2)
    steps = knots.shape[1].bit_length()
    padding = knots.new_full((len(knots), 2**steps - 1 - knots.shape[1]), torch.inf)
    padded = torch.cat([knots, padding], dim=1)
    position = torch.zeros_like(values, dtype=torch.int64)
    for step in (2**power for power in reversed(range(steps))):
        position = position + step * is_before(padded.gather(1, position + step - 1), values)
    return position.clamp(max=knots.shape[1])


def log1p(x: Tensor) -> Tensor:
    """Compute log(1 + x) with all digits, also of tiny numbers; ONNX has no operation for it."""
    total = 1 + x
    return torch.where((total == 1) | total.isinf(), x, total.log() * (x / (total - 1)))


@contextmanager
def _silence() -> Iterator[None]:
    """Hide the warnings, log lines and printed graphs of the exporter, which are for its developers."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
