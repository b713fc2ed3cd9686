"""The figures show the numbers they are given, as PNG files of a readable size."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.text import Text

from flowgmm_cli.evaluation.metrics import ClassificationMetrics, classification_metrics, log_probabilities
from flowgmm_cli.report.figures import (
    class_colours,
    figure_style,
    method_colours,
    new_figure,
    png,
    set_title,
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
)
from flowgmm_cli.report.predictions import confusion_figure, reliability_figure
from flowgmm_cli.report.text import shorten


def size(data: bytes) -> tuple[int, int]:
    """Width and height that the header of a PNG file states."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def texts(figure: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks
        figure.canvas.draw()
    return "\n".join(item.get_text() for item in figure.findobj(Text))


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
    words = texts(figure)
    for value in (metrics.ece, metrics.adaptive_ece, metrics.brier, metrics.nll):
        assert f"{value:.4f}" in words


@pytest.mark.parametrize("classes", [2, 10, 45])
def test_the_confusion_matrix_shows_shares_and_counts_for_few_classes(classes: int) -> None:
    metrics = make_metrics(classes)
    figure = confusion_figure(metrics)
    image = np.asarray(figure.axes[0].images[0].get_array())
    counts = np.array(metrics.confusion)
    assert image == pytest.approx(counts / counts.sum(1, keepdims=True))
    cells = [text.get_text() for text in figure.axes[0].texts if text.get_text().isdigit()]
    assert cells == ([str(count) for count in counts.ravel() if count] if classes <= 10 else [])
    width, height = size(png(figure))
    assert 500 < width < 2000
    assert 500 < height < 2000


def test_names_with_dollar_signs_and_unknown_letters_can_be_drawn() -> None:
    metrics = make_metrics(3, names=["$x_1$ & {", "$", "漢字 \U0001f600"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert size(png(confusion_figure(metrics)))[0] > 0
    assert "$x_1$ & {" in texts(confusion_figure(metrics))


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
    words = texts(figure).split("\n")
    assert all(words.count(f"class {k}") == 1 for k in range(classes))
    assert len(figure.axes[0].patches) == 2 * classes * components
    assert ("the plane of" in "\n".join(words)) == (dims > 2)


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


def test_the_plane_of_two_dimensions_is_the_plane_itself() -> None:
    rows = latent(2, 4)
    assert discriminant_plane(rows.z, rows.means).tolist() == np.eye(2).tolist()


def test_regions_mark_the_labelled_rows() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(120, 2))
    x, y = grid_axes(rows)
    assert (len(x), len(y)) == (STEPS, STEPS)
    assert x[0] < np.quantile(rows[:, 0], 0.01) < np.quantile(rows[:, 0], 0.99) < x[-1]
    right = 1 / (1 + np.exp(-4 * np.broadcast_to(x, (len(y), len(x)))))
    labels = np.full(120, -1)
    labels[:7] = (rows[:7, 0] > 0).astype(int)
    density = -0.5 * (x[None, :] ** 2 + y[:, None] ** 2)
    plane = FeaturePlane(
        x, y, np.stack([1 - right, right], axis=2), density, rows, labels, ["left", "right"], ["a", "b"]
    )
    figure = regions_figure(plane)
    dots = [
        len(np.asarray(collection.get_offsets()))
        for collection in figure.axes[0].collections
        if len(np.asarray(collection.get_offsets())) > 1
    ]
    assert 113 in dots
    assert sum(dots) == 120
    words = texts(figure)
    for text in ("left", "right", "unlabelled", "7 labelled and 113 unlabelled"):
        assert text in words
    image = np.asarray(figure.axes[0].images[0].get_array())
    assert image.min() >= 0
    assert image.max() <= 1
    assert image[STEPS // 2, 0, 2] > image[STEPS // 2, 0, 0]  # the first class is blue
    assert image[STEPS // 2, -1, 0] > image[STEPS // 2, -1, 2]  # the second is orange
    assert size(png(figure))[0] > 700


def test_a_density_that_is_nowhere_finite_is_left_out() -> None:
    x = np.linspace(0, 1, 20)
    probabilities = np.full((20, 20, 2), 0.5)
    rows, labels = np.random.default_rng(0).random((9, 2)), np.array([0, 1] + [-1] * 7)
    plane = FeaturePlane(
        x, x, probabilities, np.full((20, 20), -np.inf), rows, labels, ["a", "b"], ["x", "y"]
    )
    assert size(png(regions_figure(plane)))[0] > 700


def test_colours_differ_and_flowgmm_keeps_its_colour() -> None:
    for count in (2, 10, 12, 30):
        assert len(set(class_colours(count))) == count
    assert method_colours(["flowgmm", "knn"])["flowgmm"] == method_colours(["mlp", "flowgmm"])["flowgmm"]


def test_a_figure_does_not_change_matplotlib_settings() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    figure = new_figure(2, 1)
    figure.subplots()
    first, second = png(figure), png(figure, dpi=100)
    assert dict(matplotlib.rcParams) == before
    assert size(first)[0] > size(second)[0]
    assert io.BytesIO(first).read(4) == b"\x89PNG"


def test_long_names_are_cut() -> None:
    assert shorten("a" * 30, 10) == "a" * 9 + "…"
    assert shorten("short", 10) == "short"


def test_an_svg_keeps_text_as_text_and_rasterises_scatter_plots() -> None:
    title = '"a" & <script> 漢字 $x$'
    with figure_style():
        figure = new_figure(3, 2)
        axes = figure.subplots()
        axes.scatter([1, 2], [3, 4], rasterized=True)
        set_title(axes, title, "5 $")
    root = ElementTree.fromstring(svg(figure))
    namespace = "{http://www.w3.org/2000/svg}"
    assert {title, "5 $"} <= {text.text for text in root.iter(f"{namespace}text")}
    (image,) = root.iter(f"{namespace}image")
    assert str(image.get("{http://www.w3.org/1999/xlink}href")).startswith("data:image/png;base64,")
    assert svg(figure) == svg(figure)
