"""The command line: ``njitnet``, or ``python -m net``."""

import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from net import predict_command, train_command
from net.alone import Alone
from net.arguments import predict_parser, train_parser
from net.console import complain, describe, give_up, give_up_silently

if TYPE_CHECKING:
    from net.ranks import Ranks


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the lecture's network, or let a trained one predict; see ``njitnet --help``.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line, without the program's name; by default from `sys.argv`.

    Returns
    -------
    int
        The exit status: 0, 2 after an error, 130 after Ctrl-C, 141 when nobody reads the output.
    """
    run, parser = train_command.run, train_parser
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["predict"]:
        run, parser = predict_command.run, predict_parser
    if words[:1] in (["predict"], ["train"]):
        del words[0]
    if isinstance(sys.stdout, io.TextIOWrapper):  # each line at once, and any file's name
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    # It may be ignored instead, as in a background job, or the caller's own.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, give_up)
    ranks: Alone | Ranks = Alone()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            if "--mpi" in words:
                ranks = _join()
            with ranks:
                with ranks.together():
                    options = parser().parse_args(words)
                return run(options, ranks)
    except KeyboardInterrupt as error:
        return complain("interrupted", 130, error, ranks.first)
    except BrokenPipeError:
        return 141
    except (OSError, ValueError, OverflowError, MemoryError, Warning) as error:
        return complain(f"error: {describe(error)}", 2, error, ranks.first)
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _let_go(sys.stdout)
        _let_go(sys.stderr)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    complain(f"warning: {message}", 0)


def _join() -> "Ranks":
    """Return this process as one of those that mpiexec started; others than rank 0 are silent."""
    try:
        from net.ranks import world
    except (ImportError, RuntimeError) as error:  # the second where it finds no MPI
        raise ValueError(
            "argument --mpi: expected mpi4py and an MPI to be installed, as by "
            f"pip install 'njitnet[mpi]' ({error})"
        ) from error
    ranks = world()
    if not ranks.first:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if signal.getsignal(signal.SIGINT) is give_up:
            signal.signal(signal.SIGINT, give_up_silently)
    return ranks


def _let_go(stream: TextIO | None) -> None:
    """Write what a stream still holds, or drop it, so that Python does not fail to as it ends."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
