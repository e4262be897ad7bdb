"""Named arrays in one ``.npz`` file: written whole or not at all, read without trust."""

import errno
import os
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from net.options import file_path

Path_ = str | os.PathLike[str]


def write(path: Path_, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to `path`, which holds either what it did before or all of them.

    Parameters
    ----------
    path : str or os.PathLike
        Exactly this name; no ending is added.
    arrays : mapping of str to ndarray

    Raises
    ------
    TypeError
        If `path` is no name of a file.
    OSError
        If the folder is missing or not writable, or the disk is full; `path` is as before.
    """
    path = file_path(path, "path")
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            # NumPy's types let the names in `arrays` collide with an option, which ours do not.
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def read(path: Path_) -> dict[str, NDArray[Any]]:
    """Read the arrays of a ``.npz`` file, never unpickling.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    TypeError
        If `path` is no name of a file.
    OSError
        If the file is missing or cannot be read.
    ValueError
        If it is no such file, or damaged: the message names it.
    """
    path = file_path(path, "path")
    with path.open("rb") as file:
        try:
            return _members(file)
        except Exception as error:  # tokenize, struct, zipfile and NumPy raise whatever they meet
            broken = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
            if broken or isinstance(error, MemoryError):  # the disk or the machine, not the content
                raise
            raise ValueError(
                f"{path}: expected an .npz file of arrays, got another or a damaged one ({error})"
            ) from error


def _members(file: BinaryIO) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        # They are stored as they are: those that claim more bytes than the file has are a trap.
        size = os.fstat(file.fileno()).st_size
        if sum(info.file_size for info in members) > size:
            raise ValueError("its arrays are longer than the file")
        return {info.filename.removesuffix(".npy"): _member(archive, info) for info in members}


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """Read one array whose header promises what the file holds, and no more."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} is compressed")
    with archive.open(info) as file:
        version = npy.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{info.filename} has version {version} of the .npy format, not 1.0")
        shape, fortran, dtype = npy.read_array_header_1_0(file)
        if dtype.hasobject or dtype.kind not in "biufU":
            raise ValueError(f"{info.filename} holds {dtype}, not numbers or text")
        data = file.read()
    count = 1
    for length in shape:
        count *= length
    if count * dtype.itemsize != len(data) or min(shape, default=0) < 0:
        raise ValueError(f"{info.filename} promises shape {shape} and holds {len(data)} bytes")
    array = np.frombuffer(bytearray(data), dtype)
    return array.reshape(shape, order="F" if fortran else "C")
