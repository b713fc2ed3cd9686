from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from flowgmm_cli.api import DataConfig, DataContext, View
from flowgmm_cli.data.specs import ScaleConfig
from flowgmm_cli.data.tensors import Tensors, TextCopies
from flowgmm_cli.data.transforms.elementwise import Scale
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import create_run
from flowgmm_cli.training.callbacks import Callbacks
from flowgmm_cli.training.pipeline import dry_run, train
from flowgmm_cli.training.prepare import PreparedData, prepare
from flowgmm_cli.views.pipeline import AugmentationPipeline, ImageColumnView, build_pipeline

MakeRecipe = Callable[..., Recipe]
CONTEXT = DataContext()
CPU = torch.device("cpu")
STILL = "{use: affine, pixels: 0}"
# images of 3 x 4 pixels whose classes differ in brightness
RECIPE = """\
version: 1
data:
  use: arrays
  path: {path}
  labels: {{count: 10}}
  transforms: [{{use: pca, dim: 6}}]
  views:
    weak: [{{use: affine, pixels: 0.2}}]
    strong: [{{use: affine, pixels: 0.5, degrees: 10}}, {{use: noise, scale: 0.1}}]
flow: {{use: realnvp, couplings: 2, hidden: 8, depth: 1}}
train: {{epochs: 4, batch_size: 30, labelled_batch_size: 8, lr: 1e-2, precision: fp32}}
calibration: {{folds: 2}}
run: {{device: cpu, log_every: 2}}
"""


def add(value: float) -> View:
    return cast(View, lambda x, generator: x + value)


def noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return x + torch.randn(x.shape, generator=generator, dtype=x.dtype)


@pytest.fixture
def pictures(tmp_path: Path) -> MakeRecipe:
    """A recipe for arrays of small images: `pictures("train.epochs=2", shape=(3, 4))`."""

    def make(*words: str, shape: tuple[int, ...] = (3, 4), add: float = 0.0) -> Recipe:
        rng = np.random.default_rng(0)
        labels = np.arange(150) % 2
        x = (rng.random((150, *shape)) + labels.reshape(-1, *[1] * len(shape))).astype(np.float32)
        np.savez(tmp_path / "x.npz", train=x + np.float32(add), train_label=labels)
        file = tmp_path / "pictures.yaml"
        file.write_text(RECIPE.format(path=tmp_path / "x.npz"))
        return load_recipe(str(file), [f"run.dir={tmp_path / 'runs'}", *words])

    return make


def viewing(recipe: Recipe, data: PreparedData, name: Any) -> AugmentationPipeline:
    views = getattr(cast(DataConfig, recipe.data.config).views, name)
    return build_pipeline(name, views, preprocessor=data.preprocessor, device=CPU)


def test_a_view_of_features_starts_from_the_transformed_rows() -> None:
    x, generator = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.Generator()
    seen = AugmentationPipeline("strong", features=[add(1), noise])(Tensors(x), generator.manual_seed(3))
    assert torch.equal(seen, noise(x + 1, torch.Generator().manual_seed(3)))
    assert AugmentationPipeline("weak")(Tensors(x), generator) is x


@pytest.mark.parametrize(
    "transforms", ["[]", "[{use: pca, dim: 5}, {use: clip, limit: 2}]", "[{use: quantile}, {use: scale}]"]
)
def test_inputs_that_nothing_moves_come_out_as_the_transformed_rows(
    pictures: MakeRecipe, transforms: str
) -> None:
    recipe = pictures(f"data.transforms={transforms}", f"data.views.strong=[{STILL}]")
    data = prepare(recipe, CONTEXT)
    seen = viewing(recipe, data, "strong")(data.train, torch.Generator())
    assert seen.dtype == torch.float32
    # the ordinary way is float64
    torch.testing.assert_close(seen, data.train.x, atol=1e-5, rtol=1e-4)


