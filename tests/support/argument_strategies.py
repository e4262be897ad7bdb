"""Hypothesis strategies for valid and invalid arguments, and checks of the results.

`right` converts an argument to the array that it represents, or to None if it is invalid,
independently of the code under test. A reference returns NumPy's result, or None for an error.
"""

import datetime
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import naive
import numpy as np
from conftest import LAYOUTS
from hypothesis import strategies as st
from numba import config

INTEGERS = [np.dtype(f"{sign}int{bits}").type for sign in ("", "u") for bits in (8, 16, 32, 64)]
REAL = [np.float32, np.float64, np.longdouble, np.bool_, *INTEGERS]
COMMON = [np.float64, np.float32]
if config.BOUNDSCHECK:  # another dtype runs the same loops, and compiles them again
    REAL, COMMON = [np.longdouble, np.int64, np.bool_], [np.float64]


# ---------------------------------------------------------------- forms of an array
def swapped(a):
    return a.astype(a.dtype.newbyteorder(">"))


class Other(np.ndarray):
    """A user's subclass of ndarray."""


def repeated(a):
    """Return the first row repeated with a stride of 0."""
    return np.broadcast_to(a[:1], a.shape) if a.ndim and a.shape[0] else a


def half(a):
    """Return an array in float16, which is widened to float32."""
    with np.errstate(over="ignore"):
        return a.astype(np.float16) if a.dtype.kind == "f" else a


FORMS = {
    "plain": lambda a: a,
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(a.tolist()) if a.ndim else a.item(),
    "swapped": swapped,
    "subclass": lambda a: a.view(Other),
    "repeated": repeated,
    "half": half,
    **LAYOUTS,
}


def longer(a):
    return np.resize(a, (*a.shape[:-1], a.shape[-1] + 1)) if a.ndim else a


WRONG = {
    "complex": lambda a: a.astype(complex),
    "object": lambda a: a.astype(object),
    "text": lambda a: a.astype(str),
    "bytes": lambda a: a.astype("S9"),
    "date": lambda a: a.astype(np.int64).astype("M8[s]"),
    "span of time": lambda a: a.astype(np.int64).astype("m8[s]"),
    "record": lambda a: np.zeros(a.shape, [("a", "f8"), ("b", "i4")]),
    "masked": lambda a: np.ma.masked_array(a, mask=np.zeros(a.shape, bool)),
    "None": lambda a: None,
    "a word": lambda a: "word",
    "a dictionary": lambda a: {"x": 1.0},
    "a set": lambda a: {1.0},
    "a function": lambda a: abs,
    "a day": lambda a: datetime.date(2024, 2, 29),
    "rows of several lengths": lambda a: [[1.0], [2.0, 3.0]],
    "a large number": lambda a: [10**400],
    "an imaginary number": lambda a: 1j,
    "a masked number": lambda a: np.ma.masked,
}
# These may be valid if the sizes happen to fit.
OTHER_SHAPES = {
    "a number": lambda a: 1.5,
    "one of NumPy's": lambda a: np.float32(2),
    "NaN": lambda a: math.nan,
    "one axis more": lambda a: a[None],
    "a last axis more": lambda a: a[..., None],
    "one axis less": lambda a: a[0] if a.ndim and a.shape[0] else np.array(1.0),
    "flat": lambda a: a.reshape(-1),
    "longer": longer,
    "shorter": lambda a: a[:-1] if a.ndim else a,
    "transposed": lambda a: a.T,
    "empty": lambda a: a[:0] if a.ndim else a,
    "nothing": lambda a: [],
}


def right(a):
    """Return an argument as an array of real numbers, or None if it is invalid."""
    try:
        array = np.asarray(a)
    except ValueError:
        return None
    number = array.dtype.kind in "biuf"
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    return array if number and not isinstance(a, np.ma.MaskedArray) else None


def cast(a, dtype):
    with np.errstate(all="ignore"):
        return np.array(a, dtype, order="C")


def kind(a):
    """Return the dtype in which an operation on an array computes."""
    return np.float32 if a.dtype.kind == "f" and a.dtype.itemsize == 4 else np.float64


# ---------------------------------------------------------------- strategies
def numbers(rng, shape, dtype, odd):
    """Return multiples of 1/8, exact in all dtypes and in sums; if `odd`, also NaN or the like."""
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        return rng.integers(0, 2 if dtype.kind == "b" else 9, shape).astype(dtype)
    a = np.array(rng.integers(-16, 17, shape) / 8).astype(dtype)
    if odd and a.size:
        huge = 1e30 if dtype == np.float32 else 1e300
        special = [np.nan, np.inf, -np.inf, -0.0, huge, -huge, np.finfo(dtype).tiny]
        a.reshape(-1)[rng.integers(a.size)] = rng.choice(special)
    return a


def spoil(draw, a):
    changes = WRONG | OTHER_SHAPES
    with np.errstate(all="ignore"):
        return changes[draw(st.sampled_from([*changes]))](a)


