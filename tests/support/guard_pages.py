"""Program that runs the kernels that work on addresses with guard pages beside each array.

Numba's bounds checking does not cover such kernels. Here each array ends directly before a guard
page, or begins directly after one, so that an access beyond it ends the process. The memory on the
other side of an array is filled with a pattern that must not change.
"""

import ctypes
import faulthandler
import itertools
import mmap

import naive_convolution
import numpy as np
from support.from_python import callable_from_python

from kernels import (
    affine_backward,
    affine_forward,
    convolution_backward,
    convolution_forward,
    pooling,
)
from kernels._convolution import IDENTITY, RELU_POOL, padded_filters, run_forward
from kernels._convolution_backward import run_backward
from kernels._convolution_block import convolution_relu_pool_backward
from kernels._gemm import gemm_block as compiled_gemm_block
from kernels._gemm import get_microkernel_address, get_product_addresses
from kernels._gemm_threads import gemm
from kernels._images import as_images
from kernels._threads import Team
from kernels.convolution import convolution_operands
from kernels.mlp import RELU, CompiledNetwork, MLPTrainer
from kernels.mlp._stack import BIAS, WEIGHT

gemm_block = callable_from_python(compiled_gemm_block)

PAGE, NOBODY, PATTERN = mmap.PAGESIZE, 0, 0xA5
ENDS = (True, False)
_libc = ctypes.CDLL(None, use_errno=True)
_kept = []  # memory that must outlive its arrays, and the patterns to check