def test_inputs_are_changed_then_transformed_then_features_are_changed() -> None:
    double = Scale(ScaleConfig(factor=2.0), features=2)
    double.fit(torch.ones(2, 2, dtype=torch.float64))
    transforms = [double.float()]
    view = AugmentationPipeline("strong", inputs=[add(1)], transforms=transforms, features=[add(100)])
    rows = Tensors(torch.full((3, 2), 9.0), inputs=torch.full((3, 2), 4.0))
    assert torch.equal(view(rows, torch.Generator()), torch.full((3, 2), 2 * (4.0 + 1) + 100))


def test_transforms_stay_in_float32_under_autocast(pictures: MakeRecipe) -> None:
    recipe = pictures()
    data = prepare(recipe, CONTEXT)
    view, rows = viewing(recipe, data, "weak"), data.train
    plain = view(rows, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(view(rows, torch.Generator().manual_seed(0)), plain)


def test_an_image_is_moved_before_the_transforms_and_columns_beside_it_stay(pictures: MakeRecipe) -> None:
    x = torch.arange(2 * 9.0).reshape(2, 9)

    def turn(images: Tensor, generator: torch.Generator) -> Tensor:
        assert images.shape == (2, 2, 3)
        return images.flip(2)

    seen = ImageColumnView(turn, slice(2, 8), (2, 3))(x, torch.Generator())
    assert seen[0].tolist() == [0, 1, 4, 3, 2, 7, 6, 5, 8]
    recipe = pictures("data.transforms=[]", "data.views.strong=[{use: affine, pixels: 0, degrees: 180}]")
    data = prepare(recipe, CONTEXT)
    (column, place), *more = data.preprocessor.feature_encoder.layout
    assert (column.shape, place, more) == ((3, 4), slice(0, 12), [])
    assert data.train.inputs is not None
    assert torch.equal(data.train.inputs, data.train.x)


def test_one_of_the_copies_of_each_row_is_picked_at_random() -> None:
    rows, count = 4000, 4
    copies = torch.arange(float(rows * count)).reshape(rows, count, 1)
    forms = Tensors(torch.zeros(rows, 1), copies={"strong": TextCopies(copies)})
    view, generator = AugmentationPipeline("strong", texts=True), torch.Generator().manual_seed(0)
    first, second = view(forms, generator)[:, 0], view(forms, generator)[:, 0]
    for seen in (first, second):
        assert torch.equal(seen.div(count, rounding_mode="floor"), torch.arange(float(rows)))
        assert (seen % count).long().bincount().tolist() == pytest.approx([rows / count] * count, rel=0.15)
    assert not torch.equal(first, second)
    assert torch.equal(AugmentationPipeline("strong")(forms, generator), forms.x)  # its texts stay


@pytest.mark.parametrize(
    "index",
    [slice(1, 5, 2), torch.tensor([4, 0, 4]), torch.tensor([True, False, False, True, True, False])],
    ids=["slice", "positions", "mask"],
)
def test_copies_of_some_rows_are_theirs(index: torch.Tensor | slice) -> None:
    table = torch.arange(36.0).reshape(6, 3, 2)
    some, rows = TextCopies(table)[index], table[index]
    assert torch.equal(some.all(), rows)
    assert len(some) == len(rows)
    again = torch.tensor([len(rows) - 1, 0])
    assert torch.equal(some[again].all(), rows[again])
    picked = some.pick(torch.Generator().manual_seed(0))
    assert (picked[:, None] == rows).all(2).any(1).all()
    assert torch.equal(picked, some.to(CPU).pick(torch.Generator().manual_seed(0)))


def test_copies_go_on_through_inputs_and_features() -> None:
    copies = {"strong": TextCopies(torch.full((3, 2, 1), 5.0))}
    forms = Tensors(torch.zeros(3, 1), inputs=torch.zeros(3, 1), copies=copies)
    view = AugmentationPipeline("strong", texts=True, inputs=[add(1)], transforms=[], features=[add(10)])
    assert view(forms, torch.Generator()).flatten().tolist() == [16.0] * 3


def test_rows_keep_all_their_forms_when_some_are_taken() -> None:
    forms = Tensors(
        torch.arange(4.0)[:, None],
        torch.arange(4),
        torch.arange(4.0),
        np.array(list("abcd")),
        torch.arange(8.0).reshape(4, 2),
        {"weak": TextCopies(torch.ones(4, 3, 1))},
    )
    some = forms[torch.tensor([2, 0])]
    assert (len(some), some.x.flatten().tolist()) == (2, [2.0, 0.0])
    assert some.inputs is not None
    assert some.inputs.tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert some.copies["weak"].all().shape == (2, 3, 1)
    assert (some.labels.tolist(), some.log_det.tolist(), list(some.ids)) == ([2, 0], [2.0, 0.0], ["c", "a"])
    assert len(forms[:3]) == 3
    assert len(forms.to(CPU)) == 4
    assert forms.is_finite()
    nan = torch.full((4, 2), torch.nan)
    assert not Tensors(nan, inputs=forms.inputs).is_finite()
    assert not Tensors(forms.x, inputs=nan).is_finite()
    assert not Tensors(forms.x, copies={"weak": TextCopies(torch.full((4, 1, 1), torch.inf))}).is_finite()


def test_data_without_images_has_no_views_of_images(pictures: MakeRecipe, moons: MakeRecipe) -> None:
    talk = Callbacks()
    for recipe in (pictures(shape=(12,)), moons("data.views.weak=[{use: affine, pixels: 1}]")):
        with pytest.raises(RecipeError, match="no column of the data holds images") as caught:
            dry_run(recipe, context=CONTEXT, callbacks=talk)
        assert "height, width" in str(caught.value.hint)
        assert caught.value.details[0] in ("column `x` is vector (12,)", "column `x1` is numeric")


@pytest.mark.parametrize("view", ["colour", "rand_augment", "cutout, fill: grey"])
def test_images_with_numbers_below_0_have_no_brightness_that_could_change(
    pictures: MakeRecipe, view: str
) -> None:
    words = f"data.views.strong=[{{use: {view}}}]"
    assert dry_run(pictures(words), context=CONTEXT, callbacks=Callbacks())
    with pytest.raises(RecipeError, match=r"changes brightness .* below 0"):
        dry_run(pictures(words, add=-1.0), context=CONTEXT, callbacks=Callbacks())
    moved = pictures("data.views.strong=[{use: affine, pixels: 1}]", add=-1.0)
    assert dry_run(moved, context=CONTEXT, callbacks=Callbacks())


def test_no_more_is_kept_than_the_views_need(moons: MakeRecipe, pictures: MakeRecipe) -> None:
    plain = prepare(moons(), CONTEXT)
    assert plain.train.inputs is None
    assert plain.train.copies == {}
    both = prepare(pictures(), CONTEXT)
    assert [part.inputs is None for part in (both.train, both.val, both.test) if part] == [False, False, True]


def test_a_run_with_views_of_images_is_monitored_and_learns(pictures: MakeRecipe, tmp_path: Path) -> None:
    recipe = pictures("train.epochs=20")
    terms = dry_run(recipe, context=CONTEXT, callbacks=Callbacks())
    assert terms["labelled"] > 0
    result = train(recipe, create_run(recipe, argv=[], directory=tmp_path / "run"))
    assert result.test is not None
    assert result.first.metric == "monitor.loss"
    assert result.test.metrics()["accuracy"] > 0.9


def test_a_run_with_views_of_images_is_resumed_bit_for_bit(
    pictures: MakeRecipe, tmp_path: Path, same_outcome: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = pictures("checkpoint.every_steps=5")
    whole = create_run(recipe, argv=[], directory=tmp_path / "whole")
    train(recipe, whole)
    torn = create_run(recipe, argv=[], directory=tmp_path / "torn")

    class CrashError(Exception):
        pass

    def crash(done: int, total: int, title: str, detail: str) -> None:
        if done == 7:
            raise CrashError

    with pytest.raises(CrashError):
        train(recipe, torn, callbacks=Callbacks(progress=crash))
    train(recipe, torn)
    same_outcome(whole, torn)
