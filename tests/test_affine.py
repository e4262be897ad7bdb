"""``kernels.affine`` against plain NumPy."""

import itertools
import os
import platform
import subprocess
import sys
from pathlib import Path

import hypothesis.extra.numpy as hnp
import naive
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import _vectors, affine
from kernels._gemm_threads import gemm
from kernels.affine import affine_backward, affine_forward

SMALL_SHAPES = [(0, 5, 3), (1, 1, 1), (3, 0, 2), (3, 5, 0), (7, 5, 3), (1, 5, 10)]
SHAPES = [
    *itertools.product([0, 1, 3, 7, 100, 257], [1, 5, 784], [1, 3, 10, 50, 65]),
    (100, 0, 10),
    (1, 0, 1),
    (0, 0, 3),
    (2000, 33, 17),
    (3, 3001, 130),
    (300, 530, 270),
    (100, 2600, 30),
]
PARAMS = [pytest.param(s, marks=pytest.mark.small) for s in SMALL_SHAPES] + SHAPES


def operands(rng, shape, dtype):
    n, d, m = shape
    return (
        rng.standard_normal((n, d)).astype(dtype),
        rng.standard_normal((d, m)).astype(dtype),
        rng.standard_normal(m).astype(dtype),
        rng.standard_normal((n, m)).astype(dtype),
    )


def check_forward(out, x, W, b):
    x, W, b = (a.astype(np.float64) for a in (x, W, b))
    magnitude = naive.affine_forward(abs(x), abs(W), abs(b))
    naive.assert_within(out, naive.affine_forward(x, W, b), magnitude, terms=len(W))


def check_backward(gradients, dout, x, W):
    dout, x, W = (a.astype(np.float64) for a in (dout, x, W))
    expected = naive.affine_backward(dout, x, W)
    magnitudes = naive.affine_backward(abs(dout), abs(x), abs(W))
    for got, want, magnitude, terms in zip(
        gradients, expected, magnitudes, (W.shape[1], len(x), len(x)), strict=True
    ):
        naive.assert_within(got, want, magnitude, terms)


@pytest.mark.parametrize("shape", PARAMS, ids=str)
def test_shapes(rng, shape, dtype):
    x, W, b, dout = operands(rng, shape, dtype)
    copies = [a.copy() for a in (x, W, b, dout)]
    out = affine_forward(x, W, b)
    gradients = affine_backward(dout, x, W)
    assert out.dtype == dtype
    assert [g.dtype for g in gradients] == [dtype] * 3
    check_forward(out, x, W, b)
    check_backward(gradients, dout, x, W)
    for a, kept in zip((x, W, b, dout), copies, strict=True):
        np.testing.assert_array_equal(a, kept)


@pytest.mark.parametrize(
    "shape",
    [
        *(pytest.param(s, marks=pytest.mark.small) for s in [(7, 5, 3), (0, 5, 3), (3, 0, 2)]),
        (100, 784, 50),
    ],
    ids=str,
)
def test_layouts(rng, layout, shape, dtype):
    x, W, b, dout = (layout(a) for a in operands(rng, shape, dtype))
    check_forward(affine_forward(x, W, b), x, W, b)
    check_backward(affine_backward(dout, x, W), dout, x, W)


@pytest.mark.small
def test_one_layout_beside_others(rng, layout):
    x, W, b, dout = operands(rng, (6, 4, 3), np.float64)
    check_forward(affine_forward(layout(x), W, b), x, W, b)
    check_forward(affine_forward(x, layout(W), b), x, W, b)
    check_forward(affine_forward(x, W, layout(b)), x, W, b)
    check_backward(affine_backward(layout(dout), x, W), dout, x, W)
    check_backward(affine_backward(dout, layout(x), W), dout, x, W)
    check_backward(affine_backward(dout, x, layout(W)), dout, x, W)


@pytest.mark.small
def test_broadcast_views(rng, dtype):
    """Arrays with a stride of 0, as ``np.broadcast_to`` makes them."""
    x, W, b, _ = operands(rng, (6, 4, 3), dtype)
    row = np.broadcast_to(x[0], x.shape)
    dout = np.broadcast_to(np.ones(1, dtype), (6, 3))
    check_forward(affine_forward(row, W, b), row, W, b)
    check_backward(affine_backward(dout, row, W), dout, row, W)


