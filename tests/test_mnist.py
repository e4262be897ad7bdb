"""load_mnist: the shipped files, other folders, and every kind of invalid file."""

import gzip
import hashlib
import io
import math
import os
import struct
import tracemalloc
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import net.mnist
from net.mnist import _parse_idx, load_mnist

DATA = Path(net.mnist.__file__).with_name("data")
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
X_TRAIN, T_TRAIN, X_TEST, T_TEST = SHA256

Set = tuple[NDArray[Any], NDArray[Any]]
Sets = tuple[Set, Set]


# ------------------------------------------------------------------------ the shipped files


@pytest.fixture(scope="module")
def default() -> Sets:
    return load_mnist()


@pytest.fixture(scope="module")
def raw() -> Sets:
    return load_mnist(normalize=False, flatten=False)


@pytest.mark.parametrize("name", SHA256)
def test_shipped_files_are_the_originals(name: str) -> None:
    unpacked = gzip.decompress((DATA / f"{name}.gz").read_bytes())
    assert hashlib.sha256(unpacked).hexdigest() == SHA256[name]


def test_readme_and_license_lie_beside_the_shipped_files() -> None:
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    for name, digest in SHA256.items():
        assert f"{digest}  {name}\n" in readme
    assert "CC BY-SA 3.0" in (DATA / "LICENSE").read_text(encoding="utf-8")


def test_default(default: Sets) -> None:
    (x_train, t_train), (x_test, t_test) = default
    assert x_train.shape == (60000, 784)
    assert x_test.shape == (10000, 784)
    assert t_train.shape == (60000,)
    assert t_test.shape == (10000,)
    assert x_train.dtype == x_test.dtype == np.float32
    assert t_train.dtype == t_test.dtype == np.uint8
    assert_array_equal(t_train[:10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4])
    assert_array_equal(t_test[:10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9])
    assert_array_equal(np.unique(t_train), np.arange(10))


def test_raw_pixels_are_the_bytes_of_the_files(raw: Sets) -> None:
    for (x, t), x_name, t_name in zip(raw, (X_TRAIN, X_TEST), (T_TRAIN, T_TEST), strict=True):
        assert x.dtype == np.uint8
        assert x.shape == (len(t), 1, 28, 28)
        header = struct.pack(">4I", 2051, len(t), 28, 28)
        assert hashlib.sha256(header + x.tobytes()).hexdigest() == SHA256[x_name]
        header = struct.pack(">2I", 2049, len(t))
        assert hashlib.sha256(header + t.tobytes()).hexdigest() == SHA256[t_name]


def test_normalised_pixels_are_exact(default: Sets, raw: Sets) -> None:
    for (x, t), (pixels, labels) in zip(default, raw, strict=True):
        expected = pixels.reshape(len(t), -1).astype(np.float32)
        expected /= 255
        assert np.array_equal(x, expected)  # assert_array_equal takes a second more
        assert_array_equal(t, labels, strict=True)
    assert default[0][0].min() == 0
    assert default[0][0].max() == 1


# ------------------------------------------------------------------------ other folders


def idx(values: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">{1 + values.ndim}I", 2048 + values.ndim, *values.shape) + values.tobytes()


def make(train: int, test: int, height: int, width: int) -> dict[str, NDArray[np.uint8]]:
    """Return a small data set by file name, with labels 0 to 3; only the test set has a 3."""
    rng = np.random.default_rng(0)
    arrays = {
        X_TRAIN: rng.integers(0, 256, (train, height, width), np.uint8),
        T_TRAIN: np.arange(train, dtype=np.uint8) % 3,
        X_TEST: rng.integers(0, 256, (test, height, width), np.uint8),
        T_TEST: 3 - np.arange(test, dtype=np.uint8) % 4,
    }
    arrays[X_TRAIN].flat[:2] = 0, 255
    return arrays


@pytest.fixture
def arrays() -> dict[str, NDArray[np.uint8]]:
    return make(7, 4, 3, 5)


@pytest.fixture
def folder(tmp_path: Path, arrays: dict[str, NDArray[np.uint8]]) -> Path:
    for name, values in arrays.items():
        (tmp_path / name).write_bytes(idx(values))
    return tmp_path


