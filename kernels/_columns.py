"""Passes along the columns of a matrix, in float64; sums are in the order of the rows.

Columns are those from `first` on, as many as the sums that they are added to.  The loops run along
a row, with one sum for each column: this fills the vectors without changing the order of a sum.
Adjacent columns form groups of equal size, such as the positions of a channel.
"""

import numpy as np

from kernels._cache import inner


@inner
def sum_columns(x, first, sums):
    """Add up each column from the first on."""
    n, last = x.shape[0], first + sums.size
    for i in range(0, n // 4 * 4, 4):  # four at a time: the sums are loaded and stored less often
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
    """Add up the squared distances of each column from its mean."""
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
    """Add up each column of dout, and of its product with the distances of x from the mean."""
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
    """``out = (x - mean) scale + shift``, with a mean, scale and shift for each column."""
    for i in range(x.shape[0]):
        a, b = x[i, first : first + means.size], out[i, first : first + means.size]
        for j in range(b.size):
            b[j] = (np.float64(a[j]) - means[j]) * scales[j] + shifts[j]


@inner
def gradient(dout, x, first, means, scales, shifts, slopes, dx):
    """``dx = scale (dout - shift - (x - mean) slope)``, with one of each for each column."""
    last = first + means.size
    for i in range(x.shape[0]):
        d, a, b = dout[i, first:last], x[i, first:last], dx[i, first:last]
        for j in range(b.size):
            slant = (np.float64(a[j]) - means[j]) * slopes[j]
            b[j] = scales[j] * (np.float64(d[j]) - shifts[j] - slant)


@inner
def sum_groups(columns, out):
    """Add up the columns of each feature."""
    span = columns.size // out.size
    for f in range(out.size):
        total = 0.0
        for j in range(f * span, (f + 1) * span):
            total += columns[j]
        out[f] = total


@inner
def repeat_groups(values, columns):
    """Return each feature's value once for each of its columns."""
    out, span = np.empty(columns), columns // values.size
    for f in range(values.size):
        for j in range(f * span, (f + 1) * span):
            out[j] = values[f]
    return out
