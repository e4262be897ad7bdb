"""Layers of a convolutional network: convolution and maximum pooling."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

import kernels
from kernels._arrays import as_real
from net.layers._base import Array, Layer, MaybeLater, as_parameter, require_forward
from net.validation import check_int


class Convolution(Layer):
    """Convolution of images with filters; see `kernels.convolution_forward`.

    Parameters
    ----------
    W : ndarray, shape (FN, C, FH, FW)
        Filters, float32 or float64; integers are converted to float64. Not copied: changing the
        array in place changes the layer.
    b : ndarray, shape (FN,), or a number
        Bias, converted to the dtype of `W`. A number is the initial bias of every filter.
    stride : int, default 1
        Distance between windows.
    pad : int, default 0
        Number of zeros added on each side of an image.
    input_gradient : bool, default True
        Whether `backward` computes the gradient with respect to the input. A network's first layer
        does not need it.

    Attributes
    ----------
    W, b : ndarray
        Parameters.
    x : ndarray, shape (N, C, H, W), or None
        Last input.
    dW, db : ndarray or None
        Gradients of the last `backward`, new arrays each time.

    Examples
    --------
    >>> import numpy as np
    >>> from net import Convolution
    >>> layer = Convolution(np.ones((1, 1, 2, 2)), np.array([0.5]))
    >>> layer.forward(np.arange(4.0).reshape(1, 1, 2, 2))
    array([[[[6.5]]]])
    >>> layer.backward(np.array([[[[2.0]]]]))
    array([[[[2., 2.],
             [2., 2.]]]])
    >>> layer.dW, layer.db
    (array([[[[0., 2.],
             [4., 6.]]]]), array([2.]))
    """

    parameters: ClassVar[tuple[str, ...]] = ("W", "b")
    options: ClassVar[tuple[str, ...]] = ("stride", "pad", "input_gradient")

    def __init__(
        self,
        W: ArrayLike,
        b: ArrayLike,
        stride: int = 1,
        pad: int = 0,
        *,
        input_gradient: bool = True,
    ):
        self.W = as_parameter(W, "W", 4)
        if np.ndim(b) == 0:
            b = np.full(self.W.shape[0], as_parameter(b, "b", 0, self.W.dtype))
        self.b = as_parameter(b, "b", 1, self.W.dtype)
        if self.b.shape != self.W.shape[:1]:
            raise ValueError(
                f"b: expected shape {self.W.shape[:1]} for W {self.W.shape}, got {self.b.shape}"
            )
        self.stride, self.pad = check_int(stride, "stride", 1), check_int(pad, "pad", 0)
        self.input_gradient = input_gradient
        self.x: Array | None = None
        self.dW: Array | None = None
        self.db: Array | None = None

    def __repr__(self) -> str:
        shape = ", ".join(map(str, self.W.shape))
        return f"Convolution({shape}, stride={self.stride}, pad={self.pad})"

    def forward(self, x: ArrayLike) -> Array:
        """Convolve a batch of images.

        Parameters
        ----------
        x : array_like, shape (N, C, H, W)

        Returns
        -------
        out : ndarray, shape (N, FN, OH, OW)

        Raises
        ------
        TypeError
            If `x` does not hold real numbers, or is masked.
        ValueError
            If the shapes do not match, or no window fits into the padded image.
        """
        x = x if type(x) is np.ndarray else as_real(x, "x")
        out = kernels.convolution_forward(x, self.W, self.b, self.stride, self.pad)
        self.x = x
        return out

    def backward(self, dout: ArrayLike) -> Array | None:
        """Set `dW` and `db`, and return the gradient with respect to the input.

        Parameters
        ----------
        dout : array_like, shape (N, FN, OH, OW)
            Gradient with respect to the output.

        Returns
        -------
        dx : ndarray, shape of the input, or None
            None without `input_gradient`.

        Raises
        ------
        RuntimeError
            If `forward` has not been called.
        ValueError
            If `dout` does not have the shape of the output.
        """
        args = dout, require_forward(self, "x"), self.W, self.stride, self.pad
        if not self.input_gradient:
            self.dW, self.db = kernels.convolution_backward_params(*args)
            return None
        dx, self.dW, self.db = kernels.convolution_backward(*args)
        return dx


class Pooling(Layer):
    """Maximum pooling; see `kernels.max_pool_forward`.

    Parameters
    ----------
    pool_h, pool_w : int
        Height and width of the windows.
    stride : int, default 2
        Distance between windows.
    pad : int, default 0
        Padding on each side of an image; padded elements are never a maximum.

    Attributes
    ----------
    x : ndarray, shape (N, C, H, W), or None
        Last input.
    arg_max : ndarray of int32, shape (N, C, PH, PW), or None
        Index in its window of each maximum of the last input.

    Examples
    --------
    >>> import numpy as np
    >>> from net import Pooling
    >>> layer = Pooling(2, 2)
    >>> layer.forward(np.array([[[[1.0, 2.0], [4.0, 3.0]]]]))
    array([[[[4.]]]])
    >>> layer.backward(np.array([[[[5.0]]]]))
    array([[[[0., 0.],
             [5., 0.]]]])
    """

    options: ClassVar[tuple[str, ...]] = ("pool_h", "pool_w", "stride", "pad")

    x = MaybeLater()
    arg_max = MaybeLater()

    def __init__(self, pool_h: int, pool_w: int, stride: int = 2, pad: int = 0):
        self.pool_h, self.pool_w = check_int(pool_h, "pool_h", 1), check_int(pool_w, "pool_w", 1)
        self.stride, self.pad = check_int(stride, "stride", 1), check_int(pad, "pad", 0)
        self.x = self.arg_max = None

    def __repr__(self) -> str:
        return f"Pooling({self.pool_h}, {self.pool_w}, stride={self.stride}, pad={self.pad})"

    def forward(self, x: ArrayLike) -> Array:
        """Take the maximum of each window.

        Parameters
        ----------
        x : array_like, shape (N, C, H, W)

        Returns
        -------
        out : ndarray, shape (N, C, PH, PW)

        Raises
        ------
        TypeError
            If `x` does not hold real numbers, or is masked.
        ValueError
            If `x` does not have 4 dimensions, no window fits into the padded image, or the pad is
            as large as a window.
        """
        x = x if type(x) is np.ndarray else as_real(x, "x")
        out, self.arg_max = kernels.max_pool_forward(
            x, self.pool_h, self.pool_w, self.stride, self.pad
        )
        self.x = x
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """Return the gradient with respect to the input; see `kernels.max_pool_backward`."""
        shape, arg_max = require_forward(self, "x").shape, require_forward(self, "arg_max")
        return kernels.max_pool_backward(
            dout, arg_max, shape, self.pool_h, self.pool_w, self.stride, self.pad
        )
