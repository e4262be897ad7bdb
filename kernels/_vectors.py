"""The processor's vectors, and the tiles of sums that fit its registers."""

from llvmlite.binding import get_host_cpu_name
from numba import config
from numba.core import codegen

# Vector registers of a processor family: bytes in each, and vectors across a tile. Six rows by
# `across` vectors of sums, a row of `b` and one broadcast must fit into its registers.
_SIMD_TARGETS = (
    # feature, bytes, across
    ("+avx512f", 64, 4),  # 32 registers: 24 sums
    ("+avx2", 32, 2),  # 16 registers: 12 sums
    ("+neon", 16, 4),  # 32 registers: 24 sums
    ("", 16, 2),  # SSE2: 16 registers
)


def _processor() -> str:
    name: str = config.CPU_NAME or get_host_cpu_name()
    return name


def _simd_target() -> tuple[int, int]:
    """Bytes of a vector and vectors across a tile on the processor compiled for."""
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
"""Bytes of a vector that is loaded whole. Zen 4 takes vectors of 64 bytes in two halves: where
loads bound the time, two vectors of 32 cost the same, and fewer columns are idle."""
OVERLAPS = VECTOR_BYTES < 64
"""Whether columns that do not fill a vector overlap their neighbours where there are any: masks
take long where the processor has no registers for them."""
EVEN_TILES = TILE_VECTORS == 2
"""Whether a block's rows are shared out evenly. Eight sums hide how long a multiply-add takes:
tiles of two vectors need four rows for that, those of four vectors two."""
TILE_ROWS = (6, 5, 4, 3, 2, 1) if EVEN_TILES else (6, 2, 1)
"""Heights of the tiles: evenly shared out, they differ by one at most; or else the highest that
fits comes next."""
NARROW_TILE_ROWS = (7, 8, 4, 2, 1)
"""The same where a tile is at most half as wide: 6 sums alone would wait for one another. Sevens
are taken if nothing is left of them, as of the 28, 14 and 7 pixels across an image of MNIST."""
ROW_VECTORS = 8 if OVERLAPS else TILE_VECTORS
"""Vectors of sums in the tile of a block of one row, which reads those of `b` from memory."""
