"""The figures show the numbers they are given, as PNG files of a readable size."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from unittest.mock import Mock
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy.stats import chi2

from flowgmm_cli.evaluation.metrics import ClassificationMetrics, classification_metrics, log_probabilities
from flowgmm_cli.messages import escape_controls
from flowgmm_cli.report.figures import (
    figure_style,
    new_axes,
    png,
    svg,
)
from flowgmm_cli.report.latent import (
    STEPS,
    FeaturePlane,
    LatentRows,
    discriminant_plane,
    grid_axes,
    latent_figure,
    regions_figure,
    share_outside,
)
from flowgmm_cli.report.ood import histogram_figure
from flowgmm_cli.report.page import Plot
from flowgmm_cli.report.predictions import confusion_figure, confusion_section, reliability_figure

RNG = np.random.default_rng(0)


def size(data: bytes) -> tuple[int, int]:
    """Width and height that the header of a PNG file states."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def texts(figure: Figure) -> list[str]:
    with warnings.catch_warnings(action="ignore"):  # of letters that the font lacks
        figure.canvas.draw()
    return [item.get_text() for item in figure.findobj(Text)]


def assert_apart(texts: Sequence[Text]) -> list[Bbox]:
    """Assert that texts of a drawn figure do not overlap; return their boxes, without lines to points."""
    boxes = [Text.get_window_extent(text) for text in texts]
    assert all(box.count_overlaps(boxes) == 1 for box in boxes)
    return boxes


def image(figure: Figure) -> np.ndarray:
    """The pixels of the image in the first axes."""
    return np.asarray(figure.axes[0].images[0].get_array())


def make_metrics(classes: int, *, names: list[str] | None = None, n: int = 400) -> ClassificationMetrics:
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(classes), rng.integers(classes, size=n)])
    scores = rng.normal(size=(len(labels), classes)) + 2 * np.eye(classes)[labels]
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return classification_metrics(log_probabilities(p), labels, class_names=names, with_intervals=False)


def test_reliability_bars_are_the_accuracy_of_their_bins() -> None:
    metrics = make_metrics(3)
    figure = reliability_figure(metrics)
    above, below = figure.axes
    heights = [patch.get_height() for patch in above.patches if patch.get_fill() and patch.get_y() == 0]
    accuracies = [group.accuracy for group in metrics.reliability if group.count]
    assert [height for height in heights if height in accuracies] == pytest.approx(accuracies)
    shares = [patch.get_height() for patch in below.patches]
    assert sum(shares) == pytest.approx(1)
    words = "".join(texts(figure))
    for value in (metrics.ece, metrics.adaptive_ece, metrics.brier, metrics.nll):
        assert f"{value:.4f}" in words


def test_of_many_classes_the_confusion_matrix_shows_the_most_frequent_confusions() -> None:
    labels = np.repeat(np.arange(2000), 3)
    predictions = np.where(labels % 500 == 7, labels + 900, labels)  # 4 classes are mistaken for others
    predictions[[0, 30]] = 1999  # once each
    metrics = classification_metrics(np.log(np.eye(3000)[predictions] + 1e-9), labels, with_intervals=False)
    context = Mock()
    context.require_evaluation().classification = metrics
    (plot,) = confusion_section(context)
    assert isinstance(plot, Plot)
    assert "Of the 3,000 classes the figure shows the 50 with the most frequent confusions" in plot.caption
    figure = confusion_figure(metrics)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == 50
    assert {"7", "907", "1507", "2407", "0", "10", "1999"} < set(names)
    assert image(figure)[names.index("7"), names.index("907")] == 1
    assert image(figure)[names.index("0"), names.index("1999")] == pytest.approx(1 / 3)
    assert "50 of 3,000 classes" in "".join(texts(figure))


def test_of_many_classes_the_latent_space_shows_the_largest() -> None:
    rows = latent(4, 2000)
    labels = np.where(np.arange(300) < 120, np.arange(300) % 12 + 100, rows.labels)
    figure = latent_figure(replace(rows, labels=labels))
    assert {f"class {k}" for k in range(100, 112)} == {text for text in texts(figure) if "class " in text[:6]}
    assert len(figure.axes[0].patches) == 2 * 12
    assert len(svg(figure)) < 500_000


@pytest.mark.parametrize("classes", [2, 45])
def test_the_confusion_matrix_shows_shares_and_counts_for_few_classes(classes: int) -> None:
    metrics = make_metrics(classes)
    figure = confusion_figure(metrics)
    counts = np.array(metrics.confusion)
    assert image(figure) == pytest.approx(counts / counts.sum(1, keepdims=True))
    cells = [text.get_text() for text in figure.axes[0].texts if text.get_text().isdigit()]
    assert cells == ([str(count) for count in counts.ravel() if count] if classes <= 10 else [])
    width, height = size(png(figure))
    assert 500 < width < 2000
    assert 500 < height < 2000


