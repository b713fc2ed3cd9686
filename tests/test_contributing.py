"""The walkthrough of CONTRIBUTING works."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from flowgmm_cli import api
from flowgmm_cli.flows import specs

TEXT = (Path(__file__).resolve().parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def walkthrough(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Names that the code of the section defines: the spec, the flow, `build`."""
    section = TEXT[TEXT.index("## Add a flow") : TEXT.index("## Add something else")]
    blocks = [
        textwrap.dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```$", section, re.M | re.S)
    ]
    parameters, module, _line = blocks
    names: dict[str, Any] = dict(vars(api))
    exec(parameters, names)
    monkeypatch.setattr(specs, "PlanewiseConfig", names["PlanewiseConfig"], raising=False)
    namespace: dict[str, Any] = {"__name__": "flowgmm_cli.flows.planewise", "PLANEWISE": names["PLANEWISE"]}
    exec(compile(module, "CONTRIBUTING.md", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("features", [1, 2, 5])
def test_the_flow_of_the_walkthrough_is_a_bijection(walkthrough: dict[str, Any], features: int) -> None:
    spec = walkthrough["PLANEWISE"]
    assert spec.build == "flowgmm_cli.flows.planewise:build"
    flow = walkthrough["build"](spec.config(angle=0.7), shape=(features,), generator=torch.Generator())
    x = torch.randn(4, features, generator=torch.Generator().manual_seed(0))
    z, log_det = flow(x)
    torch.testing.assert_close(flow.inverse(z), x)
    for row, value in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], row)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, value, rtol=0, atol=1e-6)