@pytest.mark.parametrize(
    ("normalize", "flatten", "one_hot_label"), list(product((True, False), repeat=3))
)
def test_flags(
    folder: Path,
    arrays: dict[str, NDArray[np.uint8]],
    normalize: bool,
    flatten: bool,
    one_hot_label: bool,
) -> None:
    train, test = load_mnist(normalize, flatten, one_hot_label, folder)
    names = (X_TRAIN, T_TRAIN), (X_TEST, T_TEST)
    for (x, t), (x_name, t_name) in zip((train, test), names, strict=True):
        pixels, labels = arrays[x_name], arrays[t_name]
        expected_x: NDArray[Any] = pixels.reshape((len(x), 15) if flatten else (len(x), 1, 3, 5))
        if normalize:
            expected_x = expected_x.astype(np.float32) / 255
        # Four columns in both sets, although the training set has no 3.
        expected_t = np.eye(4)[labels] if one_hot_label else labels
        assert_array_equal(x, expected_x, strict=True)
        assert_array_equal(t, expected_t, strict=True)
        for array in (x, t):
            assert array.flags.c_contiguous
            assert array.flags.writeable


def test_numpy_bools_are_flags(folder: Path) -> None:
    # NumPy's bools are accepted, too, although the annotations say bool.
    (x, t), _ = load_mnist(np.False_, np.False_, np.True_, folder)  # type: ignore[arg-type]
    assert x.dtype == np.uint8
    assert x.shape == (7, 1, 3, 5)
    assert t.shape == (7, 4)


@pytest.mark.parametrize("dot", "-.")
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("as_type", [str, Path])
@pytest.mark.parametrize("sizes", [(7, 4, 3, 5), (1, 1, 1, 1), (2, 3, 40, 1)])
def test_other_folders(
    tmp_path: Path,
    dot: str,
    zipped: bool,
    as_type: type[str] | type[Path],
    sizes: tuple[int, int, int, int],
) -> None:
    arrays = make(*sizes)
    for name, values in arrays.items():
        file = tmp_path / name.replace("-idx", f"{dot}idx")
        if zipped:
            Path(f"{file}.gz").write_bytes(gzip.compress(idx(values)))
        else:
            file.write_bytes(idx(values))
    (x_train, t_train), (x_test, t_test) = load_mnist(False, False, path=as_type(tmp_path))
    assert_array_equal(x_train[:, 0], arrays[X_TRAIN], strict=True)
    assert_array_equal(x_test[:, 0], arrays[X_TEST], strict=True)
    assert_array_equal(t_train, arrays[T_TRAIN], strict=True)
    assert_array_equal(t_test, arrays[T_TEST], strict=True)


def test_images_of_more_than_one_chunk(tmp_path: Path) -> None:
    arrays = make(3, 1, 1000, 700)
    assert arrays[X_TRAIN].size > net.mnist._CHUNK
    for name, values in arrays.items():
        (tmp_path / name).write_bytes(idx(values))
    (x_train, _), _ = load_mnist(path=tmp_path)
    assert_array_equal(x_train, arrays[X_TRAIN].reshape(3, -1) / np.float32(255), strict=True)


def test_plain_file_is_preferred_and_member_gzip_is_read(folder: Path) -> None:
    (folder / f"{X_TRAIN}.gz").write_bytes(b"not read")
    whole = (folder / T_TRAIN).read_bytes()
    (folder / T_TRAIN).unlink()
    # A gzip file may have several members.
    (folder / f"{T_TRAIN}.gz").write_bytes(gzip.compress(whole[:9]) + gzip.compress(whole[9:]))
    (_, t_train), _ = load_mnist(path=folder)
    assert_array_equal(t_train, [0, 1, 2, 0, 1, 2, 0])


def test_each_call_returns_new_arrays(folder: Path) -> None:
    (x_train, t_train), _ = load_mnist(path=folder)
    x_train[:], t_train[:] = -1, 9
    (x_again, t_again), _ = load_mnist(path=folder)
    assert x_again.min() == 0
    assert t_again.max() == 2


