"""`benchmarks/image_step.py`: both layouts are flows of the same size; times are not checked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def image_step(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import image_step

    yield image_step
    sys.modules.pop("image_step")


def test_it_prints_a_table_and_saves_its_results(
    image_step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"size": 4, "batch": 3, "hidden": 4, "blocks": 1, "couplings": 1, "classes": 2, "rounds": 1}
    words = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["image_step.py", *words, "--json", str(tmp_path / "f.json")])
    image_step.main()
    assert "realnvp_image" in capsys.readouterr().out
    value = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert value["setting"]["hidden"] == 4
    assert [(result["what"], result["precision"]) for result in value["measured"]] == [
        ("other layout", "fp32"),
        ("realnvp_image", "fp32"),
        ("other layout", "bf16"),
        ("realnvp_image", "bf16"),
    ]
    assert all(result["images_per_second"] > 0 for result in value["measured"])
    assert value["measured"][1]["ratio"] == 1.0


def test_the_other_layout_is_a_flow_with_the_same_number_of_couplings(image_step: Any) -> None:
    """Its log-density has the log-determinant of autograd, and neither layout has fewer couplings."""
    setting = image_step.Setting(size=4, hidden=4, blocks=1, couplings=2, classes=2)
    torch.manual_seed(0)
    means = torch.randn(2, 16)
    other = image_step.OtherLayout(setting, means).double().eval()
    x = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    latents: list[torch.Tensor] = []

    class ScoreInputs:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def log_prob(self, z: torch.Tensor) -> torch.Tensor:
            latents.append(z)
            return torch.zeros(len(z), 2, dtype=z.dtype)

    image_step.MultivariateNormal = ScoreInputs
    log_det = other(x)  # with densities of 1: the two classes' sum over 2 is 1
    latent = torch.autograd.functional.jacobian(lambda v: (other(v), latents[-1])[1], x)
    want = torch.linalg.slogdet(latent.reshape(16, 16)).logabsdet
    torch.testing.assert_close(log_det[0], want, rtol=1e-5, atol=1e-4)  # s and t are float32
    couplings = [layer for layer in other.modules() if isinstance(layer, image_step.OtherCoupling)]
    layout = image_step.Layout(setting, means)
    names = [type(layer).__name__ for layer in layout.modules()]
    assert len(couplings) == names.count("ImageCoupling") == 7
