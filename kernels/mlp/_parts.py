"""The first layer of a training iteration where zeros are skipped.

Its inputs are divided into one or two parts. The weights of a part and its columns of the batch
belong to one thread, or are shared by several, and stay in their caches. The products of the parts
are added in order.
"""

import numpy as np

from kernels._addresses import address_of, copy_bytes, matrix_at
from kernels._bitmap import WORD, lowest_bit, row_bitmap_at
from kernels._bitmap_gemm import PAIRED, SINGLE, bitmap_gemm
from kernels._cache_lines import prefetch
from kernels._compiler import inner
from kernels._denormals import flush_denormals, restore_denormals
from kernels._threads import chunk_bounds
from kernels._updates import descend
from kernels.mlp._stack import (
    BIAS,
    BY_BITS,
    DOUT,
    ITEMSIZE,
    OUTPUT,
    OUTPUTS,
    ROW_BITMAP,
    VALUES,
    WEIGHT,
    activate_rows,
    rows_of,
)

FORWARD_ROWS = 256
"""Number of examples whose inputs stay in the L2 cache while they are multiplied by all weights."""
GRADIENT_WORDS = 4
"""Number of 64-bit words of examples over which a weight gradient is summed at a time."""
NEXT_ROWS = 4
"""Number of examples by which prefetching is ahead of copying a batch."""
PREFETCHED = 1 << 19
"""Number of inputs in a part of a batch above which the gradient prefetches the next examples."""


@inner
def part_share(n, part, parts, thread, num_threads):
    """Return the bounds of a thread's share of the `n` items of a part.

    The parts are divided among the threads in order: with two threads, each has one of two parts.
    """
    before = part * num_threads
    first = min(max(thread * parts - before, 0), num_threads)
    last = min(max((thread + 1) * parts - before, 0), num_threads)
    return first * n // num_threads, last * n // num_threads


@inner
def take_batch(net, data, examples, bounds, batch, words, ahead, thread, num_threads):
    """Copy one thread's share of a batch, and compute its bitmap; or prefetch it, if `ahead`.

    Without words, zeros are not skipped: the share is a range of examples, not of inputs.
    """
    n, parts, start, itemsize = examples.size, bounds.size - 1, np.int64(0), net[0, ITEMSIZE]
    for part in range(parts):
        first, size = bounds[part], bounds[part + 1] - bounds[part]
        width = (size + WORD - 1) // WORD
        if words.size:  # columns, for all examples
            w0, w1 = part_share(width, part, parts, thread, num_threads)
            r0, r1, j0, j1 = np.int64(0), n, w0 * WORD, min(size, w1 * WORD)
        else:
            w0, j0, j1 = np.int64(0), np.int64(0), size
            r0, r1 = chunk_bounds(n, thread, num_threads)
        for r in range(r0, r1 if j0 < j1 else r0):
            at, count = n * first + r * size + j0, (j1 - j0) * itemsize
            source = examples[r] * data.shape[1] + (first + j0) * itemsize
            if ahead:
                prefetch(data, source, count)
                continue
            if r + NEXT_ROWS < r1:  # not all are still in the L2 cache
                later = examples[r + NEXT_ROWS] * data.shape[1]
                prefetch(data, later + (first + j0) * itemsize, count)
            if words.size:
                # From the data: to load what was just copied would wait for the stores.
                row_bitmap_at(net[0, ROW_BITMAP], address_of(data, 0), source // itemsize, j1 - j0,
                    address_of(words, start + r * width + w0))  # fmt: skip
            copy_bytes(address_of(batch, at * itemsize), address_of(data, source), count)
        start += n * width


@inner
def fill_words(words, r0, r1, width, size):
    """Set all bits of rows `r0` to `r1`, as if no element were zero."""
    for r in range(r0, r1):
        for w in range(width):
            rest = size - w * WORD
            ones = ~np.uint64(0)
            words[r * width + w] = ones if rest >= WORD else ~(ones << np.uint64(max(rest, 0)))


@inner
def multiply_parts(net, zeros, n, bounds, batch, words, infinite, sums, thread, num_threads):
    """Compute one thread's share of the products of the parts; the bias is added to the first."""
    m, parts, start = net[0, OUTPUTS], bounds.size - 1, np.int64(0)
    for part in range(parts):
        first, size = bounds[part], bounds[part + 1] - bounds[part]
        width = (size + WORD - 1) // WORD
        r0, r1 = part_share(n, part, parts, thread, num_threads)
        if infinite[0]:
            fill_words(words[start:], r0, r1, width, size)
        init, row_bytes = address_of(zeros, 0) if part else net[0, BIAS], net[0, ITEMSIZE] * size
        for r in range(r0, r1, FORWARD_ROWS):
            out, last = address_of(sums[part], r * m), min(r1, r + FORWARD_ROWS)
            ahead = row_bytes * FORWARD_ROWS if last < r1 else 0
            bitmap_gemm(net[0, BY_BITS], SINGLE, address_of(words, start + r * width), width, size,
                address_of(batch, net[0, ITEMSIZE] * n * first + r * row_bytes), size, 1, ahead,
                net[0, VALUES], net[0, WEIGHT] + zeros.itemsize * first * m, m, 0, out, init, 0,
                out, m, last - r, m)  # fmt: skip
        start += n * width