# ------------------------------------------------------------------------ parts


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("one_hot", [False, True])
def test_parts_are_the_whole(folder: Path, n: int, zipped: bool, one_hot: bool) -> None:
    """Some parts are empty if there are more parts than images."""
    whole = load_mnist(path=folder, one_hot_label=one_hot)
    if zipped:
        for file in list(folder.iterdir()):
            file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    parts = [load_mnist(path=folder, part=(k, n), one_hot_label=one_hot) for k in range(n)]
    for which in (0, 1):
        for array in (0, 1):
            pieces = [part[which][array] for part in parts]
            assert_array_equal(np.concatenate(pieces), whole[which][array], strict=True)
            assert max(map(len, pieces)) - min(map(len, pieces)) <= 1
            assert all(piece.flags.owndata or piece.base.nbytes == piece.nbytes for piece in pieces)


def test_part_reads_no_further(folder: Path, arrays: dict[str, NDArray[np.uint8]]) -> None:
    """Damage after a part is not seen; damage before the last part raises an error."""
    content = idx(arrays[X_TRAIN])
    (folder / X_TRAIN).write_bytes(content[:-1])
    (x_train, _), _ = load_mnist(path=folder, part=(0, 2))
    assert x_train.shape == (3, 15)
    with pytest.raises(ValueError, match=r"expected 60 bytes from number 3 on, .* only 59;"):
        load_mnist(path=folder, part=(1, 2))
    (folder / X_TRAIN).write_bytes(content + b"0")
    with pytest.raises(ValueError, match=r"expected 60 bytes from number 3 on, .* found more;"):
        load_mnist(path=folder, part=(1, 2))


def test_part_with_other_number_of_labels(
    folder: Path, arrays: dict[str, NDArray[np.uint8]]
) -> None:
    (folder / T_TRAIN).write_bytes(idx(arrays[T_TRAIN][:-1]))
    with pytest.raises(ValueError, match=r"expected 7 labels.* found 6"):
        load_mnist(path=folder, part=(0, 2))


@pytest.mark.parametrize("part", [(0, 0), (2, 2), (-1, 2), (0, -1)])
def test_part_that_is_none(part: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"^part"):
        load_mnist(part=part)


@pytest.mark.parametrize("part", [1, (1,), (0, 1, 2), "01", (0.5, 2), (True, 2)])
def test_part_of_wrong_type(part: Any) -> None:
    with pytest.raises(TypeError, match=r"^part"):
        load_mnist(part=part)


# ------------------------------------------------------------------------ wrong arguments


@pytest.mark.parametrize("name", ["normalize", "flatten", "one_hot_label"])
@pytest.mark.parametrize("flag", [1, "yes", None, np.array([True])])
def test_flag_of_wrong_type(name: str, flag: object) -> None:
    with pytest.raises(TypeError, match=rf"^{name}: expected True or False, found"):
        load_mnist(**{name: flag})  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("path", [3, b"folder", ["folder"], False])
def test_path_of_wrong_type(path: object) -> None:
    with pytest.raises(TypeError, match=r"^path: expected a name as str or os\.PathLike, got"):
        load_mnist(path=path)  # type: ignore[arg-type]  # wrong on purpose


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere: expected a folder .* found no such"):
        load_mnist(path=tmp_path / "nowhere")


def test_path_is_a_file(folder: Path) -> None:
    with pytest.raises(ValueError, match=rf"{X_TRAIN}: expected a folder .* found a file; pass"):
        load_mnist(path=folder / X_TRAIN)


@pytest.mark.parametrize("name", SHA256)
def test_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    dotted = name.replace("-idx", ".idx")
    pattern = rf"{name}: expected this file, or .*{dotted}, {name}\.gz, {dotted}\.gz; found none"
    with pytest.raises(FileNotFoundError, match=pattern):
        load_mnist(path=folder)
    # Some unpackers create a folder with the file's name.
    (folder / name).mkdir()
    with pytest.raises(FileNotFoundError, match=pattern):
        load_mnist(path=folder)


# ------------------------------------------------------------------------ wrong files


def fails(folder: Path, name: str, *parts: str) -> None:
    """Check that loading raises an error with the name of the file and all the parts."""
    with pytest.raises(ValueError, match="expected") as caught:
        load_mnist(path=folder)
    message = str(caught.value)
    assert message.startswith(f"{folder / name}: expected ")
    for part in parts:
        assert part in message
    assert "; " in message, "says what to do"


