"""The course's convolution and pooling in plain NumPy, by im2col.

Nothing here imports ``kernels``.
"""

import numpy as np


def im2col(x, filter_h, filter_w, stride=1, pad=0, fill=0):
    """Return every window as a row, with shape ``(N OH OW, C filter_h filter_w)``."""
    n, c, h, w = x.shape
    out_h = (h + 2 * pad - filter_h) // stride + 1
    out_w = (w + 2 * pad - filter_w) // stride + 1
    img = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)], constant_values=fill)
    col = np.zeros((n, c, filter_h, filter_w, out_h, out_w), x.dtype)
    for y in range(filter_h):
        y_max = y + stride * out_h
        for i in range(filter_w):
            x_max = i + stride * out_w
            col[:, :, y, i] = img[:, :, y:y_max:stride, i:x_max:stride]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(n * out_h * out_w, c * filter_h * filter_w)


def col2im(col, shape, filter_h, filter_w, stride=1, pad=0):
    """Sum the gradients of the windows that contain each input element."""
    n, c, h, w = shape
    out_h = (h + 2 * pad - filter_h) // stride + 1
    out_w = (w + 2 * pad - filter_w) // stride + 1
    col = col.reshape(n, out_h, out_w, c, filter_h, filter_w).transpose(0, 3, 4, 5, 1, 2)
    img = np.zeros((n, c, h + 2 * pad + stride - 1, w + 2 * pad + stride - 1), col.dtype)
    with np.errstate(all="ignore"):
        for y in range(filter_h):
            y_max = y + stride * out_h
            for i in range(filter_w):
                x_max = i + stride * out_w
                img[:, :, y:y_max:stride, i:x_max:stride] += col[:, :, y, i]
    return img[:, :, pad : h + pad, pad : w + pad]


def output_size(x, filter_h, filter_w, stride, pad):
    h, w = x.shape[2:]
    return (h + 2 * pad - filter_h) // stride + 1, (w + 2 * pad - filter_w) // stride + 1


def convolution_forward(x, W, b, stride=1, pad=0):
    filters, _, filter_h, filter_w = W.shape
    out_h, out_w = output_size(x, filter_h, filter_w, stride, pad)
    with np.errstate(all="ignore"):
        col = im2col(x, filter_h, filter_w, stride, pad)
        out = col @ W.reshape(filters, col.shape[1]).T + b
    return out.reshape(len(x), out_h, out_w, filters).transpose(0, 3, 1, 2)


def convolution_backward(dout, x, W, stride=1, pad=0):
    filters, _, filter_h, filter_w = W.shape
    with np.errstate(all="ignore"):
        col = im2col(x, filter_h, filter_w, stride, pad)
        rows = dout.transpose(0, 2, 3, 1).reshape(len(col), filters)
        dW = (rows.T @ col).reshape(W.shape)
        dcol = rows @ W.reshape(filters, col.shape[1])
        dx = col2im(dcol, x.shape, filter_h, filter_w, stride, pad)
        return dx, dW, rows.sum(axis=0)


def max_pool_forward(x, pool_h, pool_w, stride, pad=0):
    """Return the maxima and their row-major indices in the windows; the padding is -inf."""
    n, c = x.shape[:2]
    out_h, out_w = output_size(x, pool_h, pool_w, stride, pad)
    x = x if x.dtype.kind == "f" else x.astype(np.float64)
    col = im2col(x, pool_h, pool_w, stride, pad, fill=-np.inf)
    col = col.reshape(n, out_h, out_w, c, pool_h * pool_w)
    inside = im2col(np.ones(x.shape), pool_h, pool_w, stride, pad).reshape(col.shape) > 0
    # A maximum of -inf is an element of the input, not of the padding.
    out = np.max(col, axis=-1)
    best = (col == out[..., None]) & inside
    arg_max = np.where(np.isnan(out), np.argmax(np.isnan(col), axis=-1), np.argmax(best, axis=-1))
    return out.transpose(0, 3, 1, 2), arg_max.transpose(0, 3, 1, 2)


def max_pool_backward(dout, arg_max, shape, pool_h, pool_w, stride, pad=0):
    n, c = dout.shape[:2]
    img = np.zeros((n, c, shape[2] + 2 * pad, shape[3] + 2 * pad), dout.dtype)
    with np.errstate(all="ignore"):
        for index in np.ndindex(dout.shape):
            i, j, y, x = index
            k = arg_max[index]
            img[i, j, y * stride + k // pool_w, x * stride + k % pool_w] += dout[index]
    return img[:, :, pad : pad + shape[2], pad : pad + shape[3]]


class Convolution:
    def __init__(self, W, b, stride=1, pad=0):
        self.W, self.b, self.stride, self.pad = W, b, stride, pad

    def forward(self, x):
        self.x = x
        return convolution_forward(x, self.W, self.b, self.stride, self.pad)

    def backward(self, dout):
        dx, self.dW, self.db = convolution_backward(dout, self.x, self.W, self.stride, self.pad)
        return dx


class Pooling:
    def __init__(self, pool_h, pool_w, stride=2, pad=0):
        self.options = pool_h, pool_w, stride, pad

    def forward(self, x):
        self.x = x
        out, self.arg_max = max_pool_forward(x, *self.options)
        return out

    def backward(self, dout):
        return max_pool_backward(dout, self.arg_max, self.x.shape, *self.options)
