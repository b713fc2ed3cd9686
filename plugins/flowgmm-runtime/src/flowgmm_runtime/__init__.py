"""Predictions of models that `flowgmm export` has written, with numpy and onnxruntime alone.

from flowgmm_runtime import load

model = load("model")
model.predict([{"length": 5.1, "colour": "red"}])
"""

from flowgmm_runtime.cells import InputError
from flowgmm_runtime.model import FolderError, Model, load

__all__ = ["FolderError", "InputError", "Model", "load"]
