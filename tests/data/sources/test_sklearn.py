import numpy as np
import pytest

from flowgmm_cli.data.sources.sklearn import build
from flowgmm_cli.data.specs import SklearnConfig

DRAWN = ["two_moons", "two_circles", "eight_gaussians", "pinwheel"]


def load(context, **parameters):
    return build(SklearnConfig(**parameters), context).load()


def points(rows):
    return np.stack([rows.columns["x1"], rows.columns["x2"]], 1)


def test_digits_are_pixels_between_0_and_1(context):
    data = load(context, name="digits")
    (column,) = data.columns
    assert (column.name, column.kind, column.shape) == ("pixels", "vector", (8, 8))
    pixels = data.splits["train"].columns["pixels"]
    assert pixels.shape == (1797, 8, 8)
    assert (pixels.min(), pixels.max()) == (0, 1)
    assert data.class_names == tuple("0123456789")


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawn_set_has_fresh_test_rows_and_follows_its_seed(context, name):
    first, second = (load(context, name=name, n=200, test_n=100, seed=4) for _ in range(2))
    train, test = points(first.splits["train"]), points(first.splits["test"])
    assert (train == points(second.splits["train"])).all()
    assert train.shape == (200, 2)
    assert test.shape == (100, 2)
    assert not (points(load(context, name=name, n=200, seed=5).splits["train"]) == train).all()
    assert not set(map(tuple, train)) & set(map(tuple, test))
    assert len(set(first.splits["train"].ids) | set(first.splits["test"].ids)) == 300


@pytest.mark.parametrize(("name", "classes"), [("two_moons", 2), ("two_circles", 2), ("pinwheel", 5)])
def test_classes_are_of_equal_size(context, name, classes):
    data = load(context, name=name, n=1000)
    assert np.bincount(data.splits["train"].labels).tolist() == [1000 // classes] * classes
    assert len(data.class_names) == classes


@pytest.mark.parametrize(
    ("name", "centres", "radii"),
    [("two_circles", [[0, 0], [0, 0]], [1, 0.4]), ("two_moons", [[0, 0], [1, 0.5]], [1, 1])],
)
def test_without_noise_points_lie_on_the_circles_of_the_paper(context, name, centres, radii):
    rows = load(context, name=name, noise=0.0).splits["train"]
    radius = np.linalg.norm(points(rows) - np.take(centres, rows.labels, axis=0), axis=1)
    assert np.allclose(radius, np.take(radii, rows.labels))


def test_eight_gaussians_are_three_classes_of_neighbours(context):
    rows = load(context, name="eight_gaussians", noise=0.0).splits["train"]
    blob = np.round(np.arctan2(points(rows)[:, 1], points(rows)[:, 0]) / (np.pi / 4)).astype(int) % 8
    assert {int(b): set(rows.labels[blob == b].tolist()) for b in range(8)} == {
        b: {label} for b, label in enumerate([0, 0, 0, 1, 1, 1, 2, 2])
    }


def test_no_test_rows_on_request(context):
    assert set(load(context, name="two_moons", test_n=0).splits) == {"train"}
