"""Vector width of the processor, and sizes of the micro-kernel's register tiles."""

from llvmlite.binding import get_host_cpu_name
from numba import config
from numba.core import codegen

# For each instruction set: bytes of a vector register, and vectors across a tile. Six rows by
# `across` accumulators, a row of `b` and one broadcast element must fit into the registers.
_SIMD_TARGETS = (
    # feature, bytes, across
    ("+avx512f", 64, 4),  # 32 registers: 24 accumulators
    ("+avx2", 32, 2),  # 16 registers: 12 accumulators
    ("+neon", 16, 4),  # 32 registers: 24 accumulators
    ("", 16, 2),  # SSE2: 16 registers
)


def _processor() -> str:
    name: str = config.CPU_NAME or get_host_cpu_name()
    return name


def _simd_target() -> tuple[int, int]:
    """Return the bytes of a vector and the vectors across a tile for the target processor."""
    features = config.CPU_FEATURES
    if features is None:
        features = "" if config.CPU_NAME == "generic" else codegen.get_host_cpu_features()
    return next(
        (size, across)
        for name, size, across in _SIMD_TARGETS
        if name in features.split(",") or not name
    )


VECTOR_BYTES, TILE_VECTORS = _simd_target()
LOADED_BYTES = min(VECTOR_BYTES, 32) if _processor() == "znver4" else VECTOR_BYTES
"""Bytes of a vector in kernels that are limited by loads. Zen 4 splits 64-byte operations into two
halves: two 32-byte vectors cost the same, and leave fewer lanes idle."""
OVERLAPS = VECTOR_BYTES < 64
"""Whether the remainder columns are computed in a full vector that overlaps the preceding columns,
if there are enough of these. Masked access is slow on processors without mask registers."""
COMPRESSES = VECTOR_BYTES == 64
"""Whether one instruction stores the selected elements of a vector side by side."""
EVEN_TILES = TILE_VECTORS == 2
"""Whether the rows of a block are distributed evenly over its tiles. Eight accumulators hide the
latency of a multiply-add: four rows of a tile two vectors wide, or two rows of four vectors."""
TILE_ROWS = (6, 5, 4, 3, 2, 1) if EVEN_TILES else (6, 2, 1)
"""Rows of a tile. With `EVEN_TILES` the heights in a block differ by at most one; otherwise the
largest height that fits is taken next."""
NARROW_TILE_ROWS = (7, 8, 4, 2, 1)
"""Rows of a tile at most half as wide, where 6 accumulators do not hide the latency. Seven rows are
used only if 7 divides the number of rows, as it does the widths 28, 14 and 7 of MNIST's images."""
ROW_VECTORS = 8
"""Vectors across the tile of a block of a single row, whose vectors of `b` are memory operands."""
