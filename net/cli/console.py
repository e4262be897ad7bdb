"""What the commands share: output, and checks before the work."""

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from net.distributed import is_raised_on_all_ranks

# What was done before this line, the interpreter's start and the package's own imports, can only be
# told by the processor time it took.
START_SECONDS = time.process_time()


def describe_error(error: BaseException) -> str:
    """Return in words what went wrong."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or "not enough memory"


def print_error(
    message: str, status: int, error: BaseException | None = None, is_rank_zero: bool = True
) -> int:
    """Print one line on standard error; once, where all ranks have the error. Return the status."""
    if is_rank_zero or not is_raised_on_all_ranks(error):
        print_status(f"njitnet: {' '.join(message.split())}")
    return status


def print_status(text: str) -> None:
    """Print a line on standard error, if that can be written: a full disk must not end the work."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def set_threads(count: int | None) -> None:
    """Let kernels use so many threads."""
    if count is None:
        return
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    if count > most:
        raise ValueError(
            f"argument --threads: expected a whole number from 1 to {most}, got '{count}'"
        )
    numba.set_num_threads(count)


def check_output(file: Path) -> None:
    """See that a file can be written, before any work is done for it; make its folder."""
    from net.archive import check_writable

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise ValueError(f"{file}: expected a file to write, got a folder")
        check_writable(file)
    except OSError as error:
        raise ValueError(
            f"{file.parent}: expected a folder to write in, or the name for a new one "
            f"({error.strerror})"
        ) from error


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a stream is shown on a terminal."""
    return stream is not None and stream.isatty()


def print_result(name: str, value: object) -> None:
    """Print a result under its name."""
    print(f"{name:<15}{value}")
