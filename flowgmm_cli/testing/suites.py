"""Which suite `flowgmm plugins test` carries out for a component."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from flowgmm_cli.api import FlowSpec
from flowgmm_cli.errors import PluginError
from flowgmm_cli.plugins.entry import Entry, load_target
from flowgmm_cli.testing.component import Conformance

_SUITES = {
    "flow": "flows:FlowConformance",
    "data": "data:DataConformance",
    "regulariser": "regularisers:RegulariserConformance",
    "encoder": "encoders:EncoderConformance",
    "score": "scores:ScoreConformance",
}


def suite_for(entry: Entry, config: Mapping[str, Any] | None = None) -> type[Conformance]:
    """The suite of a component: the one its spec names, else that of its kind.

    Args:
        entry: the component.
        config: parameters to check it with, instead of those of its suite.

    Raises:
        PluginError: its kind has no suite, or the spec's own cannot be loaded.
    """
    spec = entry.spec()
    if spec.conformance:
        base = load_target(spec.conformance, f"the conformance suite of {entry.kind} `{entry.name}`")
        if not (isinstance(base, type) and issubclass(base, Conformance)):
            raise PluginError(
                f"{spec.conformance}, the conformance suite of {entry.kind} `{entry.name}`, is no suite of "
                "flowgmm_cli.testing",
                hint="name a class that extends the suite of the kind, such as FlowConformance",
            )
    elif entry.kind in _SUITES:
        place = _SUITES[entry.kind]
        if isinstance(spec, FlowSpec) and "vector" not in spec.accepts:
            place = "images:ImageFlowConformance"
        module, _, name = place.partition(":")
        base = getattr(import_module(f"flowgmm_cli.testing.{module}"), name)
    else:
        raise PluginError(
            f"there is no conformance suite for a component of the kind {entry.kind}",
            hint=f"the kit has suites for {', '.join(_SUITES)}, and for recipes",
        )
    own: dict[str, Any] = {"name": entry.qualified, "spec": None, "__doc__": base.__doc__}
    if config:
        own["config"] = {**base.config, **config}
    suite: type[Conformance] = type(base)(base.__name__, (base,), own)
    return suite
