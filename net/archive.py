"""Read and write ``.npz`` files of named arrays: atomic writes, validated reads."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from net.validation import check_path

if sys.platform != "win32":
    import fcntl

Path_ = str | os.PathLike[str]


def write(path: Path_, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to an ``.npz`` file atomically.

    Parameters
    ----------
    path : str or os.PathLike
        The exact file name; no extension is added. A symbolic link is followed, and the
        permissions of an existing file are kept.
    arrays : mapping of str to ndarray

    Raises
    ------
    TypeError
        If `path` is not a file name.
    OSError
        If the folder is missing or not writable, or the disk is full. The previous content of
        `path` is kept.
    """
    target = Path(os.path.realpath(check_path(path, "path")))
    temporary = target.with_name(_temporary_name(target.name))
    try:
        if target.exists() and not target.is_file():  # such as a device
            raise OSError(errno.EINVAL, "Expected a file, got a folder or a device")
        with _open_locked(temporary) as file:
            try:
                # NumPy's annotations reject keys that may be options of `savez`; `arrays` has none.
                np.savez(file, **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
                with suppress(FileNotFoundError):
                    shutil.copymode(target, temporary)
                if sys.platform == "win32":  # an open file cannot be renamed
                    file.close()
                os.replace(temporary, target)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise
        _fsync_directory(target.parent)
    except OSError as error:
        problem = f"{error.strerror or error}; the file is unchanged"
        raise OSError(error.errno, problem, os.fspath(path)) from error


def check_writable(path: Path_) -> None:
    """Check that a file can be written.

    Parameters
    ----------
    path : str or os.PathLike

    Raises
    ------
    OSError
        If the folder is missing or not writable, or `path` is a folder or a device.
    """
    target = Path(os.path.realpath(check_path(path, "path")))
    try:
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "Expected a file, got a folder or a device")
        handle, name = tempfile.mkstemp(dir=target.parent)
        os.close(handle)
        os.unlink(name)
        if len(os.fsencode(target.name)) > _NAME_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def check_regular(path: Path) -> None:
    """Check that a path is not a pipe or a device, from which reading might never end.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        If the file does not exist.
    ValueError
        If `path` is neither a file nor a folder.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"{path}: expected a regular file, got a pipe or a device")


_NAME_BYTES = 255  # maximum length of a file name on most file systems


def _temporary_name(name: str) -> str:
    """Return the name of the temporary file, of at most `_NAME_BYTES` bytes."""
    temporary = f".{name}.part"
    if len(os.fsencode(temporary)) <= _NAME_BYTES:
        return temporary
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()}.part"


def _open_locked(path: Path) -> BinaryIO:
    """Open an empty file under an exclusive lock, waiting for any other writer.

    A file that a killed process left is truncated.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    while True:
        file = os.fdopen(os.open(path, flags, 0o666), "r+b")
        try:
            if sys.platform != "win32":
                with suppress(OSError):  # not every file system has locks
                    fcntl.flock(file, fcntl.LOCK_EX)
            # The writer that held the lock has renamed or removed its file, and another writer
            # may have created a new one: check that `path` is still the file that is locked.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    file.truncate()
                    return file
        except BaseException:
            file.close()
            raise
        file.close()


def _fsync_directory(path: Path) -> None:
    """Flush a folder's entries to disk, where the platform can."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read(path: Path_) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` file, without unpickling.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    TypeError
        If `path` is not a file name.
    OSError
        If the file is missing or cannot be read.
    ValueError
        If the file is not an ``.npz`` file of arrays, or is damaged; the message names the file.
    """
    path = check_path(path, "path")
    check_regular(path)
    with path.open("rb") as file:
        try:
            return _members(file)
        except Exception as error:  # of tokenize, struct, zipfile or NumPy
            broken = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
            if broken or isinstance(error, MemoryError):  # not caused by the content
                raise
            raise ValueError(
                f"{path}: expected an .npz file of arrays, got another or damaged file ({error})"
            ) from error


def _members(file: BinaryIO) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        # Members are stored uncompressed: sizes that exceed the file's are forged.
        size = os.fstat(file.fileno()).st_size
        if sum(info.file_size for info in members) > size:
            raise ValueError("its arrays are longer than the file")
        return {info.filename.removesuffix(".npy"): _member(archive, info) for info in members}


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """Read one array, and check that its size is that of its header."""
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
        raise ValueError(f"{info.filename} has shape {shape} but holds {len(data)} bytes")
    array = np.frombuffer(bytearray(data), dtype)
    return array.reshape(shape, order="F" if fortran else "C")