def test_names_with_dollar_signs_and_unknown_letters_can_be_drawn() -> None:
    metrics = make_metrics(3, names=["$x_1$ & {", "$", "漢字 \U0001f600"])
    assert size(png(confusion_figure(metrics)))[0] > 0
    assert "$x_1$ & {" in texts(confusion_figure(metrics))


def test_long_names_of_classes_are_whole_and_do_not_overlap() -> None:
    names = ["auto_and_commute", "background_from_electrons", "kitchen_and_dining", "x"]
    for count in (2, 4):
        figure = confusion_figure(make_metrics(count, names=names[:count]))
        assert set(names[:count]) <= set(texts(figure))
        labels, x_labels = figure.axes[0].get_yticklabels(), figure.axes[0].get_xticklabels()
        assert_apart(labels if x_labels[0].get_rotation() else [*labels, *x_labels])


def latent(dims: int, classes: int, components: int = 1) -> LatentRows:
    rng = np.random.default_rng(1)
    owners = np.arange(classes * components) // components
    means = rng.normal(size=(len(owners), dims)) * 3
    picked = rng.integers(len(owners), size=300)
    labels = np.where(rng.random(300) < 0.1, -1, owners[picked])
    z = means[picked] + rng.normal(size=(300, dims))
    names = [f"class {k}" for k in range(classes)]
    return LatentRows(z, labels, means, np.ones((len(owners), dims)), names)


@pytest.mark.parametrize(("dims", "classes", "components"), [(2, 2, 1), (2, 3, 2), (32, 2, 1), (8, 15, 1)])
def test_the_latent_space_names_each_class_and_draws_two_ellipses_a_component(
    dims: int, classes: int, components: int
) -> None:
    figure = latent_figure(latent(dims, classes, components))
    words = texts(figure)
    assert all(words.count(f"class {k}") == 1 for k in range(classes))
    assert len(figure.axes[0].patches) == 2 * classes * components
    assert ("the plane of" in "\n".join(words)) == (dims > 2)


def test_names_cover_no_other_name_and_no_mean() -> None:
    rows = latent(6, 8)
    near = replace(rows, means=rows.means * 0.1, class_names=[f"a long name {k}" for k in range(8)])
    figure = latent_figure(near)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    names = [text for text in axes.texts if text.get_text().startswith("a long name")]
    assert len(names) == 8
    boxes = assert_apart(names)
    frame = axes.get_window_extent()
    assert all(frame.contains(*corner) for box in boxes for corner in (box.min, box.max))
    means = axes.transData.transform([line.get_xydata()[0] for line in axes.lines])  # type: ignore[index]
    assert len(means) == 8
    assert all(box.count_contains(means) == 0 for box in boxes)


def test_the_share_outside_the_ellipses_is_that_of_a_gaussian_for_rows_from_the_model() -> None:
    rng = np.random.default_rng(5)
    means, scales = 9 * rng.normal(size=(3, 4)), rng.uniform(0.5, 2, size=(3, 4))
    labels = rng.integers(3, size=20_000)
    z = means[labels] + scales[labels] * rng.normal(size=(20_000, 4))
    rows = LatentRows(z, labels, means, scales, ["a", "b", "c"])
    assert share_outside(rows) == pytest.approx(1 - chi2(2).cdf(4), abs=0.01)
    assert share_outside(replace(rows, labels=np.full(20_000, -1))) == 0


def test_ellipses_are_the_projected_gaussians() -> None:
    """Isotropic components with standard deviation 2, in any plane: circles of radius 2 and 4."""
    rows = latent(6, 3)
    wide = replace(rows, scales=2 * rows.scales)
    sizes = {(round(patch.width, 6), round(patch.height, 6)) for patch in latent_figure(wide).axes[0].patches}  # type: ignore[attr-defined]
    assert sizes == {(4.0, 4.0), (8.0, 8.0)}


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_the_plane_is_orthonormal_and_shows_the_means_best(classes: int) -> None:
    from sklearn.decomposition import PCA

    rows = latent(9, classes)
    plane = discriminant_plane(rows.z, rows.means)
    assert plane.T @ plane == pytest.approx(np.eye(2), abs=1e-8)
    centred = rows.means - rows.means.mean(0)
    best = PCA(min(2, classes - 1)).fit(rows.means)
    kept = ((centred @ plane) ** 2).sum() / (centred**2).sum()
    assert kept == pytest.approx(best.explained_variance_ratio_.sum())
    assert np.var(rows.z @ plane[:, 1]) > 0.1