@st.composite
def arguments(draw, shapes, makers=None, fixed=None):
    """Draw one argument for each shape, given by letters; at most one is invalid.

    `makers` has functions ``(draw, rng, sizes)`` for arguments of another kind; `fixed` has the
    sizes that are not drawn.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = {letter: draw(st.integers(0, 6)) for letter in "CDMN"} | {"1": 1} | (fixed or {})
    odd = draw(st.sampled_from([False, False, True]))
    common = draw(st.sampled_from(COMMON))
    made, spoilt = [], draw(st.sampled_from([None, None, *range(len(shapes))]))
    for i, shape in enumerate(shapes):
        if makers and shape in makers:
            made.append(makers[shape](draw, rng, size))
            continue
        dtype = draw(st.sampled_from([common] * 4 + REAL))
        a = numbers(rng, tuple(size[letter] for letter in shape), dtype, odd)
        if i == spoilt:
            made.append(spoil(draw, a))
        else:
            made.append(FORMS[draw(st.sampled_from(["plain", *FORMS]))](a))
    return made


def mask(draw, rng, size):
    a = rng.integers(0, 2, (size["N"], size["D"]))
    return draw(
        st.sampled_from([a > 0, a > 0, (a > 0).tolist(), a, a / 1.0, (a > 0)[:1], (a > 0).T])
    )


def targets(draw, rng, size):
    """Draw class indices or distributions, most of them valid."""
    n, c = size["N"], size["C"]
    labels = rng.integers(0, max(c, 1), n)
    hot = np.eye(max(c, 1))[labels][:, :c]
    soft = numbers(rng, (n, c), np.float64, odd=False)
    if draw(st.booleans()):
        dtype = draw(st.sampled_from(INTEGERS))
        form = FORMS[draw(st.sampled_from([*FORMS]))]
        return form(draw(st.sampled_from([labels.astype(dtype), hot.astype(dtype), soft])))
    wrong = draw(st.sampled_from([c, c + 1, -1, -c, 255, 2**31, 2**63 - 1, -(2**63)]))
    other = labels.copy()
    other[rng.integers(n) if n else slice(0)] = wrong
    spoilt = hot.copy()
    if hot.size:
        spoilt[-1, 0] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e300]))
    others = [
        *(other, other.tolist(), spoilt, labels + 0.5, labels / 1, labels * np.nan, labels > 0),
        *(np.full(n, 2**64 - 1, np.uint64), hot > 0, labels[:, None], longer(hot), hot[:-1]),
        spoil(draw, labels),
    ]
    return others[draw(st.integers(0, len(others) - 1))]


def scale(draw, rng, size):
    good = [1, 1.0, 0, -2.5, True, np.float32(3), np.array(2.0), np.int8(4), math.nan, math.inf]
    wrong = [None, "1", 1j, np.ones(1), [1.0], np.float16(1), np.ma.masked, 10**400]
    return draw(st.sampled_from(good * 2 + wrong))


def right_targets(t, shape, dtype):
    """Return targets for logits of a shape as an array, or None if they are invalid."""
    t = right(t)
    if t is None or len(shape) != 2:
        return None
    if t.shape == shape:
        t = cast(t, dtype)
        return t if np.isfinite(t).all() else None
    if t.shape != shape[:1] or t.dtype.kind not in "iu":
        return None
    return t if all(0 <= int(label) < shape[1] for label in t) else None


# ---------------------------------------------------------------- results
def snapshot(a):
    if not isinstance(a, np.ndarray) or a is np.ma.masked:
        return repr(a)
    return a.dtype, a.shape, a.strides, np.asarray(a).tobytes()


def outcome(function, *args, **options):
    """Return the result of a call, or its error; the message must say what was expected."""
    try:
        return function(*args, **options)
    except (TypeError, ValueError) as raised:
        error = raised
    assert re.search("expected.* (got|found) ", str(error), re.DOTALL), error
    return error


def compare(a, want, magnitude):
    if isinstance(a, np.ndarray):
        assert a.dtype == want.dtype
    if want.dtype == bool:
        np.testing.assert_array_equal(a, want)
    else:
        magnitude = np.where(np.isnan(magnitude), 0, magnitude)
        naive.assert_within(np.asarray(a, want.dtype), want, magnitude, 40)


@dataclass
class Call:
    """A function, the shapes of its arguments, and its reference.

    The reference returns pairs of an array and the magnitude that scales its error, or None
    if the arguments are invalid.
    """

    function: Callable
    shapes: tuple
    reference: Callable

    def check(self, args):
        before = [snapshot(a) for a in args]
        with np.errstate(all="ignore"):
            expected = self.reference(*args)
        found = outcome(self.function, *args)
        assert isinstance(found, Exception) == (expected is None), found
        if expected is not None:
            found = found if isinstance(found, tuple) else (found,)
            for a, (want, magnitude) in zip(found, expected, strict=True):
                compare(a, want, magnitude)
        assert [snapshot(a) for a in args] == before
