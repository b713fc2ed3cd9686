"""Import torchvision and timm, also where torchvision was built for another torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from flowgmm_cli.api import PluginError

_HINT = (
    "install the two from one place, for instance both for the CPU: "
    "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu"
)
_REGISTRATIONS = ("_meta_registrations", "_autograd_registrations")


def import_library(name: str, note: Callable[[str], None]) -> ModuleType:
    """Import `torchvision` or `timm`, which imports torchvision.

    Raises:
        PluginError: it is not installed or does not work with this torch.
    """
    try:
        _import_torchvision(note)
        return import_module(name)
    except (ImportError, RuntimeError, OSError) as error:
        raise PluginError(f"{name} cannot be imported: {error}", hint=_HINT) from error


def _import_torchvision(note: Callable[[str], None]) -> None:
    """Import torchvision; without its compiled operators, if they do not fit this torch.

    The torchvision of PyPI is built for CUDA, and its operators do not load beside a torch for the CPU. The
    import then fails where torchvision registers facts about these operators, for detection all of them. No
    model of this package uses one, so the import goes on without the registrations.
    """
    if "torchvision" in sys.modules:
        return
    try:
        import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in [module for module in sys.modules if module.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in _REGISTRATIONS:
            sys.modules[f"torchvision.{name}"] = ModuleType(f"torchvision.{name}")
        import_module("torchvision")
        note("torchvision was built for another torch: its operators for detection are missing")
