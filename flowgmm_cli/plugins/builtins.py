"""Where the built-in components' specs live: kind -> module and attribute, imported on first use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from flowgmm_cli.api import Spec

TABLES = {
    "flow": ("flowgmm_cli.flows.specs", "SPECS"),
    "prior": ("flowgmm_cli.mixture.specs", "SPECS"),
    "objective": ("flowgmm_cli.objectives.specs", "SPECS"),
    "regulariser": ("flowgmm_cli.regularisers.specs", "SPECS"),
    "view": ("flowgmm_cli.views.specs", "SPECS"),
    "data": ("flowgmm_cli.data.specs", "SPECS"),
    "transform": ("flowgmm_cli.data.specs", "TRANSFORMS"),
    "score": ("flowgmm_cli.scores.specs", "SPECS"),
    "encoder": ("flowgmm_cli.encoders.specs", "SPECS"),
}


class Builtins(Mapping[str, Mapping[str, Spec]]):
    """Kind -> name -> spec; a kind's module is imported when the kind is asked for."""

    def __getitem__(self, kind: str) -> Mapping[str, Spec]:
        module, attribute = TABLES[kind]
        table: Mapping[str, Spec] = getattr(import_module(module), attribute)
        return table

    def __iter__(self) -> Iterator[str]:
        return iter(TABLES)

    def __len__(self) -> int:
        return len(TABLES)
