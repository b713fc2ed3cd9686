"""The folder of an exported model: the graph, the column encoders as plain values, and a check of both.

`model.json` comes last and completes the folder. It says how cells become the input of the graph; tables of
numbers are `.npy` files, and the tokenizer of a text encoder is a file of the package `tokenizers`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.data.array_types import Array, Floats
from flowgmm_cli.data.column_encoders import ColumnEncoder, VectorColumn
from flowgmm_cli.data.preprocessor import has_no_text
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.encoders.joint import JointEncoder
from flowgmm_cli.encoders.tfidf_svd import TfidfSvdEncoder
from flowgmm_cli.encoders.wordllama import WordLlamaEncoder
from flowgmm_cli.errors import DataError, PluginError, RunFailedError
from flowgmm_cli.export.graph import OUTPUTS, run_graph, write_graph
from flowgmm_cli.export.scores import Operation
from flowgmm_cli.files import write_json, write_text
from flowgmm_cli.flows.multiscale import FlatFlow
from flowgmm_cli.inference.inputs import input_schema
from flowgmm_cli.inference.scores import OODRule, probability_columns
from flowgmm_cli.trained_model import TrainedModel

SCHEMA = "flowgmm/onnx/1"
GRAPH, VALUES, TOKENIZER = "model.onnx", "model.json", "tokenizer.json"
TOLERANCE = 1e-5
"""Largest difference of a probability, beyond the rounding of log-densities to single precision."""


@dataclass
class Inputs:
    """The column encoders of a model as plain values, with the files that these need."""

    columns: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, Array] = field(default_factory=dict)  # name of an `.npy` file -> its array
    tokenizer: str | None = None  # of the package `tokenizers`, as JSON

    @classmethod
    def from_model(cls, trained: TrainedModel) -> Inputs:
        """Describe the column encoders of a model.

        Raises:
            PluginError: an encoder has no such form, or the model is one of pixels.
        """
        if trained.preprocessor.random or isinstance(trained.model.parts[0].flow, FlatFlow):
            raise PluginError(
                f"flow `{trained.recipe.flow.use}` of dequantised pixels or whole numbers cannot be exported",
                hint="train without `dequantise`, such as data.transforms=[{use: pca, dim: 64}] "
                "flow.use=realnvp",
            )
        inputs, schema = cls(), input_schema(trained)
        for encoder in trained.preprocessor.feature_encoder.encoders:
            column = encoder.column
            described: dict[str, Any] = {
                "name": column.name,
                "kind": column.kind,
                "shape": list(column.shape),
            }
            described["format"] = column.format
            described["parts"] = list(schema.text_parts or [column.name]) if column.kind == "text" else []
            inputs.columns.append(described | {"encoder": inputs._describe(encoder)})
        return inputs

    def _describe(self, encoder: ColumnEncoder) -> dict[str, Any]:
        if not isinstance(encoder, VectorColumn):
            values, arrays = encoder.state()
            return values | {name: array.tolist() for name, array in arrays.items()}
        texts = encoder.encoder
        if isinstance(texts, JointEncoder):
            parts = [self.describe_texts(part, encoder.column.name) for part in texts.parts]
            return {"parts": parts, "weights": list(texts.weights)}
        return {"parts": [self.describe_texts(texts, encoder.column.name)], "weights": None}

    def describe_texts(self, encoder: object, column: str) -> dict[str, Any]:
        """Return the values of an encoder of texts, and add its files. Raises `PluginError` for others."""
        if isinstance(encoder, WordLlamaEncoder):
            self.tokenizer = encoder.tokenizer.to_str()
            table = encoder.table.numpy().astype(np.float16)
            if encoder.dim >= self.arrays.get("wordllama", table).shape[1]:  # shorter vectors are its start
                self.arrays["wordllama"] = table
            return {"use": "wordllama", "dim": encoder.dim, "table": "wordllama"}
        if isinstance(encoder, TfidfSvdEncoder):
            values, arrays = encoder.state()
            names = {name: f"tfidf_{len(self.arrays)}_{name}" for name in arrays}
            self.arrays |= {names[name]: array for name, array in arrays.items()}
            return {"use": "tfidf_svd", "ngrams": encoder.config.ngrams, **values, **names}
        raise PluginError(
            f"column `{column}` cannot be exported: its encoder, {type(encoder).__name__}, has no form "
            "outside of flowgmm",
            hint="train with data.encoder.use=wordllama or tfidf_svd, or on vectors that you make yourself",
        )

    def write(self, folder: Path) -> None:
        """Write the files of the encoders."""
        for name, array in self.arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        if self.tokenizer is not None:
            write_text(folder / TOKENIZER, self.tokenizer)


@dataclass(frozen=True)
class Comparison:
    """The graph beside the model, on the same rows."""

    rows: int
    probability: float  # largest difference of a probability
    differing: int  # rows with another flag, or with a probability or density beyond rounding
    threshold: float  # above which the graph's scores flag a row


def write_folder(
    trained: TrainedModel,
    inputs: Inputs,
    rule: OODRule,
    operation: Operation,
    rows: Rows,
    context: DataContext,
    folder: Path,
) -> Comparison:
    """Write the files of an exported model into a folder, and compare its results on some rows.

    Raises:
        PluginError: a component cannot be part of a graph.
        RunFailedError: the results differ.
    """
    write_graph(trained, operation, folder / GRAPH)
    compared = compare(trained, rule, folder / GRAPH, rows, context)
    if compared.differing:
        raise RunFailedError(
            f"the exported model differs from the run in {compared.differing:,} of {compared.rows:,} rows, "
            f"in probabilities by up to {compared.probability:.2g}",
            hint="`flowgmm check` tests the numbers of the run itself; `flowgmm predict` serves it",
        )
    inputs.write(folder)
    write_json(folder / VALUES, describe_model(trained, inputs, rule, compared.threshold))
    return compared


def describe_model(trained: TrainedModel, inputs: Inputs, rule: OODRule, threshold: float) -> dict[str, Any]:
    """Return the values of `model.json`."""
    schema, unknown = input_schema(trained), trained.model.unknown > 0
    names = probability_columns(trained.class_names, unknown=unknown)
    return {
        "schema": SCHEMA,
        "name": trained.recipe.name,
        "class_names": list(trained.class_names),
        "probability_columns": names,
        "unknown": unknown,
        "score": rule.score,
        "threshold": threshold,
        "fpr": rule.fpr,
        "id": schema.id,
        "settings": vars(schema.settings),
        "columns": inputs.columns,
        "graph": GRAPH,
        "outputs": list(OUTPUTS),
        "made_with": {name: version(name) for name in ("flowgmm-cli", "torch", "onnx")},
    }


@torch.no_grad()
def compare(
    trained: TrainedModel, rule: OODRule, graph: Path, rows: Rows, context: DataContext
) -> Comparison:
    """Compare the outputs of a graph with those of the model it was made from.

    The threshold is often the score of a held-out row, which rounding must not flag. The graph's threshold is
    therefore higher by the rounding of the scores near it.
    """
    rows = rows.take(np.flatnonzero(~has_no_text(rows, trained.preprocessor.columns)))
    matrix, refused = trained.preprocessor.feature_encoder.transform_valid(rows, context)
    features = np.delete(np.asarray(matrix, np.float64), list(refused), axis=0)
    if not len(features):
        raise DataError("there is no row to check the exported model on", hint="name a file: --data FILE")
    x, log_det = trained.preprocessor.transform_features(torch.from_numpy(features))
    expected = trained.encode_rows(Tensors(x, log_det=log_det))
    p_unknown = expected.latents.p_unknown().double()[:, None]
    probabilities = torch.hstack([expected.log_posterior.exp() * (1 - p_unknown), p_unknown]).numpy()
    largest = expected.latents.class_log_prob.abs().amax(1).double()
    rounding = (2 * torch.finfo(torch.float32).eps * largest / float(trained.model.temperature)).numpy()
    scores = trained.require_detector()(expected, [rule.score])[rule.score]
    outputs = run_graph(graph, features)
    margin = rounding_near(rule.threshold, scores, outputs["ood_score"])
    threshold = rule.threshold + margin
    undecided = np.abs(scores - rule.threshold) <= 2 * margin
    flags = (outputs["ood_score"] > threshold) != (scores > rule.threshold)
    differences = np.abs(np.hstack([outputs["probabilities"], outputs["p_unknown"][:, None]]) - probabilities)
    log_density = expected.log_density.numpy()
    equal = (differences.max(1) <= TOLERANCE + rounding) & ~(flags & ~undecided)
    equal &= np.isclose(outputs["log_density"], log_density, rtol=1e-5, atol=1e-3)
    differing = ~equal & np.isfinite(log_density)  # the run has no result for the others
    return Comparison(len(features), float(differences.max()), int(differing.sum()), threshold)


def rounding_near(threshold: float, scores: Floats, others: Floats) -> float:
    """Return four times the usual rounding of scores near the threshold, which nine in ten do not exceed.

    A few scores round more, in a steep part of a blend's tail. They must not raise it, or rows would lose
    their flags.
    """
    differences = np.abs(scores - others)
    near = np.argsort(np.abs(scores - threshold))[: max(1, len(scores) // 4)]
    at_threshold = differences[scores == threshold].max(initial=0)
    return max(4 * float(np.quantile(differences[near], 0.9)), 2 * float(at_threshold))