def guarded(a, at_end=True):
    """Copy an array to memory directly before a guard page, or directly after one."""
    pages = -(-a.nbytes // PAGE) + 2
    memory = mmap.mmap(-1, pages * PAGE)
    all_of_it = np.frombuffer(memory, np.uint8)
    for place in (0, (pages - 1) * PAGE):
        address = ctypes.c_void_p(all_of_it.ctypes.data + place)
        if _libc.mprotect(address, ctypes.c_size_t(PAGE), NOBODY):
            raise OSError(ctypes.get_errno(), "mprotect")
    inner = all_of_it[PAGE:-PAGE]
    inner[:] = PATTERN
    start = inner.size - a.nbytes if at_end else 0
    rest = inner[:start] if at_end else inner[a.nbytes :]
    copy = inner[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    copy[...] = a
    _kept.append((memory, rest))
    return copy


def release():
    """Check that no pattern was overwritten."""
    for _, rest in _kept:
        assert (rest == PATTERN).all()
    _kept.clear()


SHAPES = [
    *itertools.product((1, 2, 5, 7, 13), (1, 3, 16), (1, 2, 4, 9, 17, 33)),
    *(
        (100, 784, 50),
        (100, 50, 10),
        (31, 1030, 67),
        (257, 65, 130),
        (7, 400, 129),
        (300, 530, 270),
    ),
    *((0, 3, 2), (3, 0, 2), (3, 2, 0)),
]


def check_products(rng):
    """Run ``out = op(a) op(b) + bias`` as in the affine layer: forward and both gradients."""
    for n, k, m in SHAPES:
        for a_kind, kind in (("u1", "f4"), ("f4", "f4"), ("f4", "f8"), ("f8", "f8")):
            kinds = np.dtype(a_kind), np.dtype(kind)
            a = rng.integers(0, 9, (n, k)).astype(kinds[0])
            b, bias = rng.integers(-9, 9, (k, m)).astype(kind), rng.integers(-9, 9, m).astype(kind)
            expected = a.astype("f8") @ b.astype("f8") + bias
            for at_end, (a_t, b_t) in itertools.product(ENDS, ((0, 0), (1, 0), (0, 1))):
                operands = [
                    guarded(np.ascontiguousarray(x), at_end)
                    for x in (a.T if a_t else a, b.T if b_t else b, bias, np.empty((n, m), kind))
                ]
                a_, b_, bias_, out = operands
                gemm(get_product_addresses(*kinds), a_, bool(a_t), b_, bool(b_t), bias_, out)
                np.testing.assert_array_equal(out, expected)
                if not b_t:  # from the non-zero elements of `a`
                    out[...] = 0
                    rest = np.int64(0), np.int64(n), np.int64(0), np.int64(m), True
                    addresses = get_product_addresses(*kinds)
                    gemm_block(addresses, a_, bool(a_t), b_, False, bias_, out, *rest)
                    np.testing.assert_array_equal(out, expected)
        release()


def check_public(rng):
    for n, d, m in SHAPES:
        for at_end in ENDS:
            x, W, b, dout = (
                guarded(rng.integers(-9, 9, shape).astype("f8"), at_end)
                for shape in ((n, d), (d, m), (m,), (n, m))
            )
            np.testing.assert_array_equal(affine_forward(x, W, b), x @ W + b)
            dx, dW, db = affine_backward(dout, x, W)
            np.testing.assert_array_equal(dx, dout @ W.T)
            np.testing.assert_array_equal(dW, x.T @ dout)
            np.testing.assert_array_equal(db, dout.sum(axis=0))
        release()


CONVOLUTIONS = [
    # N, C, H, W, FN, FH, FW, stride, pad
    (2, 1, 6, 5, 3, 3, 2, 1, 0),
    (3, 1, 9, 9, 17, 5, 5, 1, 2),
    (2, 3, 7, 6, 5, 3, 3, 2, 1),
    (2, 16, 6, 7, 18, 3, 3, 1, 0),
    (12, 17, 4, 5, 33, 3, 2, 1, 1),
    (2, 9, 5, 5, 4, 1, 1, 1, 1),
    (1, 20, 7, 7, 6, 3, 3, 3, 0),
    (1, 40, 5, 5, 70, 3, 3, 1, 0),  # in several parts
]


def guarded_images(rng, shape, kind, last, at_end):
    """Return a batch of small integers in either memory order, between guard pages."""
    n, c, h, w = shape
    a = rng.integers(-9, 9, (n, h, w, c) if last else shape).astype(kind)
    a = guarded(a, at_end)
    return a.transpose(0, 3, 1, 2) if last else a


def check_convolution(rng):
    for shape, kind in itertools.product(CONVOLUTIONS, ("f4", "f8")):
        (n, c, h, w, filters, fh, fw), options = shape[:7], shape[7:]
        stride, pad = options
        out_shape = n, filters, (h + 2 * pad - fh) // stride + 1, (w + 2 * pad - fw) // stride + 1
        address = get_microkernel_address(np.dtype(kind))
        for at_end, last in itertools.product(ENDS, ENDS):
            x = guarded_images(rng, (n, c, h, w), kind, last, at_end)
            W = guarded(rng.integers(-9, 9, (filters, c, fh, fw)).astype(kind), at_end)
            b = guarded(rng.integers(-9, 9, filters).astype(kind), at_end)
            dout = guarded_images(rng, out_shape, kind, last, at_end)
            expected = naive_convolution.convolution_forward(x, W, b, *options)
            np.testing.assert_array_equal(convolution_forward(x, W, b, *options), expected)
            gradients = naive_convolution.convolution_backward(dout, x, W, *options)
            for got, want in zip(
                convolution_backward(dout, x, W, *options), gradients, strict=True
            ):
                np.testing.assert_array_equal(got, want)
            # Place the arrays that are allocated inside between guard pages, too.
            images, is_last, W, g = convolution_operands("", x, W, *options)
            out = guarded(np.empty((n, *out_shape[2:], filters), kind), at_end)
            none = np.empty(0, np.uint8)
            run_forward(address, images, is_last, W, b, g, IDENTITY, out, True, none)
            np.testing.assert_array_equal(out.transpose(0, 3, 1, 2), expected)
            dx = guarded(np.empty((n, h, w, c), kind), at_end)
            run_backward(address, np.ascontiguousarray(dout), False, IDENTITY, out, none,
                images, is_last, W, g, True, dx)  # fmt: skip
            np.testing.assert_array_equal(dx.transpose(0, 3, 1, 2), gradients[0])
            check_block(rng, x, W, b, g, kind, last, at_end)
        release()


def check_block(rng, x, W, b, g, kind, last, at_end):
    """Run convolution, ReLU and pooling in one pass: 0 where a maximum is not above 0."""
    height, width = g.out_height // 2, g.out_width // 2
    if not (height and width):
        return
    y = np.maximum(naive_convolution.convolution_forward(x, W, b, g.stride, g.pad), 0)
    expected, arg_max = naive_convolution.max_pool_forward(y, 2, 2, 2)
    images, is_last, W, g = convolution_operands("", x, W, g.stride, g.pad)
    address = get_microkernel_address(np.dtype(kind))
    shape = (g.images, height, width, g.filters)
    out = guarded(np.empty(shape if last else [shape[i] for i in (0, 3, 1, 2)], kind), at_end)
    columns = padded_filters(g.filters, W.itemsize)
    arg = guarded(np.empty((*shape[:3], columns), np.uint8), at_end)
    run_forward(address, images, is_last, W, b, g, RELU_POOL, out, last, arg)
    np.testing.assert_array_equal(out.transpose(0, 3, 1, 2) if last else out, expected)
    dout = guarded_images(rng, expected.shape, kind, last, at_end)
    dy = naive_convolution.max_pool_backward(dout, arg_max, y.shape, 2, 2, 2) * (y > 0)
    gradients = naive_convolution.convolution_backward(dy, x, W, g.stride, g.pad)
    found = convolution_relu_pool_backward(dout, arg, x, W, g.stride, g.pad)
    for got, want in zip(found, gradients, strict=True):
        np.testing.assert_array_equal(got, want)


def check_pooling(rng):
    windows = (2, 2, 2, 0), (3, 2, 1, 1), (2, 2, 2, 1)
    sizes = (2, 1, 5, 4), (1, 17, 4, 6), (2, 16, 6, 6), (1, 33, 5, 5)
    for options, size, kind in itertools.product(windows, sizes, ("f4", "f8")):
        for at_end, last in itertools.product(ENDS, ENDS):
            x = guarded_images(rng, size, kind, last, at_end)
            expected, arg_max = naive_convolution.max_pool_forward(x, *options)
            n, c, height, width = expected.shape
            images, is_last = as_images(x, "x")
            out = guarded(np.empty((n, height, width, c), kind), at_end)
            indices = guarded(np.empty(out.shape, np.int32), at_end)
            sizes_ = pooling._pool_sizes("", size, *options)
            pooling._run_forward(images, is_last, out, indices, *sizes_)
            np.testing.assert_array_equal(out.transpose(0, 3, 1, 2), expected)
            np.testing.assert_array_equal(indices.transpose(0, 3, 1, 2), arg_max)
            dout = guarded_images(rng, expected.shape, kind, last, at_end)
            dx = guarded(np.empty((n, *size[2:], c), kind), at_end)
            upper, upper_last = as_images(dout, "dout")
            assert not pooling._run_backward(upper, upper_last, indices, dx, *sizes_)
            wanted = naive_convolution.max_pool_backward(dout, arg_max, size, *options)
            np.testing.assert_array_equal(dx.transpose(0, 3, 1, 2), wanted)
        release()


def train_stack(seed, sizes, kinds, is_sparse, at_end, threads):
    """Train a stack for a few iterations, with guarded arrays unless `at_end` is None."""
    rng = np.random.default_rng(seed)
    n, batch, *units = sizes
    x = (rng.random((n, units[0])) > 0.6) * rng.integers(0, 9, (n, units[0]))
    x, dtype = x.astype(kinds[0]), np.dtype(kinds[1])
    pairs = list(itertools.pairwise(units))
    weights = [rng.standard_normal(pair).astype(dtype) for pair in pairs]
    biases = [rng.standard_normal(m).astype(dtype) for m in units[1:]]
    states = [[np.zeros_like(a) for pair in zip(weights, biases, strict=True) for a in pair]] * 2
    activations = [RELU] * (len(units) - 2)
    indices, t = rng.integers(0, n, (3, batch)), rng.integers(0, units[-1], n)
    with Team(3) as team:
        data = x if at_end is None else guarded(x, at_end)
        make = weights, biases, activations, batch, data, team, "adam", [0.01, 0.9, 0.999, 1e-7]
        trainer = MLPTrainer(*make, states, sparse=is_sparse)
        if at_end is not None:
            work, net = trainer._work, trainer._net
            copies = {name: guarded(getattr(work, name), at_end) for name in work._fields}
            trainer._work = work._replace(**copies)
            net[:, [WEIGHT, BIAS]] += trainer._work.state.ctypes.data - work.state.ctypes.data
        losses = trainer.train(indices, t[indices], None, threads)
        accuracy = trainer.accuracy(data, t)
        trainer.store()
    network = CompiledNetwork(weights, biases, activations)
    if at_end is not None:
        x = guarded(x, at_end)
        weights, biases = ([guarded(a, at_end) for a in p] for p in (weights, biases))
        network = CompiledNetwork(weights, biases, activations)
    forward, dweights, dbiases = network.gradient(x, t)
    return [losses, np.array(accuracy), *weights, *biases, forward.y, *dweights, *dbiases]


def check_stacks():
    sizes = [(5, 1, 1, 1, 1), (9, 2, 70, 5, 3), (70, 67, 130, 33, 65, 11), (20, 7, 3, 65, 2)]
    kinds = [("f4", "f4", True), ("f8", "f8", True), ("u1", "f4", True),
        ("f4", "f8", False)]  # fmt: skip
    for seed, (size, (*types, is_sparse)) in enumerate(itertools.product(sizes, kinds)):
        plain = train_stack(seed, size, types, is_sparse, None, 1)
        for at_end, threads in itertools.product(ENDS, (2, 3)):
            got = train_stack(seed, size, types, is_sparse, at_end, threads)
            for a, b in zip(got, plain, strict=True):
                np.testing.assert_array_equal(a, b)
            release()


if __name__ == "__main__":
    faulthandler.enable()
    check_products(np.random.default_rng(0))
    check_public(np.random.default_rng(1))
    check_convolution(np.random.default_rng(3))
    check_pooling(np.random.default_rng(4))
    check_stacks()
    print("all in bounds")
