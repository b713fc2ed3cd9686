from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.training.prepare import PreparedData, prepare

RECIPE = """\
version: 1
data:
  use: csv
  path: {path}
  text: text
  label: label
  encoder: {{use: tfidf_svd, dim: 4, min_df: 1}}
  views:
    strong: [{{use: drop_words, rate: 0.4, copies: 3}}, {{use: noise, scale: 0.1}}]
flow: {{use: realnvp, couplings: 2, hidden: 8, depth: 1}}
train: {{epochs: 3, batch_size: 30, lr: 1e-2, precision: fp32}}
calibration: {{method: none}}
run: {{device: cpu}}
"""
WORDS = [["ball", "goal", "team", "match", "win"], ["vote", "law", "party", "court", "poll"]]


@pytest.fixture
def texts(tmp_path: Path) -> Any:
    """A recipe for texts of two classes, one text empty: `texts("run.seed=2")`."""
    generator = torch.Generator().manual_seed(0)
    lines = ["text,label"]
    for row in range(100):
        chosen = [WORDS[row % 2][int(torch.randint(5, (), generator=generator))] for _ in range(8)]
        lines.append(f"{' '.join(chosen) if row != 50 else ''},{'ab'[row % 2] if row < 40 else ''}")
    (tmp_path / "texts.csv").write_text("\n".join(lines))
    file = tmp_path / "texts.yaml"
    file.write_text(RECIPE.format(path=tmp_path / "texts.csv"))
    return lambda *words: load_recipe(str(file), [f"run.dir={tmp_path / 'runs'}", *words])


@pytest.fixture
def context(tmp_path: Path) -> DataContext:
    return DataContext(cache_dir=str(tmp_path / "cache"))


def copies(data: PreparedData, name: str = "strong") -> torch.Tensor:
    return data.train.copies[name].all()


def test_every_text_has_changed_copies_and_the_texts_themselves_stay(
    texts: Any, context: DataContext
) -> None:
    data, plain = prepare(texts(), context), prepare(texts("data.views.strong=[]"), context)
    rows, dim = data.train.x.shape
    assert torch.equal(data.train.x, plain.train.x)
    assert plain.train.copies == {}
    assert set(data.train.copies) == {"strong"}
    assert copies(data).shape == (rows, 3, dim)
    assert data.val is not None
    assert data.val.copies["strong"].all().shape == (len(data.val), 3, dim)
    assert copies(data).dtype == torch.float32
    changed = (copies(data) != data.train.x[:, None]).any(2).double()
    assert float(changed.mean()) > 0.7
    assert not torch.equal(copies(data)[:, 0], copies(data)[:, 1])


def test_a_copy_is_the_encoding_of_the_changed_text(texts: Any, context: DataContext) -> None:
    # with next to every word dropped a copy is a single word of its text
    data = prepare(texts("data.views.strong=[{use: drop_words, rate: 0.999, copies: 2}]"), context)
    rows = data.rows.train
    for row in range(5):
        alone = str(rows.columns["text"][row]).split()
        columns = {"text": rows.columns["text"][:1].repeat(len(alone))}
        columns["text"][:] = alone
        single = rows.take(torch.arange(len(alone)).numpy())
        result = data.preprocessor.apply(type(rows)(columns, single.labels, single.ids), context).x
        for copy in copies(data)[row]:
            assert float((result - copy).abs().sum(1).min()) < 1e-5


def test_the_seed_of_the_run_decides_the_copies(texts: Any, context: DataContext) -> None:
    first, same, other = (prepare(texts(f"run.seed={seed}"), context) for seed in (1, 1, 2))
    assert torch.equal(copies(first), copies(same))
    assert not torch.equal(copies(first), copies(other))


def test_both_views_have_copies_of_their_own_as_many_as_the_largest_number(
    texts: Any, context: DataContext
) -> None:
    listed = "[{use: drop_words, copies: 2}, {use: drop_words, copies: 5}]"
    data = prepare(texts(f"data.views.weak={listed}", f"data.views.strong={listed}"), context)
    assert copies(data, "weak").shape[1] == copies(data, "strong").shape[1] == 5
    assert not torch.equal(copies(data, "weak"), copies(data, "strong"))


def test_copies_are_encoded_once_and_kept_apart_from_the_unchanged_texts(texts: Any, tmp_path: Path) -> None:
    requests: list[int] = []
    context = DataContext(
        offline=True,
        cache_dir=str(tmp_path / "cache"),
        progress=lambda done, total, what: requests.append(total),
    )
    words = ("data.encoder={use: wordllama, dim: 64}", "data.transforms=[{use: pca, dim: 8}]")
    first = prepare(texts(*words), context)
    assert requests
    requests.clear()
    again = prepare(texts(*words), context)
    assert requests == []
    assert torch.equal(copies(first), copies(again))
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"embeddings", "views"}


def test_data_without_texts_has_no_views_of_texts(moons: Any, context: DataContext) -> None:
    with pytest.raises(RecipeError, match="no column of the data holds texts") as caught:
        prepare(moons("data.views.strong=[{use: drop_words}]"), context)
    assert "data.text" in str(caught.value.hint)
