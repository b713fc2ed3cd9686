"""Galleries show the right images and rows with the right labels."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from scipy.stats import entropy

from flowgmm_cli.api import Column, DataContext
from flowgmm_cli.inference.samples import GeneratedRows
from flowgmm_cli.inference.sampling import class_means, draw_samples, interpolate, transfer
from flowgmm_cli.model import Ensemble
from flowgmm_cli.report.card import model_card
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.figures import ImageRow, column_images, image_grid_figure
from flowgmm_cli.report.galleries import (
    RowStatistics,
    compute_row_statistics,
    gallery_section,
    positions_by_quantile,
    score_figure,
    select_extremes,
    select_uncertain,
)
from flowgmm_cli.report.ood import ood_section
from flowgmm_cli.report.page import Paragraph, Part, Plot, Table, Tiles
from flowgmm_cli.report.samples import SampleMode, samples_figure, samples_section
from flowgmm_cli.report.tables import summary_section
from flowgmm_cli.runs import Run

CONTEXT = DataContext(offline=True)
RNG = np.random.default_rng(0)


@pytest.fixture
def image_context(image_run: Run) -> ReportContext:
    """The report context of a run of images."""
    return ReportContext(image_run, CONTEXT)


def pixels(figure: Figure) -> np.ndarray:
    (image,) = figure.axes[0].images
    return np.asarray(image.get_array())


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}  # type: ignore[attr-defined]


def plots(parts: Iterable[Part], name: str = "") -> list[Plot]:
    return [part for part in parts if isinstance(part, Plot) and name in part.name]


def test_typical_and_odd_rows_are_the_densest_and_least_dense_of_a_class() -> None:
    statistics = RowStatistics(
        classes=np.array([0, 1, 0, 0, 1, 0]),
        predicted=np.array([0, 1, 1, 0, 1, 0]),
        log_density=np.array([-1.0, -9.0, -5.0, -2.0, -3.0, np.nan]),
        entropy=np.array([0.1, 0.2, 0.6, 0.0, 0.5, 0.3]),
    )
    assert [rows.tolist() for rows in select_extremes(statistics, 0, 1)] == [[0], [2]]
    assert [rows.tolist() for rows in select_extremes(statistics, 0, 9)] == [[0, 3], [2]]
    assert len(select_extremes(statistics, 2, 3)[0]) == 0
    assert select_uncertain(statistics, 2).tolist() == [2, 4]


@pytest.mark.parametrize("members", [1, 2])
def test_densities_are_those_of_the_class_and_entropies_those_of_scipy(
    context: ReportContext, other: Run, members: int
) -> None:
    models = [context.trained.model, ReportContext(other, CONTEXT).trained.model][:members]
    parts = [part for model in models for part in model.parts]
    for part in parts:
        part.mixture.set_weights(torch.tensor([1.0, 4.0, 2.0]))
    trained = replace(context.trained, model=Ensemble(parts))
    split = trained.preprocessor.apply(context.validation.rows, CONTEXT)
    encoded, labels = trained.encode_rows(split), context.validation.rows.labels.copy()
    labels[:5] = -1
    statistics = compute_row_statistics(trained.model, encoded, labels)
    assert statistics.classes[:5].tolist() == encoded.log_posterior[:5].argmax(1).tolist()
    assert statistics.classes[5:].tolist() == labels[5:].tolist()
    np.testing.assert_allclose(statistics.entropy, entropy(encoded.log_posterior.exp(), axis=1), atol=1e-9)
    expected = []
    with torch.no_grad():
        for part in parts:
            z, log_det = part.flow(split.x)
            means, scales = (values[statistics.classes] for values in part.mixture.moments())
            normal = torch.distributions.Normal(means, scales)
            expected.append(normal.log_prob(z).sum(1) + log_det + split.log_det)
    np.testing.assert_allclose(statistics.log_density, torch.stack(expected).mean(0), rtol=1e-4, atol=1e-3)


@given(st.lists(st.floats(-5, 5), min_size=0, max_size=60), st.integers(1, 8))
def test_quantile_groups_are_ascending_and_disjoint(values: list[float], each: int) -> None:
    scores = np.array(values, dtype=np.float64)
    groups = positions_by_quantile(scores, each)
    places = np.concatenate(groups).tolist()
    assert len(set(places)) == len(places)
    assert (np.diff(scores[places]) >= 0).all()
    if len(values):
        assert (scores[places[0]], scores[places[-1]]) == (scores.min(), scores.max())
    if len(values) >= 5 * each:
        assert [len(group) for group in groups] == [each] * 5
        middle = scores[groups[2]]
        assert middle.min() <= np.median(scores) <= middle.max() or each % 2 == 0 or len(values) % 2 == 0


def test_a_run_of_images_has_galleries(image_context: ReportContext) -> None:
    gallery, uncertain = plots(gallery_section(image_context))
    assert (gallery.name, uncertain.name) == ("gallery", "doubtful")
    assert gallery.png.startswith(b"\x89PNG")
    validation = image_context.validation
    model = image_context.trained.model
    statistics = compute_row_statistics(model, validation.encoded, validation.rows.labels)
    best = select_extremes(statistics, 3, 1)[0][0]
    assert f"{statistics.log_density[best]:.4g}" in gallery.svg.decode()
    assert "typical" in gallery.svg.decode()
    assert "log p(x | class)" in gallery.caption


def test_samples_of_images_are_shown_at_three_temperatures(image_context: ReportContext) -> None:
    (plot,) = plots(samples_section(image_context))
    for text in ("temperature 0.3", "temperature 0.7", "temperature 1"):
        assert text in plot.svg.decode()


def test_generated_images_share_rows_by_class_path_or_origin(image_context: ReportContext) -> None:
    trained, validation = image_context.trained, image_context.validation
    x, origin = validation.encoded.x[:3], validation.rows.take(np.arange(3))
    path, generator = interpolate(trained, x[:2], steps=5), torch.Generator().manual_seed(0)
    predicted = transfer(trained, x, 3).rows.extras["from"]
    moved = [
        f"{trained.class_names[true]}\n→ {name}" for true, name in zip(origin.labels, predicted, strict=True)
    ]
    draws = [draw_samples(trained, 2, classes=[3, 8], temperature=t, generator=generator) for t in (0.3, 1)]
    cases: list[tuple[SampleMode, GeneratedRows, set[str], int, int]] = [
        ("interpolate", path, {"0.25", "from row to row"}, 1, 5),
        ("interpolate", GeneratedRows.concatenate([path] * 2, {"path": ["a", "b"]}), {"a", "b"}, 2, 5),
        ("transfer", transfer(trained, x, 3), {"given", "as 3", *moved}, 2, 3),
        ("transfer", transfer(trained, x, None), {"given", "0", "9"}, 3, 11),
        ("means", class_means(trained), {"0", "9", "means of the classes"}, 1, 10),
        ("draw", draws[0], {"3", "8", "digits"}, 2, 2),
        ("draw", GeneratedRows.concatenate(draws, {"temperature": [0.3, 1]}), {"temperature 1"}, 2, 4),
    ]
    for mode, rows, words, height, width in cases:
        figure = samples_figure(rows, mode, origin=origin)
        gaps = 4 * (width in (4, 11))  # between two blocks
        notes = 2 * round(0.3 * 8) * ("as 3" in words)  # two lines under the given images
        assert pixels(figure)[..., 0].shape == (9 * height - 1 + notes, 9 * width - 1 + gaps)
        assert words <= texts(figure)
        framed = 3 if width == 11 else 0  # the predicted class of each row
        assert len(figure.axes[0].patches) == framed


def test_ordinary_images_with_high_scores_are_shown_with_and_without_others(
    image_context: ReportContext, tmp_path: Path
) -> None:
    (plot,) = plots(ood_section(image_context), "ood-images")
    assert "ordinary, highest" in plot.svg.decode()
    assert "other, lowest" not in plot.svg.decode()
    file = tmp_path / "noise.npz"
    np.savez(file, pixels=np.random.default_rng(0).integers(0, 17, (30, 8, 8)).astype(float))
    context = ReportContext(image_context.run, CONTEXT, out=str(file))
    (plot,) = plots(ood_section(context), "ood-images")
    for text in ("other, lowest", "other, middle", "other, highest", "ordinary, highest"):
        assert text in plot.svg.decode()


def test_images_are_sorted_by_score_and_framed_if_flagged() -> None:
    values = np.array([5.0, 1, 3, 2, 4])
    images = values[:, None, None] * np.ones((5, 4, 4))
    ordinary = np.full((1, 4, 4), 9.0), np.array([4.5])
    figure = score_figure((images, values), ordinary, limits=(0, 10), threshold=3.5, score="nll", name="x")
    values_by_row = pixels(figure)[::6, 0, 0]
    assert np.round(values_by_row * 10).tolist() == [1, 2, 3, 4, 5, 9]
    assert len(figure.axes[0].patches) == 3
    few = score_figure((images[:2], values[:2]), ordinary, limits=(0, 10), threshold=9, score="nll")
    assert round(float(pixels(few)[0, 0, 0]) * 10) == 1
    assert len(few.axes[0].patches) == 0


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_blocks_of_images_begin_in_the_same_column_of_all_rows(channels: tuple[int, ...]) -> None:
    images = RNG.random((3, 8, 5, *channels))
    rows = [ImageRow("a", [images[:1], images[1:]]), ImageRow("b", [images[:2], images[:0]])]
    canvas = pixels(image_grid_figure(rows, limits=(0, 1)))
    corners = [0, 6, 5 + 1 + 5 + 1 + 2, 5 + 1 + 5 + 1 + 2 + 5 + 1]
    assert canvas.shape == (8 + 1 + 8, corners[3] + 5, 3)
    for index, row, column in ((0, 0, 0), (1, 0, 2), (2, 0, 3), (0, 1, 0), (1, 1, 1)):
        part = canvas[9 * row : 9 * row + 8, corners[column] : corners[column] + 5]
        expected = images[index].reshape(8, 5, -1)[..., :3]
        np.testing.assert_allclose(part, np.broadcast_to(expected, part.shape))
    assert (canvas[:8, corners[1] : corners[2]] == 1).all()
    assert (canvas[8] == 1).all()


@pytest.mark.parametrize(
    ("entry", "limits", "grey"),
    [
        ([[-5.0, 0.0], [8.0, 16.0]], (0, 16), [[0, 0], [0.5, 1]]),
        (np.array([[51, 102], [102, 51]], dtype=np.uint8), None, [[0.2, 0.4], [0.4, 0.2]]),
        ([[3.0, 3.0]], None, [[0, 0]]),
        ([[*range(1000)]], None, [np.clip((np.arange(1000) - 4.995) / 989.01, 0, 1)]),
    ],
)
def test_values_go_from_black_to_white_between_the_limits(entry: Any, limits: Any, grey: Any) -> None:
    canvas = pixels(image_grid_figure([ImageRow("", [np.array([entry])])], limits=limits))
    np.testing.assert_allclose(canvas[..., 0], grey, atol=1e-12)


def test_labels_headings_and_title_are_shown_literally() -> None:
    images = np.zeros((2, 4, 4))
    rows = [ImageRow("$a_1$", [images]), ImageRow("x" * 60, [images, images])]
    figure = image_grid_figure(rows, block_headings=["cold", "$"], title="digits", subtitle="samples")
    assert {"$a_1$", "x" * 23 + "…", "cold", "$", "digits", "samples"} <= texts(figure)
    named = texts(image_grid_figure(rows, block_headings=["cold", "$"], headings=["0", "1/2"]))
    assert {"0", "1/2"} <= named
    assert "cold" not in named


def test_frames_and_notes_are_at_their_images() -> None:
    row = ImageRow("a", [np.zeros((2, 10, 10))], notes=["1.5", "$x$"], framed=[False, True])
    figure = image_grid_figure([row, ImageRow("b", [np.ones((1, 10, 10))])], limits=(0, 1))
    (frame,) = (patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle))
    assert (*frame.get_xy(), frame.get_width(), frame.get_height()) == (10.5, -0.5, 10, 10)
    assert {"1.5", "$x$"} <= texts(figure)
    canvas = pixels(figure)[..., 0]
    assert canvas.shape == (10 + 3 + 1 + 10, 21)
    assert (canvas[10:, :] == 1).all()


@pytest.mark.parametrize(
    ("column", "entry"),
    [
        (Column("a", "image", (6, 7)), (6, 7)),
        (Column("a", "image", (3, 7, 3)), (3, 7, 3)),
        (Column("a", "vector", (3, 6, 4)), (6, 4, 3)),
        (Column("a", "vector", (6, 7, 3)), (6, 7, 3)),
        (Column("a", "vector", (6, 7)), (6, 7)),
    ],
)
def test_cells_of_a_column_become_images_with_channels_last(column: Column, entry: tuple[int, ...]) -> None:
    cells = RNG.random((2, *column.shape))
    canvas = column_images(column, cells)
    assert canvas.shape == (2, *entry)
    assert canvas.sum() == pytest.approx(cells.sum())


def test_captions_of_images_do_not_overlap() -> None:
    notes = ["pullover\n→ ankle boot", "ankle boot\n→ pullover"] * 7
    rows = [ImageRow("", [np.zeros((14, 8, 8))], notes), ImageRow("", [np.zeros((14, 8, 8))])]
    figure = image_grid_figure(rows, limits=(0, 1))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 14
    assert all(box.count_overlaps(boxes) == 1 for box in boxes)
    second = axes.transData.transform((0, axes.get_yticks()[1] - 4.5))[1]  # the upper edge of the next images
    assert min(box.y0 for box in boxes) > second


def test_a_table_has_typical_and_odd_rows_in_its_own_columns(context: ReportContext) -> None:
    parts = list(gallery_section(context))
    assert isinstance(parts[0], Paragraph)
    first, second = (part for part in parts if isinstance(part, Table))
    names = [column.name for column in context.trained.preprocessor.columns]
    assert first.columns[-2:] == names
    validation = context.validation
    model = context.trained.model
    statistics = compute_row_statistics(model, validation.encoded, validation.rows.labels)
    indices = {str(name): index for index, name in enumerate(validation.rows.ids)}
    for line in first.rows:
        index = indices[str(line[2])]
        assert line[0] == context.class_names[statistics.classes[index]]
        assert line[3] == f"{statistics.log_density[index]:.2f}"
        assert float(line[-1]) == pytest.approx(float(validation.rows.columns[names[1]][index]), rel=1e-3)
    entropies = [float(line[2]) for line in second.rows]
    assert entropies == sorted(entropies, reverse=True)


def test_bits_per_dimension_are_a_tile_and_in_the_card_if_they_were_measured(context: ReportContext) -> None:
    def describe(context: ReportContext) -> str:
        tiles = next(part for part in summary_section(context) if isinstance(part, Tiles))
        return ", ".join(name for name, _, _ in tiles.tiles) + model_card(context)

    assert "bits per dimension" not in describe(context)
    file = context.run.path / "eval" / "test.json"
    evaluation = json.loads(file.read_text(encoding="utf-8"))
    evaluation["metrics"]["bits_per_dim"] = 3.25
    file.write_text(json.dumps(evaluation), encoding="utf-8")
    text = describe(ReportContext(context.run, CONTEXT))
    assert "bits per dimension, " in text
    assert "| bits per dimension | 3.2500 |" in text
