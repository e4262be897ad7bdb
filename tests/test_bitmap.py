"""Products that skip zeros are bitwise identical to dense products, and agree with NumPy."""

import os
import subprocess
import sys
from pathlib import Path

import naive
import numpy as np
import pytest
from support.from_python import callable_from_python

from kernels import _bitmap, _gemm, affine
from kernels._bitmap import WORD, skips_zeros
from kernels._compiler import njit
from kernels._gemm import BITMAP_WORDS, NO_TRANSPOSE, TRANSPOSE
from kernels._vectors import VECTOR_BYTES
from kernels.affine import affine_backward, affine_backward_params, affine_forward

gemm_block = callable_from_python(_gemm.gemm_block)
row_bitmap = callable_from_python(_bitmap.row_bitmap)
transposed_bitmap = callable_from_python(_bitmap.transposed_bitmap)

SMALL = [(9, 70, 21), (70, 9, 3)]
SHAPES = [
    *(pytest.param(s, marks=pytest.mark.small) for s in SMALL),
    *[(100, 784, 50), (33, 500, 70), (257, 65, 130), (1030, 129, 50), (7, 1500, 33), (64, 64, 1)],
    *[
        (65, 63, 8),
        (40, 1300, 33),
        (20, 1200, 100),
        (1, 1, 1),
        (3, 0, 5),
        (0, 7, 5),
        (100, 784, 512),
        (600, 129, 17),
        (20, 90, 232),
        (150, 2 * WORD * BITMAP_WORDS + 5, 9),
    ],
]
KINDS = [("u1", "f4"), ("f4", "f4"), ("f4", "f8"), ("f8", "f8")]


def sparse(rng, shape, kind, share):
    x = rng.integers(1, 256, shape) * (rng.random(shape) < share)
    return x.astype(kind) if kind == "u1" else (x / 255).astype(kind)


def both_ways(a, a_t, b, bias, shape):
    """Return the dense product, and the product that skips zeros, whatever the density."""
    outs = np.empty(shape, b.dtype), np.empty(shape, b.dtype)
    addresses = _gemm.get_product_addresses(a.dtype, b.dtype)
    zero = np.int64(0)
    for out, skip in zip(outs, (False, True), strict=True):
        rest = zero, np.int64(shape[0]), zero, np.int64(shape[1]), skip
        gemm_block(addresses, a, a_t, b, NO_TRANSPOSE, bias, out, *rest)
    return outs


