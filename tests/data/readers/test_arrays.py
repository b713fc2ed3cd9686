import contextlib
import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flowgmm_cli.api import Column, DataContext
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.readers.array_files import open_arrays
from flowgmm_cli.data.readers.byte_source import find_source
from flowgmm_cli.data.readers.open import open_rows
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.data.sources.images import build
from flowgmm_cli.errors import DataError

X = np.arange(24.0).reshape(6, 2, 2)


def idx(array, code=8, dtype="u1"):
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(dtype).tobytes()


def save(path, array):
    """Write an array to a file of the format that its suffix names; of an npz file it is `arr_0`."""
    if ".idx" in path.name:
        path.write_bytes(gzip.compress(idx(array)) if path.suffix == ".gz" else idx(array))
    else:
        (np.save if path.suffix == ".npy" else np.savez)(path, array)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("arrays", "expected_note"),
    [
        ({"v": X, "x": X + 1}, None),
        ({"x": X, "other": X + 1}, "`x` is read as `v`"),
        ({"train": X + 1, "test": X}, "`test` is read as `v`"),
        ({"mine": X, "wide": np.zeros((6, 5))}, "`mine` is read as `v`"),
        ({"v": X.reshape(6, 4)}, None),
        ({"v": np.asfortranarray(X)}, None),
    ],
)
def test_a_column_is_read_from_the_array_of_its_name_or_the_only_fitting_array(
    rows, read, vector, npz, notes, arrays, expected_note, compressed
):
    reader = rows(npz(compressed, **arrays), vector(2, 2), chunk_rows=4)
    assert reader.total == 6
    assert (read(reader).columns["v"] == X).all()
    assert [expected_note in note for note in notes] == ([True] if expected_note else [])


@pytest.mark.parametrize(
    ("labels", "expected", "unknown"),
    [
        ({"y": np.array(["oak", "ash", "", "fir", "oak", "oak"])}, [1, 0, -1, -1, 1, 1], {3: "fir"}),
        ({"v_label": np.array([0, 1, -1, 7, 1, 1]), "y": np.zeros(6)}, [0, 1, -1, -1, 1, 1], {3: "7"}),
        ({"kind": np.array([0.0, 1, np.nan, 7, 1, 1])}, [0, 1, -1, -1, 1, 1], {3: "7"}),
        ({"y": np.array([0, 1, 2, -1, 1, 1])}, [0, 1, -1, -1, 1, 1], {2: "2"}),
        ({"y": np.zeros(5)}, [-1] * 6, {}),
    ],
)
def test_labels_by_name_or_code(rows, read, vector, npz, labels, expected, unknown):
    schema = vector(2, 2, codes=("ash", "oak", "elm"))
    result = read(rows(npz(v=X, **labels), schema, chunk_rows=2))
    assert result.labels == expected
    assert result.unknown_labels == unknown


def test_arrays_named_in_the_recipe_have_priority(rows, read, vector, npz):
    schema = vector(2, 2, arrays=(("hidden", "h"), ("shown", "s")))
    result = read(rows(npz(x=X + 1, hidden=X, h=np.array(["ash"] * 6), y=np.array(["oak"] * 6)), schema))
    assert (result.columns["v"] == X).all()
    assert result.labels == [0] * 6


def test_columns_of_a_table_are_arrays_too(rows, read, table, npz):
    arrays = {"x": np.arange(3), "colour": np.array([" red", "", "NA"]), "y": np.array([1.5, np.nan, 2])}
    result = read(rows(npz(**arrays, name=np.array([["p"], ["q"], ["r"]])), table))
    assert result["x"] == [0, 1, 2]
    assert result["colour"] == ["red", None, "NA"]
    assert result["y"] == [1.5, None, 2]
    assert result.ids == ["p", "q", "r"]


def test_an_array_of_another_kind_is_named(rows, table, npz):
    with pytest.raises(DataError, match="array `colour` has rows of another kind"):
        rows(npz(x=np.arange(3), colour=np.zeros((3, 2)), y=np.arange(3)), table)


def test_a_matrix_is_read_as_numeric_columns_in_order(rows, read, tmp_path, notes):
    np.save(tmp_path / "t.npy", np.arange(6).reshape(3, 2))
    schema = InputSchema((Column("b", "numeric"), Column("a", "numeric")), ("u",))
    result = read(rows(tmp_path / "t.npy", schema))
    assert (result["b"], result["a"]) == ([0, 2, 4], [1, 3, 5])
    assert "taken in order: b, a" in notes[0]


@pytest.mark.parametrize("kind", ["idx", "npy", "npz"])
def test_rows_are_writable(rows, vector, tmp_path, kind):
    x = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)
    path = tmp_path / f"t.{kind}"
    save(path, x)
    for chunk in rows(path, vector(2, 2), chunk_rows=4):
        assert chunk.columns["v"].flags.writeable  # torch warns of others


