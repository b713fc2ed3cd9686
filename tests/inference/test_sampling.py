"""Rows that a model makes: what they are said to be is what the model says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch

from flowgmm_cli.api import Column, DataContext
from flowgmm_cli.bijection import Sequential
from flowgmm_cli.cli.sample_output import write_samples
from flowgmm_cli.data.column_encoders import NumericColumn
from flowgmm_cli.data.feature_encoder import FeatureEncoder
from flowgmm_cli.data.images.format import image_column
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.errors import RunFailedError
from flowgmm_cli.inference.samples import GeneratedRows
from flowgmm_cli.inference.sampling import class_means, draw_samples, recentre_components
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.trained_model import TrainedModel

MakeTrained = Callable[..., TrainedModel]
DIGITS = ("data.name=digits", "data.transforms=[{use: pca, dim: 8}]")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_densities_and_confidence_are_those_of_the_rows_read_back(make_trained: MakeTrained) -> None:
    trained = make_trained("data.transforms=[{use: quantile}, {use: standardise}]")
    made = draw_samples(trained, 50, classes=[1, 0], generator=seeded())
    assert made.classes.tolist() == [1] * 50 + [0] * 50
    found = trained.encode_rows(trained.preprocessor.apply(made.rows, DataContext()))
    np.testing.assert_allclose(made.log_density, found.log_density, atol=1e-3)
    expected = found.log_posterior.exp().numpy()[np.arange(100), made.classes]
    np.testing.assert_allclose(made.rows.extras["confidence"], expected, atol=1e-4)


def test_the_same_seed_gives_the_same_rows(make_trained: MakeTrained) -> None:
    trained = make_trained()
    one, two, other = (draw_samples(trained, 5, generator=seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(one.x, two.x)
    assert not torch.equal(one.x, other.x)


@pytest.mark.parametrize("members", [1, 2])
def test_at_temperature_0_samples_are_the_means_of_their_members(
    make_trained: MakeTrained, members: int
) -> None:
    trained = make_trained(members=members)
    made = draw_samples(trained, 20, classes=[1], temperature=0, generator=seeded())
    own = torch.stack([part.flow.inverse(part.mixture.means)[1] for part in trained.model.parts]).detach()
    apart = torch.cdist(made.x, own)
    assert apart.min(1).values.max() < 1e-5
    assert set(apart.argmin(1).tolist()) == set(range(members))


def test_means_have_a_row_for_each_component_with_its_name(make_trained: MakeTrained) -> None:
    trained = make_trained(components=3)
    made = class_means(trained)
    first, second = trained.class_names
    assert made.rows.ids.tolist() == [f"{name}.{index}" for name in (first, second) for index in (1, 2, 3)]
    z = trained.model.parts[0].flow(made.x)[0]
    torch.testing.assert_close(z, trained.model.parts[0].mixture.means, atol=1e-4, rtol=1e-4)
    assert class_means(make_trained()).rows.ids.tolist() == [first, second]


def test_images_come_in_their_shape_and_a_flat_table_has_a_column_for_each_pixel(
    make_trained: MakeTrained,
) -> None:
    trained = make_trained(*DIGITS)
    made = draw_samples(trained, 2, classes=[3], generator=seeded())
    assert made.table(flat=False)["pixels"].shape == (2, 8, 8)
    names = list(made.table())
    assert names[:4] == ["id", "class", "log_density", "confidence"]
    assert names[4:] == [f"pixels[{index}]" for index in range(64)]
    assert made.table()["class"].tolist() == ["3", "3"]
    assert image_column(trained.preprocessor.columns) == Column("pixels", "vector", (8, 8))


def test_whole_columns_are_integers_and_taken_names_are_left_to_the_input(make_trained: MakeTrained) -> None:
    trained = make_trained()
    made = draw_samples(trained, 3, generator=seeded())
    assert made.table()["x1"].dtype == np.float64
    encoders = (NumericColumn(Column("class", "numeric"), None, whole=True),)
    trained = replace(trained, preprocessor=Preprocessor(FeatureEncoder(encoders), Sequential([])))
    rows = replace(made.rows, columns={"class": np.array([1.0, 2.0, 3.0])})
    table = replace(made, trained=trained, rows=rows).table(texts={"near": np.array(["a", "b", "c"])})
    assert list(table) == ["id", "sample_class", "log_density", "confidence", "near", "class"]
    assert table["class"].dtype == np.int64


@pytest.mark.parametrize(
    ("columns", "is_image"),
    [
        ([Column("a", "vector", (8, 8))], True),
        ([Column("a", "image", (8, 9, 3))], True),
        ([Column("a", "vector", (3, 8, 9))], True),
        ([Column("a", "vector", (64,))], False),
        ([Column("a", "vector", (5, 8, 9))], False),
        ([Column("a", "vector", (8, 8)), Column("b", "numeric")], False),
        ([Column("a", "numeric")], False),
    ],
)
def test_only_a_single_column_of_pictures_makes_images(columns: list[Column], is_image: bool) -> None:
    assert (image_column(columns) is not None) == is_image


def test_an_inverse_that_is_not_finite_is_an_error(make_trained: MakeTrained) -> None:
    trained = make_trained()
    x = torch.tensor([[0.0, 1.0], [float("nan"), 0.0], [0.0, float("inf")]])
    with pytest.raises(RunFailedError, match="not finite in 2 of 3 rows"):
        GeneratedRows.from_flow_inputs(trained, x)


@pytest.mark.parametrize("kind", ["grey", "colour", "vector", "vector colour"])
def test_generated_images_have_the_shape_and_values_of_their_column(make_imaged: Any, kind: str) -> None:
    imaged = make_imaged(kind)
    shape = imaged.rows.columns["photo"].shape[1:]
    for made in (
        draw_samples(imaged.trained, 2, classes=[1], generator=seeded()),
        class_means(imaged.trained),
    ):
        cells = made.rows.columns["photo"]
        assert cells.shape == (len(made), *shape)
        assert cells.dtype == (np.uint8 if kind in ("grey", "colour") else np.float64)
        assert (cells == np.round(cells)).all()
        assert 0 <= cells.min() <= cells.max() <= 255
        back = imaged.trained.preprocessor.apply(made.rows, DataContext())
        pixels = imaged.trained.preprocessor.invert(back.x)["photo"]
        np.testing.assert_array_equal(pixels, cells)


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet", "jsonl", "png"])
@pytest.mark.parametrize("kind", ["grey", "colour", "vector colour"])
def test_generated_images_are_written_in_every_format(
    make_imaged: Any, tmp_path: Path, suffix: str, kind: str
) -> None:
    imaged = make_imaged(kind)
    made = draw_samples(imaged.trained, 2, classes=[0, 2], generator=seeded())
    file = tmp_path / f"made.{suffix}"
    write_samples(made, {}, str(file), None)
    cells = made.rows.columns["photo"]
    if suffix == "npz":
        with np.load(file) as arrays:
            np.testing.assert_array_equal(arrays["photo"], cells)
            assert (arrays["photo"].dtype == np.uint8) == (kind != "vector colour")
    elif suffix == "csv":
        lines = file.read_text(encoding="utf-8").splitlines()
        assert [int(one) for one in lines[1].split(",")[4:]] == cells[0].ravel().astype(int).tolist()
    elif suffix == "jsonl":
        first = json.loads(file.read_text(encoding="utf-8").splitlines()[0])
        assert first["photo"] == cells[0].ravel().tolist()
    elif suffix == "parquet":
        found = pyarrow.parquet.read_table(file)["photo"].to_pylist()
        assert found == cells.reshape(len(cells), -1).tolist()
    else:
        assert file.read_bytes().startswith(b"\x89PNG")


# --- samples around where rows lie ------------------------------------------------------------------------


def misplaced(trained: TrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows in two narrow heaps of the latent space beside the means; their inputs and the heaps' centres."""
    part = trained.model.parts[0]
    heaps = torch.tensor([[-4.0, 1.0], [4.0, -2.0]])
    with torch.no_grad():
        part.mixture.means.copy_(torch.tensor([[-6.0, 0.0], [6.0, 0.0]]))
        noise = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
        return part.flow.inverse(heaps.repeat(200, 1) + 0.5 * noise), heaps