@pytest.mark.parametrize("kinds", KINDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits_of_the_dense_product(rng, shape, kinds):
    n, d, m = shape
    for share in (0, 0.02, 0.3, 1):
        x = sparse(rng, (n, d), kinds[0], share)
        if x.size and kinds[0] != "u1":
            x[0, 0] = -0.0
        W, dout = (rng.standard_normal(s).astype(kinds[1]) for s in ((d, m), (n, m)))
        b = rng.standard_normal(m).astype(kinds[1])
        wide = x.astype("f8")
        out, other = both_ways(x, NO_TRANSPOSE, W, b, (n, m))
        assert out.tobytes() == other.tobytes()
        bound = abs(wide) @ abs(W.astype("f8")) + abs(b)
        naive.assert_within(other, wide @ W.astype("f8") + b, bound, d)
        dW, other = both_ways(x, TRANSPOSE, dout, np.zeros(m, kinds[1]), (d, m))
        assert dW.tobytes() == other.tobytes()
        bound = abs(wide.T) @ abs(dout.astype("f8"))
        naive.assert_within(other, wide.T @ dout.astype("f8"), bound, n)


@pytest.mark.small
def test_nan_and_infinity_of_a_are_not_zero(rng, dtype):
    x = sparse(rng, (9, 70), dtype, 0.2)
    x[1, 2], x[3, 4], x[5, 66] = np.nan, np.inf, -np.inf
    W, dout = rng.random((70, 21)).astype(dtype), rng.random((9, 21)).astype(dtype)
    zeros = np.zeros(21, dtype)
    for a_t, b, shape in ((NO_TRANSPOSE, W, (9, 21)), (TRANSPOSE, dout, (70, 21))):
        with np.errstate(invalid="ignore"):
            dense, skipped = both_ways(x, a_t, b, zeros, shape)
        np.testing.assert_array_equal(dense, skipped)
        assert np.isnan(skipped).any()
        assert np.isinf(skipped).any()


@pytest.mark.small
def test_bitmap_of_a_row(rng):
    for kind in ("u1", "f4", "f8"):
        x = sparse(rng, 300, kind, 0.3)
        if kind != "u1":
            x[[3, 70, 299]] = -0.0, np.nan, 5e-324 if kind == "f8" else 1e-45
        for offset, size in ((0, 300), (0, 5), (7, 64), (7, 65), (250, 50), (299, 1), (30, 0)):
            words = np.zeros(6, np.uint64)
            row_bitmap(x, offset, size, words, 1)
            bits = np.unpackbits(words.astype("<u8").view(np.uint8), bitorder="little")
            np.testing.assert_array_equal(bits[64 : 64 + size], x[offset : offset + size] != 0)
            assert not bits[:64].any()
            assert not bits[64 + size :].any()


@pytest.mark.small
def test_transposed_bitmap(rng):
    for n in (1, 63, 64, 100):
        bits = rng.random((n, 128)) < 0.4
        words = np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)
        out = np.zeros((64, (n + 63) // 64), np.uint64)
        transposed_bitmap(words.reshape(-1)[1:], 2, n, out.reshape(-1), out.shape[1])
        back = np.unpackbits(out.astype("<u8").view(np.uint8), axis=1, bitorder="little")
        np.testing.assert_array_equal(back[:, :n], bits[:, 64:].T)
        assert not back[:, n:].any()


@pytest.mark.small
def test_lowest_bit():
    @njit
    def places(words):
        return [_bitmap.lowest_bit(word) for word in words]

    words = np.array([0, 1, 2, 12, 1 << 63, 2**64 - 1], np.uint64)
    assert list(places(words)) == [64, 0, 1, 2, 63, 0]


@pytest.mark.small
def test_density(rng):
    x = np.zeros((50, 200))
    assert _bitmap.density(x) == 0
    x[:, ::4] = 3
    assert _bitmap.density(x) == 0.25
    assert _bitmap.density(x + 1) == 1
    assert _bitmap.density(x[:0]) == 0


def test_the_route_is_chosen_by_density(rng, dtype):
    W = rng.random((784, 50)).astype(dtype)
    assert skips_zeros(sparse(rng, (100, 784), dtype, 0.2), W, 50)[0]
    assert not skips_zeros(sparse(rng, (100, 784), dtype, 0.9), W, 50)[0]
    assert not skips_zeros(sparse(rng, (100, 784), dtype, 0.2), W[:, :1].copy(), 1)[0]
    W[700, 3] = np.inf
    assert not skips_zeros(sparse(rng, (100, 784), dtype, 0.2), W, 50)[0]


@pytest.mark.parametrize("shape", [(100, 784, 50), (300, 784, 50), (1000, 300, 33)], ids=str)
def test_affine_of_sparse_input(rng, shape, layout, dtype):
    """The public functions take any layout; NaN and infinity are where NumPy has them."""
    n, d, m = shape
    x = sparse(rng, (n, d), dtype, 0.15)
    W, b, dout = (rng.standard_normal(s).astype(dtype) for s in ((d, m), m, (n, m)))
    for spoil in (None, "x", "W", "dout"):
        arrays = {"x": x.copy(), "W": W.copy(), "dout": dout.copy()}
        if spoil:
            arrays[spoil][n // 2 % len(arrays[spoil]), 1] = np.inf
            arrays[spoil][1, 2] = np.nan
        a, w, g = arrays.values()
        wide = [v.astype("f8") for v in (a, w, g)]
        out = affine_forward(layout(a), layout(w), b)
        bound = naive.affine_forward(abs(wide[0]), abs(wide[1]), abs(b))
        naive.assert_within(out, naive.affine_forward(wide[0], wide[1], b), bound, d)
        grads = affine_backward(layout(g), layout(a), layout(w))
        expected = naive.affine_backward(wide[2], wide[0], wide[1])
        bounds = naive.affine_backward(abs(wide[2]), abs(wide[0]), abs(wide[1]))
        for got, want, bound, terms in zip(grads, expected, bounds, (m, n, n), strict=True):
            naive.assert_within(got, want, bound, terms)


@pytest.mark.parametrize("shape", [(1000, 784, 50), (257, 300, 130), (100, 784, 50)], ids=str)
def test_bits_do_not_depend_on_threads(rng, bits_on_threads, monkeypatch, shape, dtype):
    n, d, m = shape
    x = sparse(rng, (n, d), dtype, 0.2)
    W, b, dout = (rng.standard_normal(s).astype(dtype) for s in ((d, m), m, (n, m)))
    for f in (lambda: affine_forward(x, W, b), lambda: affine_backward_params(dout, x, W)):
        one, others = bits_on_threads(f)
        assert all(bits == one for bits in others)
        addresses = _gemm.get_product_addresses(x.dtype, W.dtype, _gemm.DENSE)
        with monkeypatch.context() as patch:  # also identical to the dense product
            for needs in (_gemm.FORWARD, _gemm.BACKWARD):
                patch.setitem(_gemm._addresses, (needs, x.dtype, W.dtype), addresses)
                patch.delitem(affine._code, (x.dtype, W.dtype, needs), raising=False)
            one_dense, others = bits_on_threads(f)
            assert one_dense == one
            assert all(bits == one for bits in others)


def test_x_changed_in_place(rng, dtype):
    """No state is kept between calls."""
    x, W, b = sparse(rng, (100, 784), dtype, 0.1), rng.random((784, 50)).astype(dtype), np.zeros(50)
    for share in (0.1, 0.3, 0, 1):
        x[:] = sparse(rng, (100, 784), dtype, share)
        expected = naive.affine_forward(x.astype("f8"), W.astype("f8"), b)
        naive.assert_within(affine_forward(x, W, b), expected, abs(expected), 784)


SSE2 = """
import numpy as np
import test_bitmap as t
assert t.VECTOR_BYTES == 16
rng = np.random.default_rng(0)
for shape in ((100, 784, 50), (9, 70, 21), (257, 65, 130)):
    t.test_bits_of_the_dense_product(rng, shape, ("f4", "f4"))
    t.test_bits_of_the_dense_product(rng, shape, ("u1", "f8"))
"""


@pytest.mark.exhaustive
def test_narrower_vectors(tmp_path):
    environment = {"NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": str(tmp_path)}
    tests = Path(__file__).parent
    paths = os.pathsep.join(map(str, (tests, tests.parent)))
    environment = {**os.environ, **environment, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", SSE2], env=environment, check=True, timeout=200)


def test_one_vector_of_columns_and_many(rng):
    """Test every width of a strip, and several strips; single rows, and pairs with a remainder."""
    x = sparse(rng, (5, 91), "f4", 0.3)
    lanes = VECTOR_BYTES // 4
    for vectors in range(1, 30):
        for more in (-1, 0):
            m = vectors * lanes + more
            b = rng.random(m).astype("f4")
            for a_t, depth, rows in ((NO_TRANSPOSE, 91, 5), (TRANSPOSE, 5, 91)):
                W = rng.random((depth, m)).astype("f4")
                dense, skipped = both_ways(x, a_t, W, b, (rows, m))
                assert dense.tobytes() == skipped.tobytes()
