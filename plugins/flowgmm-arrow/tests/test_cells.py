import doctest

import numpy as np
import pyarrow as pa

from flowgmm_arrow import cells


def test_the_examples_hold() -> None:
    actual = doctest.testmod(cells)
    assert actual.attempted > 0
    assert actual.failed == 0


def test_tensors_keep_their_shape() -> None:
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    np.testing.assert_array_equal(cells.vectors(tensors, "x"), values)


def test_slices_are_read_from_where_they_begin() -> None:
    lists = pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float64(), 2)).slice(1)
    np.testing.assert_array_equal(cells.vectors(lists, "x"), [[3, 4], [5, 6]])
    words = pa.array(["a", None, "b", "a"]).dictionary_encode().slice(1)
    assert cells.strings(words).tolist() == [None, "b", "a"]