def test_idx_with_labels_beside_it(rows, read, vector, write):
    images = np.arange(6 * 4).reshape(6, 2, 2)
    plain = write(idx(images), "t10k-images-idx3-ubyte")
    assert (read(rows(plain, vector(2, 2))).columns["v"] == images).all()
    zipped = write(gzip.compress(idx(images)), "t10k-images-idx3-ubyte.gz")
    write(gzip.compress(idx(np.array([0, 1, 1, 1, 0, 5]))), "t10k-labels-idx1-ubyte.gz")
    schema = InputSchema((Column("v", "vector", (4,)),), ("0", "1"))
    result = read(rows(zipped, schema, chunk_rows=4))
    assert (result.columns["v"] == images.reshape(6, 4)).all()
    assert result.labels == [0, 1, 1, 1, 0, -1]
    numbers = write(idx(images / 7, 0x0D, ">f4"), "t.idx")
    assert np.allclose(read(rows(numbers, vector(2, 2))).columns["v"], images / 7)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"v": np.zeros((3, 5))}, "array `v` holds float64 rows of shape (5,)"),
        ({"p": X, "q": X}, "several arrays"),
        ({"p": np.zeros((3, 7))}, "no array has rows that fit"),
        ({"v": np.array([["a", "b", "c", "d"]])}, "array `v`"),
        ({"v": X[:0]}, "has no rows"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error(rows, vector, npz, arrays, words):
    with pytest.raises(DataError) as caught:
        rows(npz(**arrays), vector(2, 2))
    assert words in caught.value.message


def test_arrays_of_objects_are_never_opened(rows, vector, tmp_path):
    for suffix in ("npy", "npz"):
        path = tmp_path / f"t.{suffix}"
        array = np.array([{"a": 1}], dtype=object)
        np.save(path, array, allow_pickle=True) if suffix == "npy" else np.savez(path, v=array)
        with pytest.raises(DataError, match=r"no rows of numbers|holds object rows"):
            rows(path, vector(1))


@pytest.mark.parametrize("suffix", ["npz", "npy", "idx"])
def test_damaged_files(rows, read, vector, npz, write, suffix, tmp_path):
    with pytest.raises(DataError):
        rows(write("nonsense", f"n.{suffix}"), vector(2, 2))
    if suffix == "idx":
        path = write(idx(X)[:-3], "cut.idx")
        with pytest.raises(DataError, match="ends after row 5 of 6"):
            read(rows(path, vector(2, 2)))
    if suffix == "npz":
        content = bytearray(npz(v=X).read_bytes())
        content[content.index(struct.pack("<d", 7.0))] ^= 0xFF
        with pytest.raises(DataError, match="cannot be read"):
            read(rows(write(bytes(content), "bad.npz"), vector(2, 2)))


@pytest.mark.parametrize("suffix", ["npy", "npy.gz", "npz"])
@pytest.mark.parametrize(
    ("shape", "dtype", "fortran", "reason"),
    [
        ((10**12, 4), "<f8", False, "ends after row 31 of|not enough memory"),
        ((10**12, 4), "<f8", True, "in Fortran order|mmap length is greater|not enough memory"),
        ((10**12, 0), "<f8", False, "its rows are empty"),
        ((2, 2**40), "<f8", False, "one row of it takes more than 256 MiB"),
        ((4,), "<U500000000", False, "one row of it takes more than 256 MiB"),
    ],
)
def test_sizes_that_a_file_only_claims_take_no_memory(tmp_path, suffix, shape, dtype, fortran, reason):
    header = io.BytesIO()
    values = {"descr": dtype, "fortran_order": fortran, "shape": shape}
    np.lib.format.write_array_header_2_0(header, values)
    content = header.getvalue() + bytes(1000)
    path = tmp_path / f"t.{suffix}"
    if suffix == "npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("v.npy", content)
    else:
        path.write_bytes(gzip.compress(content) if suffix == "npy.gz" else content)
    (array,) = open_arrays(find_source(str(path)), suffix[:3]).values()
    for read in (lambda: list(array.read(100)), array.load):
        with pytest.raises(DataError, match=reason):
            read()


@pytest.mark.parametrize("suffix", ["npy", "npz", "idx"])
def test_arrays_that_change_while_they_are_read_are_an_error(tmp_path, suffix):
    path = tmp_path / f"t.{suffix}"
    save(path, X)
    (array,) = open_arrays(find_source(str(path)), suffix).values()
    save(path, X[:5] + 1)
    with pytest.raises(DataError, match="has been written since"):
        array.load()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), suffix=st.sampled_from(["npy", "npz", "idx", "idx.gz"]))
def test_a_damaged_file_is_an_error_of_the_data(data, suffix, tmp_path, context):
    path = tmp_path / f"t.{suffix}"
    images = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)
    save(path, images)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, min(len(content), 160) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    schema = InputSchema((Column("v", "image", (2, 2)),), ("0", "1"))
    for read in (
        lambda: list(open_rows(str(path), schema, context=context)),
        lambda: build(ImagesConfig(path=str(path), x="arr_0"), context).load(),
    ):
        with contextlib.suppress(DataError):
            read()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    array=hnp.arrays(
        st.sampled_from([np.dtype(t) for t in ("<f4", ">f8", "u1", "i8", "?", "f2")]),
        st.tuples(st.integers(1, 20), st.integers(1, 3), st.integers(1, 3)),
        elements={"allow_nan": False},
    ),
    size=st.integers(1, 7),
    kind=st.sampled_from(["npy", "npz", "zipped"]),
    fortran=st.booleans(),
)
def test_every_array_comes_back_in_order(array, size, kind, fortran, read, tmp_path):
    path = tmp_path / ("t.npy" if kind == "npy" else "t.npz")
    stored = np.asfortranarray(array) if fortran else array
    np.savez_compressed(path, v=stored) if kind == "zipped" else save(path, stored)
    schema = InputSchema((Column("v", "vector", array.shape[1:]),), ("a",))
    result = read(open_rows(str(path), schema, context=DataContext(), chunk_rows=size))
    assert np.array_equal(result.columns["v"], array)
    assert result.ids == [str(row + 1) for row in range(len(array))]
