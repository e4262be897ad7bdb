"""Checks of plain arguments: integers, numbers, dtypes and sources of random numbers."""

import operator
import os
from pathlib import Path
from typing import Any

import numpy as np

Random = np.random.Generator | np.random.RandomState | int | None


def check_int(value: Any, name: str, minimum: int) -> int:
    """Check that an argument is an integer of at least `minimum`, and return it.

    Parameters
    ----------
    value : int
    name : str
        Name of the argument, for error messages.
    minimum : int

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If `value` is not an integer.
    ValueError
        If `value` is less than `minimum`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected an integer from {minimum}, got {value!r}")
    if number < minimum:
        raise ValueError(f"{name}: expected an integer from {minimum}, got {number}")
    return number


def check_finite(value: Any, name: str) -> float:
    """Check that an argument is a finite real number, and return it as float.

    Parameters
    ----------
    value : float
    name : str
        Name of the argument, for error messages.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If `value` is not a real number.
    ValueError
        If `value` is NaN or infinite.
    """
    no_numbers = (bool, np.bool_, str, bytes, list, tuple, np.ma.MaskedArray)
    if isinstance(value, no_numbers) or np.ndim(value) or np.iscomplexobj(value):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(
            f"{name}: expected a number that a float can hold, got {value!r}"
        ) from None
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {value!r}") from None
    if not np.isfinite(number):
        raise ValueError(f"{name}: expected a finite number, got {number}")
    return number


def check_not_negative(value: Any, name: str) -> float:
    """Check that an argument is a finite number of at least 0, and return it as float.

    Parameters
    ----------
    value : float
    name : str
        Name of the argument, for error messages.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If `value` is not a real number.
    ValueError
        If `value` is negative, NaN or infinite.
    """
    number = check_finite(value, name)
    if number < 0:
        raise ValueError(f"{name}: expected a number from 0, got {number}")
    return number


def check_share(value: Any, name: str, *, below_one: bool = False) -> float:
    """Return a number from 0 to 1, or raise.

    Parameters
    ----------
    value : float
    name : str
        The argument, for messages.
    below_one : bool, default False
        Whether 1 is excluded.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If `value` is no real number.
    ValueError
        If `value` is out of range, NaN or infinite.
    """
    number = check_finite(value, name)
    if not 0 <= number <= 1 or (below_one and number == 1):
        upper = "less than 1" if below_one else "1"
        raise ValueError(f"{name}: expected a number from 0 to {upper}, got {number}")
    return number


def check_path(value: Any, name: str) -> Path:
    """Check that an argument is the name of a file or folder, and return it as a path.

    Parameters
    ----------
    value : str or os.PathLike
    name : str
        Name of the argument, for error messages.

    Returns
    -------
    Path

    Raises
    ------
    TypeError
        If `value` is not a str or os.PathLike. An int would be used as a file descriptor.
    ValueError
        If `value` contains a null character.
    """
    if not (isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str)):
        raise TypeError(f"{name}: expected a name as str or os.PathLike, got {value!r}")
    path = Path(value)
    if "\0" in str(path):
        raise ValueError(f"{name}: expected a name, got one with a null character {value!r}")
    return path


def check_dtype(value: Any) -> np.dtype[Any]:
    """Check that an argument is float32 or float64, and return it as a dtype.

    Parameters
    ----------
    value : dtype_like

    Returns
    -------
    dtype

    Raises
    ------
    TypeError, ValueError
        If `value` is not float32 or float64.
    """
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except (TypeError, ValueError):
        raise TypeError(f"dtype: expected float32 or float64, got {value!r}") from None
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype: expected float32 or float64, got {dtype}")
    return dtype


def check_rng(rng: Random) -> Any:
    """Return the source of random numbers for an argument `rng`.

    Parameters
    ----------
    rng : numpy.random.Generator, RandomState, int or None
        An int is the seed of a new Generator. None gives the module ``numpy.random``.

    Returns
    -------
    numpy.random.Generator, RandomState or the module numpy.random

    Raises
    ------
    TypeError
        If `rng` has another type.
    ValueError
        If `rng` is a negative seed.
    """
    if rng is None:
        return np.random
    if isinstance(rng, np.random.Generator | np.random.RandomState):
        return rng
    if isinstance(rng, int | np.integer) and not isinstance(rng, bool):
        return np.random.default_rng(check_int(rng, "rng", 0))
    raise TypeError(
        f"rng: expected a numpy.random.Generator, RandomState, int or None, got {rng!r}"
    )
