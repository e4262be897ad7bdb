"""The exponential function in a form that LLVM vectorises.

LLVM does not vectorise a loop that calls the C library's ``exp``. This function is straight-line
arithmetic: ``x = n log 2 + r`` with an integer ``n`` and ``|r| <= log(2) / 2``, and
``exp x = 2**n exp r``, with ``exp r = 1 + r + r**2 q(r)`` and ``q`` a polynomial. The error is
below 1 ulp. Infinities, NaN and denormal results are handled correctly.

The coefficients are a Chebyshev fit of ``(exp r - 1 - r) / r**2`` on that interval. The error of
the fit is 1.3e-17 (float64) and 7.8e-9 (float32), relative to the result. The method is that of
W. Cody and W. Waite, "Software Manual for the Elementary Functions" (1980).
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._compiler import overload, register_jitable

# Adding 1.5 * 2**(bits of the fraction) rounds to an integer, which is then in the low bits;
# subtracting the constant again gives the integer as a float.
_SHIFT32, _SHIFT64 = np.float32(1.5 * 2.0**23), 1.5 * 2.0**52
_LOG2E32, _LOG2E64 = np.float32(1.442695040888963407), 1.442695040888963407
# log 2 in two parts, the first with few enough bits that its product with n is exact.
_HIGH32, _LOW32 = np.float32(0.693359375), np.float32(-2.12194440054690583e-4)
_HIGH64, _LOW64 = 6.93147180369123816490e-1, 1.90821492927058770002e-10
# Beyond these the result is 0 or infinity.
_LEAST32, _MOST32 = np.float32(-104.0), np.float32(89.0)
_LEAST64, _MOST64 = -746.0, 710.0
_Q32 = tuple(
    np.float32(c)
    for c in (
        0.5,
        0.16666576989698775683,
        0.041666554617204574203,
        0.0083631790527225773704,
        0.0013926183587713494542,
    )
)
_Q64 = (
    0.50000000000000010221,
    0.16666666666666667453,
    0.041666666666624127873,
    0.0083333333333300618325,
    0.0013888888917213716901,
    0.00019841269863053616878,
    0.000024801521295954375131,
    2.7557268459997064772e-6,
    2.7620088445409748161e-7,
    2.5100385495510319078e-8,
)


@intrinsic
def _multiply_add(context, a, b, c):
    # a * b + c, with one rounding if the processor has fused multiply-add.
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        name = f"llvm.fmuladd.f{a.bitwidth}"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind] * 3), name
        )
        return builder.call(function, args)

    return a(a, a, a), emit


@intrinsic
def _times_power(context, p, shifted):
    # p * 2**n, with the integer n read from the low bits of n + shift. Two factors, because 2**n
    # alone may be out of range when the result is not.
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = p.bitwidth
        fraction = 23 if bits == 32 else 52
        whole = ir.IntType(bits)
        one = ir.Constant(whole, ((1 << (bits - fraction - 2)) - 1) << fraction)
        shift = ir.Constant(
            whole,
            int(_SHIFT32.view(np.int32))
            if bits == 32
            else int(np.float64(_SHIFT64).view(np.int64)),
        )
        n = builder.sub(builder.bitcast(args[1], whole), shift)
        half = builder.ashr(n, ir.Constant(whole, 1))
        result = args[0]
        for part in (half, builder.sub(n, half)):
            power = builder.add(builder.shl(part, ir.Constant(whole, fraction)), one)
            result = builder.fmul(result, builder.bitcast(power, args[0].type))
        return result

    return p(p, p), emit


@register_jitable
def _exp32(x):
    x = _LEAST32 if x < _LEAST32 else x
    x = _MOST32 if x > _MOST32 else x
    shifted = _multiply_add(x, _LOG2E32, _SHIFT32)
    n = shifted - _SHIFT32
    r = _multiply_add(n, -_LOW32, _multiply_add(n, -_HIGH32, x))
    q = _multiply_add(r, _Q32[4], _Q32[3])
    q = _multiply_add(r, q, _Q32[2])
    q = _multiply_add(r, q, _Q32[1])
    q = _multiply_add(r, q, _Q32[0])
    return _times_power(_multiply_add(r * r, q, r) + np.float32(1), shifted)


@register_jitable
def _exp64(x):
    x = _LEAST64 if x < _LEAST64 else x
    x = _MOST64 if x > _MOST64 else x
    shifted = _multiply_add(x, _LOG2E64, _SHIFT64)
    n = shifted - _SHIFT64
    r = _multiply_add(n, -_LOW64, _multiply_add(n, -_HIGH64, x))
    q = _multiply_add(r, _Q64[9], _Q64[8])
    q = _multiply_add(r, q, _Q64[7])
    q = _multiply_add(r, q, _Q64[6])
    q = _multiply_add(r, q, _Q64[5])
    q = _multiply_add(r, q, _Q64[4])
    q = _multiply_add(r, q, _Q64[3])
    q = _multiply_add(r, q, _Q64[2])
    q = _multiply_add(r, q, _Q64[1])
    q = _multiply_add(r, q, _Q64[0])
    return _times_power(_multiply_add(r * r, q, r) + 1.0, shifted)


def exp(x: Any) -> Any:
    """Return ``e**x`` of a float32 or float64 scalar, for loops in compiled code."""
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(x)


@overload(exp)
def _jit_exp(x):
    function = _exp32 if x == types.float32 else _exp64
    return lambda x: function(x)
