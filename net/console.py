"""What the commands share: words on the terminal, Ctrl-C, and checks before the work."""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn, TextIO

from net.alone import on_all_ranks

# What was done before this line, the interpreter's start and the package's own imports, can only be
# told by the processor time it took.
BEFORE = time.process_time()


def give_up(*_: Any) -> NoReturn:
    """End the process on Ctrl-C as long as there is nothing to keep.

    A KeyboardInterrupt would be lost where LLVM calls Python as it compiles.
    """
    os.write(2, b"njitnet: interrupted\n")
    os._exit(130)


def give_up_silently(*_: Any) -> NoReturn:
    """Do so where another process says it."""
    os._exit(130)


def describe(error: Exception) -> str:
    """Say in words what went wrong."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or "not enough memory"


def complain(
    message: str, status: int, error: BaseException | None = None, first: bool = True
) -> int:
    """Say something in one line on standard error; once, where all ranks have the error."""
    if first or not on_all_ranks(error):
        print("njitnet:", " ".join(message.split()), file=sys.stderr)
    return status


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


def check_writable(file: Path) -> None:
    """See that a file can be written, before any work is done for it; makes its folder."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        raise ValueError(
            f"{file.parent}: expected a folder to write in, or the name for a new one "
            f"({error.strerror})"
        ) from error
    if file.is_dir():
        raise ValueError(f"{file}: expected a file to write, found a folder")


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether somebody looks at a stream."""
    return stream is not None and stream.isatty()


def line(name: str, value: object) -> None:
    """Print a result."""
    print(f"{name:<15}{value}")