@pytest.mark.parametrize("name", SHA256)
@pytest.mark.parametrize("cut", [1, 3])
def test_too_short(folder: Path, arrays: dict[str, NDArray[np.uint8]], name: str, cut: int) -> None:
    (folder / name).write_bytes(idx(arrays[name])[:-cut])
    size = arrays[name].size
    fails(folder, name, f"expected {size} bytes", f"found only {size - cut};", "fetch it again")


@pytest.mark.parametrize("name", SHA256)
@pytest.mark.parametrize("zipped", [False, True])
def test_too_long(
    folder: Path, arrays: dict[str, NDArray[np.uint8]], name: str, zipped: bool
) -> None:
    content = idx(arrays[name]) + b"\0"
    (folder / name).unlink()
    file = folder / (f"{name}.gz" if zipped else name)
    file.write_bytes(gzip.compress(content) if zipped else content)
    fails(folder, file.name, f"expected {arrays[name].size} bytes", "found more;")


@pytest.mark.parametrize("length", range(16))
def test_cut_off_header(folder: Path, length: int) -> None:
    (folder / X_TEST).write_bytes((folder / X_TEST).read_bytes()[:length])
    fails(folder, X_TEST, "header of 16 bytes", f"found only {length} bytes", "fetch it again")


def test_swapped(folder: Path) -> None:
    images, labels = (folder / X_TRAIN).read_bytes(), (folder / T_TRAIN).read_bytes()
    (folder / X_TRAIN).write_bytes(labels)
    fails(folder, X_TRAIN, "magic number 2051 (IDX images)", "found 2049 (labels)", "swapped")
    (folder / X_TRAIN).write_bytes(images)
    (folder / T_TRAIN).write_bytes(images)
    fails(folder, T_TRAIN, "magic number 2049 (IDX labels)", "found 2051 (images)", "swapped")


@pytest.mark.parametrize("magic", [0, 2050, 0x0D03, 0x03080000, 2**32 - 1])
def test_wrong_magic(folder: Path, magic: int) -> None:
    content = struct.pack(">I", magic) + (folder / X_TEST).read_bytes()[4:]
    (folder / X_TEST).write_bytes(content)
    fails(folder, X_TEST, "magic number 2051", f"found {magic} (neither images nor labels")


@pytest.mark.parametrize("shape", [(0, 3, 5), (4, 0, 5), (4, 3, 0), (0, 2**32 - 1, 2**32 - 1)])
def test_zero_dimension(folder: Path, shape: tuple[int, ...]) -> None:
    (folder / X_TEST).write_bytes(struct.pack(">4I", 2051, *shape))
    found = " x ".join(map(str, shape))
    fails(folder, X_TEST, "dimensions of at least 1", f"found {found};")


@pytest.mark.parametrize(("x_name", "t_name"), [(X_TRAIN, T_TRAIN), (X_TEST, T_TEST)])
def test_other_number_of_labels(
    folder: Path, arrays: dict[str, NDArray[np.uint8]], x_name: str, t_name: str
) -> None:
    (folder / t_name).write_bytes(idx(arrays[t_name][:-1]))
    n = len(arrays[t_name])
    fails(folder, t_name, f"expected {n} labels", x_name, f"found {n - 1};")


def test_other_size_in_test_set(folder: Path) -> None:
    (folder / X_TEST).write_bytes(idx(np.zeros((4, 5, 3), np.uint8)))
    fails(folder, X_TEST, "expected images of 3 x 5 pixels", X_TRAIN, "found 5 x 3;")


# ------------------------------------------------------------------------ wrong gzip


@pytest.fixture
def zipped(folder: Path) -> bytearray:
    """Return the gzip'd training images, to be damaged and written by `put`."""
    content = (folder / X_TRAIN).read_bytes()
    (folder / X_TRAIN).unlink()
    return bytearray(gzip.compress(content, mtime=0))


def put(folder: Path, content: bytes | bytearray) -> str:
    name = f"{X_TRAIN}.gz"
    (folder / name).write_bytes(content)
    return name


def test_not_gzip(folder: Path, arrays: dict[str, NDArray[np.uint8]], zipped: bytearray) -> None:
    name = put(folder, idx(arrays[X_TRAIN]))
    fails(folder, name, "a whole gzip file", "Not a gzipped file", "take .gz off its name")


def test_gzip_without_gz_in_its_name(folder: Path, zipped: bytearray) -> None:
    (folder / X_TRAIN).write_bytes(zipped)
    fails(folder, X_TRAIN, "expected IDX images", "found gzip'd data", "name end in .gz")


