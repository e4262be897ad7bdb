"""MNIST, and other data sets of images and labels in IDX files.

An IDX file is a header of big-endian 32-bit numbers followed by the values. The first number, the
magic number, is 2048 (the code for unsigned bytes) plus the number of dimensions; the others are
the dimensions: three for images (number, height, width), one for labels.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from net.validation import check_int, check_path

__all__ = ["load_mnist"]

Split: TypeAlias = tuple[NDArray[Any], NDArray[Any]]

_DATA = Path(__file__).with_name("data")
_FILES = (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1))
_CONTENT = {2049: "labels", 2051: "images"}
_CHUNK = 1 << 20  # bytes read, and pixels normalised, at a time


def load_mnist(
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
    path: str | os.PathLike[str] | None = None,
    part: tuple[int, int] | None = None,
) -> tuple[Split, Split]:
    """Load the MNIST digits, or another data set in the same format.

    Parameters
    ----------
    normalize : bool, default True
        If True, pixels are float32 from 0 to 1 (the byte divided by 255). If False, pixels are
        uint8 from 0 to 255.
    flatten : bool, default True
        If True, each image is one row: ``(N, height * width)``. If False, images have shape
        ``(N, 1, height, width)``.
    one_hot_label : bool, default False
        If True, labels are one-hot, float64 of shape ``(N, classes)``, where ``classes`` is the
        largest label of both sets plus one. If False, labels are class indices, uint8 of shape
        ``(N,)``.
    path : str or os.PathLike, optional
        A folder with four IDX files of unsigned bytes: ``train-images-idx3-ubyte``,
        ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``.
        A file may be compressed by gzip, with ``.gz`` after its name, and its name may have a dot
        before ``idx``. An uncompressed file is preferred to a compressed one. The images may have
        any number and any size, but the size must be the same in both sets. By default, the MNIST
        files of the package are loaded.
    part : (int, int), optional
        ``(k, n)``, with k from 0 to n - 1: load only the k-th of n consecutive parts of each set,
        rows ``N * k // n`` to ``N * (k + 1) // n``, for training on n processes. Only the images of
        this part are held in memory. Of an uncompressed file only this part is read; a compressed
        file is read from its start to the end of the part. The length and checksum of an image file
        are checked only when the last part is read.

    Returns
    -------
    (x_train, t_train), (x_test, t_test)
        Images and labels of the training set and the test set, in new, writable, C-contiguous
        arrays.
        MNIST has 60,000 and 10,000 images of 28 x 28 pixels.

    Raises
    ------
    FileNotFoundError
        If the folder or one of its four files does not exist.
    ValueError
        If `path` is not a folder; if a file has damaged or missing gzip compression, or a wrong
        magic number, dimension or length; or if the files do not match: the numbers of images and
        labels differ, or the sizes of the images in both sets.
    TypeError
        If an argument has the wrong type.

    Notes
    -----
    MNIST is by Yann LeCun, Corinna Cortes and Christopher J. C. Burges, under CC BY-SA 3.0:
    http://yann.lecun.com/exdb/mnist/

    Examples
    --------
    >>> (x_train, t_train), (x_test, t_test) = load_mnist()
    >>> x_train.shape, x_train.dtype
    ((60000, 784), dtype('float32'))
    >>> t_train[:5]
    array([5, 0, 4, 1, 9], dtype=uint8)
    """
    flags = {"normalize": normalize, "flatten": flatten, "one_hot_label": one_hot_label}
    for name, flag in flags.items():
        if not isinstance(flag, bool | np.bool_):
            raise TypeError(f"{name}: expected True or False, found {flag!r}")
    part = _part(part)

    # Find all four files before reading any. Read and normalise them in threads: zlib and NumPy
    # release the GIL.
    folder = _folder(path)
    files = [_find(folder, part, ndim) for part, ndim in _FILES]
    with ThreadPoolExecutor() as pool:
        # All labels are read, because the number of classes depends on all of them.
        parts = [part if ndim == 3 else (0, 1) for _, ndim in _FILES]
        arrays: Iterator[tuple[NDArray[Any], int]] = pool.map(
            read_idx, files, [ndim for _, ndim in _FILES], parts
        )
        (x_train, n_train), (t_train, _), (x_test, n_test), (t_test, _) = arrays
        _check_counts(files[0], n_train, files[1], len(t_train))
        _check_counts(files[2], n_test, files[3], len(t_test))
        _check_sizes(files[0], x_train, files[2], x_test)
        if normalize:
            x_train, x_test = _normalize(x_train, pool), _normalize(x_test, pool)

    height, width = x_train.shape[1:]
    shape = (height * width,) if flatten else (1, height, width)
    classes = 1 + int(max(t_train.max(), t_test.max()))
    if part != (0, 1):
        t_train, t_test = (t[slice(*_rows(len(t), part))].copy() for t in (t_train, t_test))
    if one_hot_label:
        one_hot = np.eye(classes)
        t_train, t_test = one_hot[t_train], one_hot[t_test]
    return (x_train.reshape(-1, *shape), t_train), (x_test.reshape(-1, *shape), t_test)


def load_test_set(path: str | os.PathLike[str] | None = None) -> Split:
    """Load the test set of a folder, or that of MNIST.

    The files of the training set may be missing.

    Parameters
    ----------
    path : str or os.PathLike, optional

    Returns
    -------
    images : ndarray of uint8, shape (N, height, width)
    labels : ndarray of uint8, shape (N,)

    Raises
    ------
    OSError, ValueError
        As `load_mnist`.
    """
    folder = _folder(path)
    x_file, t_file = (_find(folder, part, ndim) for part, ndim in _FILES[2:])
    (images, n), (labels, _) = read_idx(x_file, 3), read_idx(t_file, 1)
    _check_counts(x_file, n, t_file, len(labels))
    return images, labels


def is_data_file(name: str) -> bool:
    """Return whether a name is that of an IDX file of images or labels in a data folder.

    Parameters
    ----------
    name : str

    Returns
    -------
    bool
    """
    return any(name in _names(part, ndim) for part, ndim in _FILES)


def _part(part: Any) -> tuple[int, int]:
    """Check the argument `part`, and return ``(k, n)``."""
    if part is None:
        return 0, 1
    if not isinstance(part, tuple | list) or len(part) != 2:
        raise TypeError(f"part: expected (k, n), two integers, found {part!r}")
    n = check_int(part[1], "part[1]", 1)
    k = check_int(part[0], "part[0]", 0)
    if k >= n:
        raise ValueError(f"part: expected (k, n) with k from 0 to n - 1, found ({k}, {n})")
    return k, n


def _rows(count: int, part: tuple[int, int]) -> tuple[int, int]:
    """Return the first row of a part, and the row after its last."""
    k, n = part
    return count * k // n, count * (k + 1) // n


def _folder(path: str | os.PathLike[str] | None) -> Path:
    """Check the argument `path`, and return the folder to read."""
    if path is None:
        return _DATA
    folder = check_path(path, "path")
    if not folder.exists():
        raise FileNotFoundError(
            f"{folder}: expected a folder with four IDX files, found no such folder; "
            "check the path, or omit it for the MNIST data of the package"
        )
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: expected a folder with four IDX files, found a file; "
            "pass the folder that contains it"
        )
    return folder


def _names(part: str, ndim: int) -> list[str]:
    """Return the accepted names of a file, such as that of ``train-images``."""
    return [f"{part}{dot}idx{ndim}-ubyte{gz}" for gz in ("", ".gz") for dot in "-."]


def _find(folder: Path, part: str, ndim: int) -> Path:
    """Find a file, such as that of ``train-images``, under any of its accepted names."""
    names = _names(part, ndim)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{folder / names[0]}: expected this file, or one named {', '.join(names[1:])}; "
        "found none of them; put it there under one of these names"
    )


def read_idx(
    file: Path, ndim: int, part: tuple[int, int] = (0, 1)
) -> tuple[NDArray[np.uint8], int]:
    """Read an IDX file, which is compressed by gzip if its name ends in ``.gz``.

    Parameters
    ----------
    file : Path
    ndim : int
        3 for images, 1 for labels.
    part : (int, int), default (0, 1)
        As for `load_mnist`.

    Returns
    -------
    array : ndarray of uint8
        The rows of the part.
    count : int
        Number of rows in the whole file.

    Raises
    ------
    OSError
        If the file is missing or cannot be read.
    ValueError
        If the file is not an IDX file or is damaged; the message names the file.
    """
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        try:
            return _parse_idx(stream, ndim, part)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error


def _parse_idx(
    stream: io.BufferedIOBase, ndim: int, part: tuple[int, int] = (0, 1)
) -> tuple[NDArray[np.uint8], int]:
    """Read a part of an IDX array, and the number of rows of the whole array.

    Raise ValueError if the array does not fill the stream. Memory use is bounded both by the length
    in the header and by the actual length of the stream.
    """
    try:
        header = _read(stream, 4 + 4 * ndim)
        shape = _parse_header(header, ndim)
        row = math.prod(shape[1:])
        first, last = _rows(shape[0], part)
        if first:
            stream.seek(min(first * row, sys.maxsize - len(header)), io.SEEK_CUR)
        size, is_end = (last - first) * row, last == shape[0]
        # One byte more than expected detects excess data, and makes gzip verify its checksum.
        values = _read(stream, size + is_end)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(
            f"expected a whole gzip file, found damaged or other data: {error}; "
            "fetch the file again, or take .gz off its name if it is not compressed"
        ) from error
    if len(values) != size:
        found = f"only {len(values)}" if len(values) < size else "more"
        where = f"from number {first} on" if first else "after the header"
        raise ValueError(
            f"expected {size} bytes {where}, for {_times((last - first, *shape[1:]))} "
            f"{_content(ndim)}, found {found}; the file is damaged or incomplete, fetch it again"
        )
    return np.frombuffer(values, np.uint8).reshape(last - first, *shape[1:]), shape[0]


def _parse_header(header: bytearray, ndim: int) -> tuple[int, ...]:
    """Check the magic number and that no dimension is zero, and return the dimensions."""
    expected = 2048 + ndim
    if header.startswith(b"\x1f\x8b"):
        raise ValueError(
            f"expected IDX {_content(ndim)}, found gzip'd data; "
            "unpack the file, or let its name end in .gz"
        )
    magic = int.from_bytes(header[:4], "big")
    if magic != expected and len(header) >= 4:
        found = _CONTENT.get(magic, "neither images nor labels in unsigned bytes")
        raise ValueError(
            f"expected magic number {expected} (IDX {_content(ndim)}), found {magic} ({found}); "
            "check that the files for images and labels are not swapped, and are IDX files"
        )
    if len(header) < 4 + 4 * ndim:
        raise ValueError(
            f"expected an IDX header of {4 + 4 * ndim} bytes, found only {len(header)} bytes; "
            "the file is empty or cut off, fetch it again"
        )
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4")[1:])
    if 0 in shape:
        raise ValueError(
            f"expected dimensions of at least 1, found {_times(shape)}; "
            "the file holds no data, fetch or write it again"
        )
    return shape


def _read(stream: io.BufferedIOBase, size: int) -> bytearray:
    """Read at most `size` bytes, in chunks, since ``read(size)`` allocates `size` bytes."""
    data = bytearray()
    while chunk := stream.read(min(_CHUNK, size - len(data))):
        data += chunk
    return data


def _normalize(images: NDArray[np.uint8], pool: ThreadPoolExecutor) -> NDArray[np.float32]:
    """Divide by 255 into float32, in blocks that stay in cache."""
    out = np.empty(images.shape, np.float32)
    flat_images, flat_out = images.reshape(-1), out.reshape(-1)

    def divide(start: int) -> None:
        block = slice(start, start + _CHUNK)
        np.divide(flat_images[block], np.float32(255), out=flat_out[block])

    list(pool.map(divide, range(0, images.size, _CHUNK)))  # list: wait for all
    return out


def _check_counts(x_file: Path, images: int, t_file: Path, labels: int) -> None:
    """Check that each image has a label."""
    if images != labels:
        raise ValueError(
            f"{t_file}: expected {images} labels, one for each image in {x_file.name}, "
            f"found {labels}; take both files from the same data set"
        )


def _check_sizes(
    train_file: Path, train: NDArray[Any], test_file: Path, test: NDArray[Any]
) -> None:
    """Check that the images of both sets have the same size."""
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"{test_file}: expected images of {_times(train.shape[1:])} pixels as in "
            f"{train_file.name}, found {_times(test.shape[1:])}; "
            "take both files from the same data set"
        )


def _times(shape: tuple[int, ...]) -> str:
    """Format a shape, such as ``28 x 28``."""
    return " x ".join(map(str, shape))


def _content(ndim: int) -> str:
    """Return the content of a file with `ndim` dimensions: "labels" or "images"."""
    return _CONTENT[2048 + ndim]
