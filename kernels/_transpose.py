"""Transposition of a matrix in square tiles that fit into vector registers.

A tile of eight rows is transposed in three rounds of shuffles. In the round with distance ``s``,
rows ``i`` and ``i + s`` exchange elements that are ``s`` columns apart, as in J. Eklundh, "A Fast
Computer Method for Matrix Transposing", IEEE Transactions on Computers C-21 (1972). In a scalar
loop, each store would touch another cache line.
"""

from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from kernels._addresses import element_type, matrix_at
from kernels._compiler import inner, register_jitable
from kernels._plain_code import plain_array
from kernels._vectors import VECTOR_BYTES

MAX_SIDE = 8
MAX_ROW_BYTES = min(VECTOR_BYTES, 32)
"""Bytes of a tile's row. Shuffles across vectors of 64 bytes take an index vector and more time."""


@register_jitable
def _side(itemsize):
    """Return the side of a tile; a tile of bytes fills a vector of 16."""
    return 2 * MAX_SIDE if itemsize == 1 else min(MAX_SIDE, MAX_ROW_BYTES // itemsize)


@intrinsic
def _transpose_square(context, a, a_row, out, out_row, like):
    """Transpose a square tile at an address; `a_row` and `out_row` are row strides in elements."""

    def emit(context, builder, signature, args):
        element = element_type(like.dtype)
        size = like.dtype.bitwidth // 8
        side = _side(size)
        vector = ir.VectorType(element, side)

        def row(start, step, i):
            first = builder.inttoptr(start, element.as_pointer())
            at = builder.gep(first, [builder.mul(step, ir.Constant(step.type, i))])
            return builder.bitcast(at, vector.as_pointer())

        rows = [builder.load(row(args[0], args[1], i), align=size) for i in range(side)]
        step = side // 2
        while step:
            lower = [j if not j & step else side + j - step for j in range(side)]
            upper = [j + step if not j & step else side + j for j in range(side)]
            for i in range(side):
                if not i & step:
                    pair = rows[i], rows[i + step]
                    for at, picks in ((i, lower), (i + step, upper)):
                        mask = ir.Constant(ir.VectorType(ir.IntType(32), side), picks)
                        rows[at] = builder.shuffle_vector(*pair, mask)
            step //= 2
        for i in range(side):
            builder.store(rows[i], row(args[2], args[3], i), align=size)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4, like), emit


def _plain_transpose_square(a, a_row, out, out_row, like):
    shape = [_side(like.itemsize)] * 2
    square = plain_array(a, shape, (a_row, 1), like.dtype)
    plain_array(out, shape, (out_row, 1), like.dtype)[...] = square.T


if config.DISABLE_JIT:
    _transpose_square = _plain_transpose_square


@inner
def transpose_at(a, a_row, rows, columns, out, out_row, like):
    """Transpose a matrix at the address `a` into memory at `out`.

    Parameters
    ----------
    a, out : int
        Addresses of the first elements.
    a_row, out_row : int
        Row strides in elements, of the matrix and of its transpose.
    rows, columns : int
        Shape of the matrix.
    like : ndarray
        Array of the same dtype; its contents are not used.
    """
    size, side = like.itemsize, _side(like.itemsize)
    if rows < side or columns < side:
        source, target = matrix_at(a, rows, a_row, like), matrix_at(out, columns, out_row, like)
        for i in range(rows):
            for j in range(columns):
                target[j, i] = source[i, j]
        return
    for i0 in range(0, rows, side):  # the last tiles overlap the ones before them
        for j0 in range(0, columns, side):
            i, j = min(i0, rows - side), min(j0, columns - side)
            _transpose_square(
                a + size * (i * a_row + j), a_row, out + size * (j * out_row + i), out_row, like
            )