@inner
def add_parts(net, zeros, sums, r0, r1):
    """Compute the first layer's output for examples `r0` to `r1` from the products of the parts."""
    m = net[0, OUTPUTS]
    out = rows_of(net, zeros, np.int64(0), OUTPUT, r0, r1).reshape(-1)
    first, second = sums[0, r0 * m : r1 * m], sums[1, r0 * m : r1 * m]
    for i in range(out.size):
        out[i] = first[i] + second[i]
    activate_rows(net, zeros, np.int64(0), r0, r1)


@inner(inline="always")  # in a call, Numba would count references to the arrays, for each input
def _input_of_one(net, zeros, batch, values, j):
    """Return input `j` of a single example in the dtype of the parameters."""
    if net[0, ITEMSIZE] == 1:
        return values[batch[j]]
    if net[0, ITEMSIZE] == zeros.itemsize:
        return batch.view(zeros.dtype)[j]
    return zeros.dtype.type(batch.view(np.float32)[j])


@inner
def gradient_of_one(net, zeros, batch, j0, j1, out):
    """Compute rows `j0` to `j1` of the first weight gradient of a single example: ``x dout``."""
    m = net[0, OUTPUTS]
    dout = matrix_at(net[0, DOUT], np.int64(1), m, zeros)[0]
    values = matrix_at(net[0, VALUES], np.int64(1), np.int64(256), zeros)[0]
    for j in range(j0, j1):
        x = _input_of_one(net, zeros, batch, values, j)
        row = out[(j - j0) * m : (j - j0 + 1) * m]
        for c in range(m):
            row[c] = x * dout[c] + zeros.dtype.type(0)  # -0 becomes +0, as in other products


@inner
def descend_by_one(net, zeros, weights, bounds, batch, words, lr, thread, num_threads):
    """Update one thread's share of the first weights, ``W -= lr x dout``, by a single example.

    Only rows of inputs that are not zero change. Return whether their new values are finite.
    """
    m, start, wrong = net[0, OUTPUTS], np.int64(0), np.int32(0)
    dout = matrix_at(net[0, DOUT], np.int64(1), m, zeros)[0]
    values = matrix_at(net[0, VALUES], np.int64(1), np.int64(256), zeros)[0]
    mode = flush_denormals()
    for part in range(bounds.size - 1):
        width = (bounds[part + 1] - bounds[part] + WORD - 1) // WORD
        w0, w1 = part_share(width, part, bounds.size - 1, thread, num_threads)
        for w in range(w0, w1):
            some = words[start + w]
            while some:
                j = bounds[part] + w * WORD + lowest_bit(some)
                some &= some - np.uint64(1)
                x = _input_of_one(net, zeros, batch, values, j)
                row = weights[j * m : (j + 1) * m]
                for c in range(m):
                    row[c] = descend(row[c], x * dout[c] + zeros.dtype.type(0), lr)
                    wrong = np.int32(wrong | np.int32(not np.isfinite(row[c])))
        start += width
    restore_denormals(mode)
    return wrong == 0


@inner
def gradient_by_bits(net, zeros, n, a, a_row, j0, j1, words, out):
    """Compute rows `j0` to `j1` of a part's weight gradient from their transposed bitmap.

    `a` is the address of the part's columns of the batch, in rows of `a_row` elements.
    """
    # A single group is multiplied here: with few examples the call takes longer than the product.
    if n > GRADIENT_WORDS * WORD:
        _add_gradients(net, zeros, n, a, a_row, j0, j1, words, out)
        return
    m, to = net[0, OUTPUTS], address_of(out, 0)
    bitmap_gemm(net[0, BY_BITS], PAIRED, address_of(words, 0), (n + WORD - 1) // WORD, n,
        a + net[0, ITEMSIZE] * j0, 1, a_row, 0, net[0, VALUES], net[0, DOUT], m, 0, to,
        address_of(zeros, 0), 0, to, m, j1 - j0, m)  # fmt: skip


@inner
def _add_gradients(net, zeros, n, a, a_row, j0, j1, words, out):
    """Add the gradients of groups of examples; the inputs of the next group are prefetched."""
    m, itemsize, width = net[0, OUTPUTS], net[0, ITEMSIZE], (n + WORD - 1) // WORD
    count = (itemsize * (j1 - j0) + zeros.itemsize - 1) // zeros.itemsize
    group, to, far = GRADIENT_WORDS * WORD, address_of(out, 0), n * a_row > PREFETCHED
    for first in range(0, n, group):
        at, last = a + itemsize * (first * a_row + j0), min(n, first + group)
        for i in range(last, min(n, last + group) if far else last):
            inputs = matrix_at(a + itemsize * (i * a_row + j0), np.int64(1), count, zeros)
            prefetch(inputs, np.int64(0), count)
        init, init_row = (to, m) if first else (address_of(zeros, 0), 0)
        sums = address_of(out, out.size // 2) if first else to
        bitmap_gemm(net[0, BY_BITS], PAIRED, address_of(words, first // WORD), width, last - first,
            at, 1, a_row, 0, net[0, VALUES], net[0, DOUT] + zeros.itemsize * first * m, m, 0, sums,
            init, init_row, to, m, j1 - j0, m)  # fmt: skip