def test_components_move_to_the_mean_of_their_rows(make_trained: MakeTrained) -> None:
    trained = make_trained()
    x, heaps = misplaced(trained)
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    source = recentre_components(trained.model, x)
    mixture = source.parts[0].mixture
    torch.testing.assert_close(mixture.means.detach(), heaps, atol=0.1, rtol=0)
    torch.testing.assert_close(mixture.scales.detach(), torch.full((2, 1), 0.5), atol=0.05, rtol=0)
    assert all(torch.equal(value, before[name]) for name, value in trained.model.state_dict().items())
    assert source.parts[0].flow is trained.model.parts[0].flow


def test_samples_come_from_the_recentred_model(make_trained: MakeTrained) -> None:
    trained = make_trained()
    x, heaps = misplaced(trained)
    source = recentre_components(trained.model, x)
    made = draw_samples(trained, 500, classes=[0], generator=torch.Generator().manual_seed(0), source=source)
    z = trained.model.parts[0].flow(made.x)[0].detach()
    torch.testing.assert_close(z.mean(0), heaps[0], atol=0.1, rtol=0)
    _, log_det = trained.preprocessor.transform_features(torch.from_numpy(made.features))
    expected = trained.model.log_prob(made.x).detach().double() + log_det
    torch.testing.assert_close(torch.from_numpy(made.log_density), expected, atol=1e-4, rtol=1e-5)
    means = trained.model.parts[0].flow(class_means(trained, source=source).x)[0].detach()
    torch.testing.assert_close(means, heaps, atol=0.1, rtol=0)


@pytest.mark.parametrize("members", [1, 2])
def test_components_without_rows_keep_their_means_and_all_members_are_recentred(
    make_trained: MakeTrained, members: int
) -> None:
    trained = make_trained(members=members, components=2)
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    source = recentre_components(trained.model, x)
    assert len(source.parts) == members
    for old, new in zip(trained.model.parts, source.parts, strict=True):
        assert isinstance(new, FlowMixture)
        component = old.mixture.component_log_prob(old.flow(x)[0]).argmax(1)
        for index in range(4):
            stays = torch.equal(new.mixture.means[index], old.mixture.means[index])
            assert stays == (not bool((component == index).any()))
    without = recentre_components(trained.model, x[:0]).parts[0]
    assert torch.equal(without.mixture.means, trained.model.parts[0].mixture.means)