def test_regions_mark_the_labelled_rows() -> None:
    rows = np.random.default_rng(2).normal(size=(120, 2))
    x, y = grid_axes(rows)
    assert (len(x), len(y)) == (STEPS, STEPS)
    assert x[0] < np.quantile(rows[:, 0], 0.01) < np.quantile(rows[:, 0], 0.99) < x[-1]
    right = 1 / (1 + np.exp(-4 * np.broadcast_to(x, (STEPS, STEPS))))
    labels = np.where(np.arange(120) < 7, rows[:, 0] > 0, -1)
    density = -0.5 * (x[None, :] ** 2 + y[:, None] ** 2)
    probabilities = np.stack([1 - right, right], axis=2)
    plane = FeaturePlane(x, y, probabilities, density, rows, labels, ["left", "right"], ["a", "b"])
    figure = regions_figure(plane)
    items = figure.axes[0].collections
    dots = [len(np.asarray(item.get_offsets())) for item in items[-3:]]
    assert (dots[2], sum(dots)) == (113, 120)
    assert {"left", "right", "unlabelled", "7 labelled and 113 unlabelled training rows"} <= {*texts(figure)}
    assert 0 <= image(figure).min() <= image(figure).max() <= 1
    first, last = image(figure)[STEPS // 2, [0, -1]]
    assert first[2] > first[0]  # the first class is blue
    assert last[0] > last[2]  # the second is orange
    assert size(png(figure))[0] > 700
    flat = replace(plane, log_density=np.full((STEPS, STEPS), -np.inf))  # nowhere finite
    assert len(regions_figure(flat).axes[0].collections) == len(items) - 1


INSIDE = RNG.gamma(2.0, size=2000)


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        (INSIDE, RNG.gamma(6.0, size=300)),
        (INSIDE, 10 ** RNG.uniform(0, 30, 300)),
        (INSIDE, np.array([4.0])),
        (INSIDE, np.full(3, -1e9)),
        (np.full(5, 5.0), np.full(2, 5.0)),
    ],
    ids=["near", "far", "one row", "far below", "equal"],
)
def test_every_row_is_in_a_bar_and_the_threshold_visible(inside: np.ndarray, outside: np.ndarray) -> None:
    figure = histogram_figure(("in", inside), ("out", outside), threshold=5.0, score="latent_knn", auroc=0.5)
    (axes,) = figure.axes
    for line in axes.patches:
        assert line.get_data().values.sum() == pytest.approx(1)  # type: ignore[attr-defined]
    low, high = axes.get_xlim()
    assert low < 5.0 < high
    assert size(png(figure))[0] > 700


@pytest.mark.parametrize(("outside", "scale"), [(INSIDE + 5, "linear"), (INSIDE * 1e4, "asinh")])
def test_the_axis_is_asinh_scaled_for_far_rows_only(outside: np.ndarray, scale: str) -> None:
    sides, threshold = (("a $x$", INSIDE), ("b", outside)), float(INSIDE.max())
    figure = histogram_figure(*sides, threshold=threshold, score="nll", auroc=0.5)
    axes = figure.axes[0]
    assert axes.get_xscale() == scale
    assert ("log scale" in axes.get_xlabel()) == (scale == "asinh")
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert len(ticks) >= 4
    figure.draw_without_rendering()
    assert_apart(axes.get_xticklabels())
    legend = axes.get_legend()
    assert legend is not None
    flagged = (outside > INSIDE.max()).mean()
    assert [text.get_text() for text in legend.get_texts()] == [
        "a $x$ · 0.0% flagged",
        f"b · {flagged:.1%} flagged",
        f"threshold {INSIDE.max():.4g}",
    ]


def test_an_svg_keeps_text_as_text_and_rasterises_scatter_plots() -> None:
    title = '"a" & <script> 漢字 $x$ \x1b\u202e'
    with figure_style():
        figure, axes = new_axes(3, 2, title, "5 $")
        axes.scatter([1, 2], [3, 4], rasterized=True)
    root = ElementTree.fromstring(svg(figure))
    namespace = "{http://www.w3.org/2000/svg}"
    assert {escape_controls(title), "5 $"} <= {text.text for text in root.iter(f"{namespace}text")}
    (picture,) = root.iter(f"{namespace}image")
    assert str(picture.get("{http://www.w3.org/1999/xlink}href")).startswith("data:image/png;base64,")
    assert svg(figure) == svg(figure)
