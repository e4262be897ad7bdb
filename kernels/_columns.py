"""Reductions and element-wise operations on the columns of a matrix, computed in float64.

Each function takes a block of adjacent columns: column `first` and the next ones, one for each
element of its vectors. The inner loops run along a row, with one sum per column. So the loops are
vectorised, and each sum is over the rows in a fixed order.
The columns of a feature are adjacent, and every feature has the same number of columns, such as the
positions of a channel.
"""

import numpy as np

from kernels._compiler import inner


@inner
def sum_columns(x, first, sums):
    """Add the sum of each column to `sums`."""
    n, last = x.shape[0], first + sums.size
    for i in range(0, n // 4 * 4, 4):  # four rows at a time: fewer loads and stores of the sums
        a, b = x[i, first:last], x[i + 1, first:last]
        c, d = x[i + 2, first:last], x[i + 3, first:last]
        for j in range(sums.size):
            low = np.float64(a[j]) + np.float64(b[j])
            sums[j] += low + (np.float64(c[j]) + np.float64(d[j]))
    for i in range(n // 4 * 4, n):
        a = x[i, first:last]
        for j in range(sums.size):
            sums[j] += np.float64(a[j])


@inner
def sum_squares(x, first, means, sums):
    """Add the sum of the squared deviations of each column from its mean to `sums`."""
    n, last = x.shape[0], first + sums.size
    for i in range(0, n // 2 * 2, 2):
        a, b = x[i, first:last], x[i + 1, first:last]
        for j in range(sums.size):
            da, db = np.float64(a[j]) - means[j], np.float64(b[j]) - means[j]
            sums[j] += da * da + db * db
    for i in range(n // 2 * 2, n):
        a = x[i, first:last]
        for j in range(sums.size):
            da = np.float64(a[j]) - means[j]
            sums[j] += da * da


@inner
def sum_products(dout, x, first, means, sums, products):
    """Add the sums of the columns of `dout` and of ``dout * (x - mean)``.

    The former are added to `sums`, the latter to `products`.
    """
    n, last = x.shape[0], first + sums.size
    for i in range(0, n // 2 * 2, 2):
        da, db = dout[i, first:last], dout[i + 1, first:last]
        xa, xb = x[i, first:last], x[i + 1, first:last]
        for j in range(sums.size):
            a, b = np.float64(da[j]), np.float64(db[j])
            sums[j] += a + b
            products[j] += a * (np.float64(xa[j]) - means[j]) + b * (np.float64(xb[j]) - means[j])
    for i in range(n // 2 * 2, n):
        da, xa = dout[i, first:last], x[i, first:last]
        for j in range(sums.size):
            sums[j] += np.float64(da[j])
            products[j] += np.float64(da[j]) * (np.float64(xa[j]) - means[j])


@inner
def normalise(x, first, means, scales, shifts, out):
    """Compute ``out = (x - mean) scale + shift``, with a mean, scale and shift per column."""
    for i in range(x.shape[0]):
        a, b = x[i, first : first + means.size], out[i, first : first + means.size]
        for j in range(b.size):
            b[j] = (np.float64(a[j]) - means[j]) * scales[j] + shifts[j]


@inner
def gradient(dout, x, first, means, scales, shifts, slopes, dx):
    """Compute ``dx = scale (dout - shift - (x - mean) slope)``.

    The mean, scale, shift and slope are those of the column.
    """
    last = first + means.size
    for i in range(x.shape[0]):
        d, a, b = dout[i, first:last], x[i, first:last], dx[i, first:last]
        for j in range(b.size):
            slant = (np.float64(a[j]) - means[j]) * slopes[j]
            b[j] = scales[j] * (np.float64(d[j]) - shifts[j] - slant)


@inner
def sum_groups(columns, out):
    """Fill `out` with the sum of the columns of each feature."""
    span = columns.size // out.size
    for f in range(out.size):
        total = 0.0
        for j in range(f * span, (f + 1) * span):
            total += columns[j]
        out[f] = total


@inner
def repeat_groups(values, columns):
    """Return an array of `columns` values: that of each feature, repeated for its columns."""
    out, span = np.empty(columns), columns // values.size
    for f in range(values.size):
        for j in range(f * span, (f + 1) * span):
            out[j] = values[f]
    return out
