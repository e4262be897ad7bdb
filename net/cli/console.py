"""Helpers shared by the commands: output, and checks before a run."""

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from net.distributed import is_raised_on_all_ranks

# The start of the interpreter and of the package's imports is not known; the processor time that
# they took is.
START_SECONDS = time.process_time()


def describe_error(error: BaseException) -> str:
    """Return an error message for the user."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or "not enough memory"


def print_error(
    message: str, status: int, error: BaseException | None = None, is_rank_zero: bool = True
) -> int:
    """Print a line on standard error, once if all ranks raise `error`; return `status`."""
    if is_rank_zero or not is_raised_on_all_ranks(error):
        print_status(f"njitnet: {' '.join(message.split())}")
    return status


def print_status(text: str) -> None:
    """Print a line on standard error; ignore failures, so that a full disk does not end a run."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def set_threads(count: int | None) -> None:
    """Set the number of threads of the kernels; None leaves the default."""
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
    """Check before a run that its output file can be written; create the file's folder."""
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
    """Return whether a stream is a terminal."""
    return stream is not None and stream.isatty()


def print_result(name: str, value: object) -> None:
    """Print the name and the value of a result."""
    print(f"{name:<15}{value}")