def test_layouts_compile_nothing(rng, layout, compiles_nothing, dtype):
    x, W, b, dout = operands(rng, (7, 5, 3), dtype)

    def run(x, W, b, dout):
        affine_forward(x, W, b)
        affine_backward(dout, x, W)

    compiles_nothing(lambda: run(x, W, b, dout), lambda: run(*(layout(a) for a in (x, W, b, dout))))


def test_results_are_fresh(rng, dtype):
    x, W, b, dout = operands(rng, (7, 5, 3), dtype)
    results = [affine_forward(x, W, b), *affine_backward(dout, x, W)]
    kept = [r.copy() for r in results]
    affine_forward(2 * x, W, b)
    affine_backward(2 * dout, x, W)
    for r, k in zip(results, kept, strict=True):
        assert r.flags.writeable
        assert not any(np.shares_memory(r, a) for a in (x, W, b, dout))
        np.testing.assert_array_equal(r, k)


@pytest.mark.slow
@pytest.mark.parametrize(
    "x_dtype",
    [pytest.param(t, marks=pytest.mark.small) for t in (np.uint8, np.int64, np.float32)],
)
def test_narrow_x_is_widened(rng, x_dtype):
    _, W, b, dout = operands(rng, (7, 5, 3), np.float64)
    x = (100 * rng.random((7, 5))).astype(x_dtype)
    wide = x.astype(np.float64)
    out, gradients = affine_forward(x, W, b), affine_backward(dout, x, W)
    assert out.dtype == np.float64
    assert [g.dtype for g in gradients] == [np.float64] * 3
    np.testing.assert_allclose(out, affine_forward(wide, W, b), rtol=1e-12)
    check_forward(out, wide, W, b)
    check_backward(gradients, dout, wide, W)


@pytest.mark.parametrize("x_dtype", [np.uint8, np.float32])
def test_narrow_x_on_the_lectures_shape(rng, x_dtype):
    _, W, b, dout = operands(rng, (100, 784, 50), np.float64)
    x = (255 * rng.random((100, 784))).astype(x_dtype)
    check_forward(affine_forward(x, W, b), x, W, b)
    check_backward(affine_backward(dout, x, W), dout, x, W)


@pytest.mark.slow
@pytest.mark.small
def test_integer_x_beside_float32_parameters(rng):
    _, W, b, dout = operands(rng, (7, 5, 3), np.float32)
    x = rng.integers(0, 256, (7, 5), dtype=np.uint8)
    out, gradients = affine_forward(x, W, b), affine_backward(dout, x, W)
    assert {out.dtype, *(g.dtype for g in gradients)} == {np.dtype(np.float32)}
    check_forward(out, x, W, b)
    check_backward(gradients, dout, x, W)


@pytest.mark.small
def test_float64_x_beside_float32_parameters(rng):
    """The parameters determine the dtype; the input may be rounded to it first."""
    x, W, b, dout = operands(rng, (7, 5, 3), np.float32)
    wide = x.astype(np.float64)
    out, gradients = affine_forward(wide, W, b), affine_backward(dout, wide, W)
    assert {out.dtype, *(g.dtype for g in gradients)} == {np.dtype(np.float32)}
    check_forward(out, x, W, b)
    check_backward(gradients, dout, x, W)