def test_wrong_checksum(folder: Path, zipped: bytearray) -> None:
    zipped[-8] ^= 1
    fails(folder, put(folder, zipped), "a whole gzip file", "CRC", "fetch the file again")


def test_wrong_length_in_gzip(folder: Path, zipped: bytearray) -> None:
    zipped[-1] ^= 1
    fails(folder, put(folder, zipped), "a whole gzip file", "length", "fetch the file again")


def test_garbled_gzip(folder: Path, zipped: bytearray) -> None:
    zipped[10:20] = b"\xff" * 10
    fails(folder, put(folder, zipped), "a whole gzip file", "decompressing", "fetch the file again")


def test_cut_off_gzip(folder: Path, zipped: bytearray) -> None:
    for length in (1, 2, 9, 10, 11, 30, *range(len(zipped) - 10, len(zipped))):
        fails(folder, put(folder, zipped[:length]), "a whole gzip file", "fetch the file again")
    fails(folder, put(folder, b""), "header of 16 bytes", "found only 0 bytes")


def test_more_after_gzip(folder: Path, zipped: bytearray) -> None:
    fails(folder, put(folder, zipped + b"more"), "a whole gzip file", "fetch the file again")


# ------------------------------------------------------------------------ hostile files


def peak(call: Callable[[], object]) -> int:
    """Return the peak memory of a call in bytes, including that of NumPy and bytearray."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_peak_sees_memory() -> None:
    assert peak(lambda: np.empty(50_000_000, np.uint8)) > 50_000_000
    assert peak(lambda: bytearray(50_000_000)) > 50_000_000


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (2**31, 1, 1), (1, 2**16, 2**16)])
def test_header_that_promises_too_much(
    folder: Path, shape: tuple[int, int, int], zipped: bool
) -> None:
    content = struct.pack(">4I", 2051, *shape) + bytes(100)
    (folder / X_TRAIN).unlink()
    name = f"{X_TRAIN}.gz" if zipped else X_TRAIN
    (folder / name).write_bytes(gzip.compress(content) if zipped else content)
    parts = f"expected {math.prod(shape)} bytes", "found only 100;"
    assert peak(lambda: fails(folder, name, *parts)) < 5_000_000


def test_gzip_bomb(folder: Path) -> None:
    content = struct.pack(">4I", 2051, 7, 3, 5) + bytes(100_000_000)
    (folder / X_TRAIN).unlink()
    name = f"{X_TRAIN}.gz"
    (folder / name).write_bytes(gzip.compress(content, 1))
    assert peak(lambda: fails(folder, name, "expected 105 bytes", "found more;")) < 5_000_000


def test_huge_file(folder: Path) -> None:
    os.truncate(folder / X_TRAIN, 10**10)  # a sparse file of zeros
    assert peak(lambda: fails(folder, X_TRAIN, "expected 105 bytes", "found more;")) < 5_000_000


def check_parser(stream: io.BufferedIOBase, ndim: int) -> None:
    """Check that the parser returns an array or raises ValueError, whatever the stream holds."""
    try:
        array, _ = _parse_idx(stream, ndim)
    except ValueError:
        return
    assert array.ndim == ndim
    assert array.size > 0


dimension = st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1))
header = st.builds(
    lambda magic, shape: struct.pack(f">{1 + len(shape)}I", magic, *shape),
    st.sampled_from([2049, 2051, 2050, 0]),
    st.lists(dimension, max_size=3),
)


@settings(deadline=None)
@given(st.one_of(st.just(b""), header), st.binary(max_size=40), st.sampled_from([1, 3]))
def test_parser_raises_only_value_error(head: bytes, body: bytes, ndim: int) -> None:
    check_parser(io.BytesIO(head + body), ndim)
    check_parser(gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(head + body))), ndim)
    check_parser(gzip.GzipFile(fileobj=io.BytesIO(head + body)), ndim)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 255))
def test_parser_raises_only_value_error_for_damaged_gzip(place: int, value: int) -> None:
    content = bytearray(gzip.compress(idx(np.zeros((2, 3, 5), np.uint8)), mtime=0))
    content[place % len(content)] = value
    check_parser(gzip.GzipFile(fileobj=io.BytesIO(content)), 3)
