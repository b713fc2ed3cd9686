"""Models of strangers, of copies that went wrong, and of a disk that lies."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flowgmm_cli.errors import RunError
from flowgmm_cli.files import file_digest, read_tensors, write_tensors
from flowgmm_cli.runs import Run
from flowgmm_cli.trained_model import TrainedModel


@pytest.fixture
def folder(copy_run: Callable[..., Run]) -> Path:
    """A copy of a finished run."""
    return copy_run("data.transforms=[{use: standardise}]").path


def change(folder: Path, *keys: object, value: object) -> None:
    """Set a value of `model.json`."""
    file = folder / "model.json"
    values = place = json.loads(file.read_text())
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    file.write_text(json.dumps(values))


def change_weights(folder: Path, edit: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> None:
    """Write other weights, with the digest of the new file."""
    file = folder / "model.safetensors"
    tensors, metadata = read_tensors(file, "model")
    change(folder, "weights", value={"sha256": write_tensors(file, edit(tensors), metadata)})


def test_weights_are_those_that_the_description_was_written_with(folder: Path, train_run: Any) -> None:
    weights = json.loads((folder / "model.json").read_text())["weights"]
    assert weights == {"sha256": file_digest(folder / "model.safetensors")}
    other, _ = train_run("other", "run.seed=1", "data.transforms=[{use: standardise}]")
    shutil.copy(other.path / "model.safetensors", folder)
    with pytest.raises(RunError, match="not the file that model"):
        TrainedModel.load(folder)
    change(folder, "weights", value=None)  # as in earlier versions
    TrainedModel.load(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "checkpoints/last.safetensors"])
@pytest.mark.parametrize("place", [-1, -400, 60])
def test_a_changed_byte_is_noticed_in_any_tensor_file(folder: Path, file: str, place: int) -> None:
    content = bytearray((folder / file).read_bytes())
    content[place] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(RunError, match="not a readable safetensors file"):
        read_tensors(folder / file, "thing")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["model.flow.", "model.mixture.", "model.temperature", "source."])
def test_weights_that_are_not_finite_are_named(folder: Path, name: str, number: float) -> None:
    def spoil(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        spoilt = next(key for key, tensor in tensors.items() if key.startswith(name) and tensor.numel())
        tensors[spoilt].view(-1)[0] = number
        return tensors

    change_weights(folder, spoil)
    with pytest.raises(RunError, match=f"{name}.* NaN or infinite"):
        TrainedModel.load(folder)


@pytest.mark.parametrize(
    ("prefix", "dtype"),
    [
        *itertools.product(["model.", "preprocessor.", "source."], [torch.float16, torch.int64, torch.bool]),
        *itertools.product(["model.", "preprocessor.", "scores."], [torch.bfloat16, torch.complex64]),
        ("model.", torch.float8_e5m2),
    ],
)
def test_tensors_of_other_types_are_a_run_error(folder: Path, prefix: str, dtype: torch.dtype) -> None:
    change_weights(
        folder,
        lambda tensors: {
            name: tensor.to(dtype) if name.startswith(prefix) else tensor for name, tensor in tensors.items()
        },
    )
    with pytest.raises(RunError, match="damaged"):
        TrainedModel.load(folder)


@pytest.mark.parametrize(
    ("keys", "value", "size"),
    [
        (["recipe", "flow", "hidden"], 10**9, "layers"),
        (["members"], [{"candidate": None, "changes": {}}] * 10_000, "10,000 members"),
        (["members"], [{"candidate": None, "changes": {"flow.hidden": 10**9}}], "layers"),
        (["features"], 10**12, "rows of 1,000,000,000,000 numbers"),
        (["preprocessor", "widths"], [10**12], "rows of 1,000,000,000,000 numbers"),
        (["preprocessor", "featuriser", "blocks", 0, "column", "shape"], [10**6, 10**6], "rows of"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_sizes_beyond_the_weights_take_no_memory(folder: Path, keys: Any, value: Any, size: str) -> None:
    change(folder, *keys, value=value)
    with pytest.raises(RunError, match=f"describes {size}.* has weights for"):
        TrainedModel.load(folder)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["class_names"], [1, 2]),
        (["class_names"], ["a", "a"]),
        (["class_names"], "ab"),
        (["components"], ["realnvp"]),
        (["facts"], 3),
        (["facts", "calibration", "nll"], "abc"),
        (["facts", "training_rows", "numbers", "x1", "range"], [1]),
        (["facts", "ood", "held_out_rows"], None),
        (["facts", "calibration", "nll"], "0.5"),
        (["facts", "training_rows", "numbers", "x[0]"], {"range": [0.0, 1.0], "missing": 0.0}),
        (
            ["facts", "training_rows", "words", "x"],
            {"known": "AAAA", "low": 0.1, "median": 0.5, "usual": 0.05},
        ),
        (["members"], [3]),
        (["weights"], "abc"),
        (["preprocessor", "widths"], ["2"]),
        (["preprocessor", "featuriser", "blocks", 0, "column", "name"], 7),
    ],
)
def test_values_of_other_types_are_named(folder: Path, keys: Any, value: Any) -> None:
    change(folder, *keys, value=value)
    with pytest.raises(RunError, match="damaged") as caught:
        TrainedModel.load(folder)
    assert any(line.startswith(".".join(map(str, keys))) for line in caught.value.details)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["detector", "default"], None),
        (["detector", "default"], "missing"),
        (["preprocessor", "widths"], [3]),
        (["preprocessor", "featuriser", "blocks", 0, "values", "marked"], -1),
    ],
)
def test_values_that_do_not_fit_together_are_a_run_error(folder: Path, keys: Any, value: Any) -> None:
    change(folder, *keys, value=value)
    with pytest.raises(RunError, match="damaged"):
        TrainedModel.load(folder)
