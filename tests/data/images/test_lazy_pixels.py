import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.api import Rows
from flowgmm_cli.data.images.arrays import LazyPixels, lazy_pixels_of

PIXELS = np.random.default_rng(0).integers(0, 256, (17, 3, 4, 3), dtype=np.uint8)


def counting(pixels):
    read = []

    def make(positions):
        read.extend(positions.tolist())
        return pixels[positions]

    return LazyPixels(make, np.arange(len(pixels)), pixels.shape[1:]), read


def test_it_behaves_like_an_array_and_reads_on_access():
    store, read = counting(PIXELS)
    part = store[2:9][np.array([True, False] * 3 + [True])][::-1]
    assert (len(part), part.shape, part.ndim, part.dtype) == (4, (4, 3, 4, 3), 4, PIXELS.dtype)
    assert part.nbytes == 4 * 36
    assert isinstance(part, LazyPixels)
    assert read == []
    np.testing.assert_array_equal(np.asarray(part), PIXELS[[8, 6, 4, 2]])
    assert read == [8, 6, 4, 2]


def an_index(length):
    positions = st.integers(-length, length - 1) if length else st.nothing()
    return st.one_of(
        st.slices(length),
        st.lists(positions, max_size=2 * length).map(lambda positions: np.array(positions, dtype=np.int64)),
        st.lists(st.booleans(), min_size=length, max_size=length).map(lambda bits: np.array(bits, bool)),
    )


@given(st.data())
def test_indices_compose_as_those_of_arrays_do(data):
    array, stores = PIXELS, [counting(PIXELS)[0], lazy_pixels_of(PIXELS)]
    for _ in range(data.draw(st.integers(0, 3))):
        index = data.draw(an_index(len(array)))
        array = array[index]
        stores = [store[index] for store in stores]
    for store in stores:
        assert store.shape == array.shape
        np.testing.assert_array_equal(np.asarray(store), array)
    if len(array):
        place = data.draw(st.integers(-len(array), len(array) - 1))
        for store in stores:
            np.testing.assert_array_equal(store[place], array[place])


def test_rows_of_it_are_taken_without_reading():
    store, read = counting(PIXELS)
    rows = Rows({"image": store}, np.arange(17), np.arange(17))
    part = rows.take(np.arange(17) % 2 == 0).take(np.array([3, 0]))
    assert read == []
    np.testing.assert_array_equal(part.columns["image"], PIXELS[[6, 0]])


def test_values_of_another_type_and_copies():
    store = lazy_pixels_of(PIXELS)
    assert np.asarray(store, dtype=np.float32).dtype == np.float32
    np.testing.assert_array_equal(np.concatenate([store[:2], store[5:6]]), PIXELS[[0, 1, 5]])
    with pytest.raises(ValueError, match="always a copy"):
        np.asarray(store, copy=False)
    np.asarray(store)[:] = 0
    assert PIXELS.any()
