"""What Ctrl-C and SIGTERM do to a command."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

MESSAGE = "interrupted"

_terminated = False


def exit_on_interrupt(*_: Any) -> NoReturn:
    """End the process on Ctrl-C as long as there is nothing to keep.

    A KeyboardInterrupt would be lost where LLVM calls Python as it compiles.
    """
    os.write(2, b"njitnet: interrupted\n")
    os._exit(130)


def exit_silently(*_: Any) -> NoReturn:
    """End the process on Ctrl-C where another process prints that."""
    os._exit(130)


def raise_on_interrupt() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt, and so does SIGTERM: a network is kept."""
    if signal.getsignal(signal.SIGINT) in (exit_on_interrupt, exit_silently):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: Any) -> None:
    global _terminated
    _terminated = True
    signal.raise_signal(signal.SIGINT)


def exit_status() -> int:
    """Return the exit status of a command that was interrupted: 130, or 143 by SIGTERM."""
    return 143 if _terminated else 130


@contextmanager
def handled() -> Iterator[None]:
    """Let Ctrl-C end the process at once, until `raise_on_interrupt`.

    A signal that is ignored, as in a background job, or that the caller handles, is left alone.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, exit_on_interrupt)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if signal.getsignal(signal.SIGTERM) is _interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
