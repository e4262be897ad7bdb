"""A program that runs the kernels that work on addresses with forbidden memory beside each array.

Numba's check of bounds does not see them. Here each array ends where a page begins that may neither
be read nor written, or begins where one ends: a step outside ends the process. What lies on an
array's other side is filled with a pattern that has to stay.
"""

import ctypes
import faulthandler
import itertools
import mmap

import numpy as np

from kernels import affine_backward, affine_forward, sparse
from kernels._gemm import gemm, gemm_block, get_product_addresses
from kernels._threads import Team
from kernels.fused import Data, Fused, State, prepare
from kernels.mlp import RELU, CompiledNetwork, MLPTrainer, encode
from kernels.optimizers import ADAM

PAGE, NOBODY, PATTERN = mmap.PAGESIZE, 0, 0xA5
ENDS = (True, False)
_libc = ctypes.CDLL(None, use_errno=True)
_kept = []  # what must outlive its arrays, and the patterns to look at


def guarded(a, at_end=True):
    """Copy an array to where a forbidden page follows it, or lies before it."""
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
    """See that no pattern was written over."""
    for _, rest in _kept:
        assert (rest == PATTERN).all()
    _kept.clear()


SHAPES = [
    *itertools.product((1, 2, 5, 7, 13), (1, 3, 16), (1, 2, 4, 9, 17, 33)),
    *((100, 784, 50), (100, 50, 10), (31, 1030, 67), (257, 65, 130), (7, 400, 129)),
    *((0, 3, 2), (3, 0, 2), (3, 2, 0)),
]


def check_products(rng):
    """``out = op(a) op(b) + bias`` as the affine layer uses it: forward and both gradients."""
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
                if not b_t:  # by the non-zeros of `a`
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


def check_compacting(rng):
    with Team(2) as team:
        for n, d in itertools.product((1, 2, 9), (1, 4, 7, 33)):
            x = rng.integers(0, 3, (n, d)).astype("f4")
            x[n // 2] = 0
            plain = sparse.compact(x, np.dtype("f8"), team)
            for at_end in ENDS:
                starts, inputs, values = (guarded(a, at_end) for a in plain)
                inputs[:], values[:] = 0, 0
                team.run(sparse._fill, guarded(x, at_end), starts, inputs, values)
                np.testing.assert_array_equal(inputs, plain[1])
                np.testing.assert_array_equal(values, plain[2])
            release()


def train(rng_seed, sizes, kinds, is_sparse, at_end):
    """A few iterations, with all arrays guarded unless `at_end` is None: losses and parameters."""
    rng = np.random.default_rng(rng_seed)
    n, d, h, c, batch = sizes
    x = (rng.random((n, d)) * (rng.random((n, d)) > 0.6) * 9).astype(kinds[0])
    dtype = np.dtype(kinds[1])
    shapes = ((d, h), (h,), (h, c), (c,))
    parameters = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    indices, t = rng.integers(0, n, (5, batch)), rng.integers(0, c, n)
    with Team(2) as team:
        data = prepare(x, dtype, team, is_sparse)
        if at_end is not None:
            data = Data(*(guarded(a, at_end) for a in data))
        fused = Fused(parameters, batch, data, team)
        labels = t[indices]
        if at_end is not None:
            fused.state = State(*(guarded(a, at_end) for a in fused.state))
            indices, labels = guarded(indices, at_end), guarded(labels, at_end)
        losses = fused.train(indices, labels, np.empty((1, 0, 0), dtype), 0.1, 2)
        accuracy = fused.accuracy(data, t)
        fused.store()
    return [losses, np.array(accuracy), *parameters]


def check_training():
    sizes = [(5, 1, 1, 1, 1), (9, 7, 5, 3, 2), (70, 33, 40, 11, 13), (20, 3, 65, 2, 7)]
    kinds = [("f4", "f4", True), ("u1", "f4", False), ("f4", "f4", False), ("f8", "f8", True)]
    for seed, (size, (x_kind, kind, is_sparse)) in enumerate(itertools.product(sizes, kinds)):
        arguments = seed, size, (x_kind, kind), is_sparse
        plain = train(*arguments, None)
        for at_end in ENDS:
            for a, b in zip(train(*arguments, at_end), plain, strict=True):
                np.testing.assert_array_equal(a, b)
            release()


def train_stack(seed, sizes, kinds, is_sparse, min_size, at_end):
    """A few iterations of a stack, with data and buffers guarded unless `at_end` is None."""
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
    with Team(2) as team:
        data = encode(x, dtype, units[1], team, is_sparse, min_size)
        if at_end is not None:
            data = data._replace(codes=guarded(data.codes, at_end))
        make = weights, biases, activations, batch, data, team, ADAM, [0.01, 0.9, 0.999, 1e-7]
        trainer = MLPTrainer(*make, states)
        if at_end is not None:
            work, net = trainer._work, trainer._net
            parameters = guarded(work.parameters, at_end)
            moved = parameters.ctypes.data - work.parameters.ctypes.data
            names = ("s0", "s1", "rows", "words", "batch", "y", "losses", "squares")
            copies = {name: guarded(getattr(work, name), at_end) for name in names}
            trainer._work = work._replace(parameters=parameters, **copies)
            net.table[:, :2] += moved
        losses = trainer.train(indices, t[indices], None, 2)
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
    kinds = [("f4", "f4", True, 0), ("f8", "f8", True, 10**9), ("u1", "f4", True, 0),
        ("f4", "f8", False, 0)]  # fmt: skip
    for seed, (size, (*types, is_sparse, least)) in enumerate(itertools.product(sizes, kinds)):
        plain = train_stack(seed, size, types, is_sparse, least, None)
        for at_end in ENDS:
            got = train_stack(seed, size, types, is_sparse, least, at_end)
            for a, b in zip(got, plain, strict=True):
                np.testing.assert_array_equal(a, b)
            release()


if __name__ == "__main__":
    faulthandler.enable()
    check_products(np.random.default_rng(0))
    check_public(np.random.default_rng(1))
    check_compacting(np.random.default_rng(2))
    check_training()
    check_stacks()
    print("all in bounds")
