"""Handling of Ctrl-C and SIGTERM by the commands."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

MESSAGE = "interrupted"

_terminated = False


def exit_on_interrupt(*_: Any) -> NoReturn:
    """Exit immediately on Ctrl-C, before there are results to save.

    A KeyboardInterrupt raised in a callback from LLVM during compilation would be lost.
    """
    os.write(2, b"njitnet: interrupted\n")
    os._exit(130)


def exit_silently(*_: Any) -> NoReturn:
    """Exit immediately on Ctrl-C without a message, since rank 0 prints one."""
    os._exit(130)


def raise_on_interrupt() -> None:
    """Make Ctrl-C and SIGTERM raise KeyboardInterrupt, so that the network is saved."""
    if signal.getsignal(signal.SIGINT) in (exit_on_interrupt, exit_silently):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: Any) -> None:
    global _terminated
    _terminated = True
    signal.raise_signal(signal.SIGINT)


def exit_status() -> int:
    """Return the exit status of an interrupted command: 130, or 143 after SIGTERM."""
    return 143 if _terminated else 130


@contextmanager
def handled() -> Iterator[None]:
    """Make Ctrl-C exit immediately, until `raise_on_interrupt` is called.

    A signal that is ignored, as in a background job, or handled by the caller is left unchanged.
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