@pytest.mark.parametrize("shape", [(7, 5, 3), (100, 784, 50), (1, 784, 50), (257, 65, 10)], ids=str)
def test_nan_and_infinity(rng, shape, dtype):
    """NaN and infinity propagate to the same elements as in NumPy, and to no others."""
    clean = operands(rng, shape, dtype)
    for bad in (np.nan, np.inf, -np.inf):
        for i in range(4):
            x, W, b, dout = (a.copy() for a in clean)
            spoilt = (x, W, b, dout)[i]
            spoilt[tuple(n // 2 for n in spoilt.shape)] = bad
            check_forward(affine_forward(x, W, b), x, W, b)
            check_backward(affine_backward(dout, x, W), dout, x, W)
    x, W, b, dout = (a.copy() for a in clean)
    x[0, 0], W[0, 0] = 0, np.inf
    assert np.isnan(affine_forward(x, W, b)[0, 0])
    x[0, :2], W[0, 0], W[1, 0] = 1, np.inf, -np.inf
    assert np.isnan(affine_forward(x, W, b)[0, 0])


def test_overflow_to_infinity(dtype):
    big = np.full((1, 2), np.finfo(dtype).max, dtype)
    out = affine_forward(big, np.ones((2, 1), dtype), np.zeros(1, dtype))
    assert out[0, 0] == np.inf


@pytest.mark.parametrize(
    "shape", [(1000, 784, 50), (257, 65, 10), (100, 784, 50), (3, 2000, 65), (100, 2600, 65)]
)
def test_bits_do_not_depend_on_threads(rng, bits_on_threads, shape, dtype):
    x, W, b, dout = operands(rng, shape, dtype)
    for f in (lambda: affine_forward(x, W, b), lambda: affine_backward(dout, x, W)):
        one, others = bits_on_threads(f)
        assert all(bits == one for bits in others)


@pytest.mark.small
def test_numerical_gradient(rng):
    x, W, b, dout = operands(rng, (4, 3, 5), np.float64)
    dx, dW, db = affine_backward(dout, x, W)

    def f(_):
        return np.sum(dout * affine_forward(x, W, b))

    # The function is linear in each argument: only rounding, of about 1e-16 / 1e-4, is left.
    for gradient, argument in ((dx, x), (dW, W), (db, b)):
        np.testing.assert_allclose(gradient, naive.numerical_gradient(f, argument), atol=1e-9)


# ---------------------------------------------------------------- from compiled code
@numba.njit(cache=True)
def users_step(x, W, b, dout):
    out = affine_forward(x, W, b)
    dx, dW, db = affine_backward(dout, x, W)
    return out, dx, dW, db


@pytest.mark.slow
@pytest.mark.small
def test_from_njit(rng):
    x, W, b, dout = operands(rng, (7, 5, 3), np.float64)
    out, *gradients = users_step(x, W, b, dout)
    np.testing.assert_array_equal(out, affine_forward(x, W, b))
    for got, want in zip(gradients, affine_backward(dout, x, W), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.exhaustive
def test_from_njit_strided(rng):
    x, W, b, dout = (np.asfortranarray(a) for a in operands(rng, (7, 5, 3), np.float64))
    out, *gradients = users_step(x, W, b, dout)
    check_forward(out, x, W, b)
    check_backward(gradients, dout, x, W)


def test_orientations_share_compiled_code(rng):
    x, W, _, dout = operands(rng, (7, 5, 3), np.float64)
    affine_backward(dout, x, W)
    # Not from the cache: code loaded from disk does not name the functions that it calls.
    numba.njit(affine._backward.py_func).compile(affine._backward.signatures[0])
    assert gemm.signatures
    assert not [s for s in gemm.signatures if "Literal" in str(s)]


def test_zeros_are_skipped_from_the_second_product_on(rng, monkeypatch, dtype):
    """The code that skips zeros is compiled at the first zeros; the result is bitwise identical."""
    monkeypatch.setattr(affine, "_code", {})
    x, W, b, dout = operands(rng, (100, 784, 50), dtype)
    for zeros, known in ((False, 0), (True, 2), (True, 2), (False, 2)):
        x = x * (rng.random(x.shape) < 0.1) if zeros else rng.standard_normal(x.shape, dtype)
        x = x.astype(dtype)
        results = [affine_forward(x, W, b), *affine_backward(dout, x, W)]
        skipping = [a for a in affine._code.values() if a[1] or a[2]]
        assert len(skipping) == known
        check_forward(results[0], x, W, b)
        check_backward(results[1:], dout, x, W)
        again = [affine_forward(x, W, b), *affine_backward(dout, x, W)]
        assert [a.tobytes() for a in again] == [a.tobytes() for a in results]


@pytest.mark.slow
def test_from_njit_bad_shapes(rng):
    x, W, b, dout = operands(rng, (7, 5, 3), np.float64)
    for bad in ((x[:, :4], W, b, dout), (x, W, b[:2], dout), (x, W, b, dout[:6])):
        with pytest.raises(ValueError, match="expected"):
            users_step(*(np.ascontiguousarray(a) for a in bad))


# ---------------------------------------------------------------- bad input
X, WEIGHT, B, DOUT = np.ones((4, 3)), np.ones((3, 2)), np.ones(2), np.ones((4, 2))
WRONG_SHAPES = {
    "x 1-D": (affine_forward, (X[0], WEIGHT, B)),
    "x 3-D": (affine_forward, (X[None], WEIGHT, B)),
    "x 0-d": (affine_forward, (np.array(1.0), WEIGHT, B)),
    "W 1-D": (affine_forward, (X, WEIGHT[0], B)),
    "W 3-D": (affine_forward, (X, WEIGHT[None], B)),
    "b 2-D": (affine_forward, (X, WEIGHT, B[None])),
    "x W": (affine_forward, (X[:, :2], WEIGHT, B)),
    "W transposed": (affine_forward, (X, WEIGHT.T, B)),
    "b long": (affine_forward, (X, WEIGHT, np.ones(3))),
    "b of one": (affine_forward, (X, WEIGHT, np.ones(1))),
    "empty x": (affine_forward, (np.ones((0, 2)), WEIGHT, B)),
    "back dout 1-D": (affine_backward, (DOUT[0], X, WEIGHT)),
    "back dout rows": (affine_backward, (DOUT[:3], X, WEIGHT)),
    "back dout columns": (affine_backward, (DOUT[:, :1], X, WEIGHT)),
    "back x W": (affine_backward, (DOUT, X[:, :2], WEIGHT)),
    "back x 3-D": (affine_backward, (DOUT, X[None], WEIGHT)),
    "back W 1-D": (affine_backward, (DOUT, X, WEIGHT[0])),
}


@pytest.mark.small
@pytest.mark.parametrize(("kernel", "arguments"), WRONG_SHAPES.values(), ids=WRONG_SHAPES)
def test_wrong_shapes(kernel, arguments):
    with pytest.raises(ValueError, match=naive.EXPECTED_GOT):
        kernel(*arguments)


WRONG_TYPES = {
    "complex": lambda a: a.astype(complex),
    "object": lambda a: a.astype(object),
    "string": lambda a: a.astype(str),
    "masked": lambda a: np.ma.masked_array(a, mask=a > 0),
}


@pytest.mark.small
@pytest.mark.parametrize("convert", WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_wrong_types(convert):
    for arguments in ((convert(X), WEIGHT, B), (X, convert(WEIGHT), B), (X, WEIGHT, convert(B))):
        with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
            affine_forward(*arguments)
    for arguments in (
        (convert(DOUT), X, WEIGHT),
        (DOUT, convert(X), WEIGHT),
        (DOUT, X, convert(WEIGHT)),
    ):
        with pytest.raises(TypeError, match=naive.EXPECTED_GOT):
            affine_backward(*arguments)


# ---------------------------------------------------------------- any shape
@st.composite
def any_operands(draw):
    n, d, m = (draw(st.integers(0, 40)) for _ in range(3))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    width = 8 * np.dtype(dtype).itemsize
    elements = st.floats(-1000, 1000, width=width, allow_subnormal=False)
    return [
        draw(hnp.arrays(dtype, shape, elements=elements))
        for shape in ((n, d), (d, m), (m,), (n, m))
    ]


@given(any_operands())
def test_any_shape(operands):
    x, W, b, dout = operands
    check_forward(affine_forward(x, W, b), x, W, b)
    check_backward(affine_backward(dout, x, W), dout, x, W)


OTHER = """
import numpy as np
from kernels import affine_backward, affine_forward
from kernels._vectors import VECTOR_BYTES
assert VECTOR_BYTES == {bytes}
rng = np.random.default_rng(0)
for dtype in (np.float32, np.float64):
    for n, d, m in ((1, 7, 1), (1, 7, 67), (13, 40, 50), (9, 3, 65), (30, 300, 11)):
        x, W, b, dout = (rng.random(s).astype(dtype) for s in ((n, d), (d, m), m, (n, m)))
        for ours, expected in zip(
            (affine_forward(x, W, b), *affine_backward(dout, x, W)),
            (x @ W + b, dout @ W.T, x.T @ dout, dout.sum(0)),
        ):
            np.testing.assert_allclose(ours, expected, rtol=1e-4)
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for older x86 processors")
@pytest.mark.parametrize(
    ("vector_bytes", "settings"),
    [
        (16, {"NUMBA_CPU_NAME": "generic"}),
        (32, {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+sse4.2"}),
    ],
    ids=["SSE2", "AVX2"],
)
def test_narrower_vectors(tmp_path, vector_bytes, settings):
    if vector_bytes == 32 and _vectors.VECTOR_BYTES < 32:
        settings = {"NUMBA_CPU_NAME": "generic"}  # this processor has no AVX2 to run it on
        vector_bytes = 16
    environment = {**os.environ, **settings, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", OTHER.format(bytes=vector_bytes)]
    root = Path(_vectors.__file__).parent.parent
    subprocess.run(command, cwd=root, env=environment, check=True, timeout=200)
