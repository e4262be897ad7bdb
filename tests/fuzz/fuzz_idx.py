"""Fuzz the reader of IDX files: no input may do more than raise ValueError.

With atheris installed, from the repository's root, for ten minutes and at most 1 GB of memory:

    mkdir -p /tmp/idx && PYTHONPATH=. python tests/fuzz/fuzz_idx.py /tmp/idx \
        -max_total_time=600 -rss_limit_mb=1024 -timeout=120

The first byte of an input selects the number of dimensions, whether all rows are read or half of
them, and the form of the other bytes: a plain file, a compressed file, or the content of a
compressed file, which bypasses the checksum.
"""

import gzip
import io
import struct
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["net.mnist"]):
    from net.mnist import _parse_idx

PACKED, SENT = 1, 2  # else plain


def read(data: bytes) -> None:
    """Read one input as an IDX file."""
    first, content = data[0] if data else 0, data[1:]
    ndim, form, parts = 3 if first & 1 else 1, first >> 1 & 3, 2 if first & 16 else 1
    stream = io.BytesIO(gzip.compress(content, 1) if form == PACKED else content)
    if form:
        stream = gzip.GzipFile(fileobj=stream)
    try:
        array, length = _parse_idx(stream, ndim, (first >> 5 & parts - 1, parts))
    except ValueError:
        return
    assert array.ndim == ndim
    assert abs(len(array) - length / parts) < 1
    assert array.size <= 1100 * len(content)  # deflate packs at most 1032 to 1


def seed(folder: Path) -> None:
    """Write valid inputs, which the fuzzer mutates."""
    labels = struct.pack(">2I", 2049, 4) + bytes(4)
    images = struct.pack(">4I", 2051, 2, 3, 5) + bytes(30)
    for bit, content in enumerate((labels, images)):
        for form in (0, PACKED, SENT):
            first = bytes([form << 1 | bit])
            rest = gzip.compress(content) if form == SENT else content
            (folder / f"seed{first.hex()}").write_bytes(first + rest)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if Path(argument).is_dir():
            seed(Path(argument))
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
