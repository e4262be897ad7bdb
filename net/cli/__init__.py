"""The command line: ``njitnet``, or ``python -m net``."""

import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any, TextIO

from net.cli import interrupts, predict, train
from net.cli.console import describe_error, print_error
from net.cli.parser import predict_parser, train_parser
from net.distributed import SingleProcess


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a network of the course, or predict with a trained network; see ``njitnet --help``.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command-line arguments without the program's name; by default from `sys.argv`.

    Returns
    -------
    int
        Exit status: 0 on success, 2 after an error, 130 after Ctrl-C, 143 after SIGTERM, 141 if
        the output pipe was closed.
    """
    run, parser = train.run, train_parser
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["predict"]:
        run, parser = predict.run, predict_parser
    if words[:1] in (["predict"], ["train"]):
        del words[0]
    if isinstance(sys.stdout, io.TextIOWrapper):  # flush each line; print any file name
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    group = SingleProcess()
    with interrupts.handled():
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                if "--mpi" in words:
                    group = _join_group()
                with group:
                    with group.errors_on_all_ranks():
                        options = parser().parse_args(words)
                    return run(options, group)
        except KeyboardInterrupt as error:
            return print_error(
                interrupts.MESSAGE, interrupts.exit_status(), error, group.is_rank_zero
            )
        except BrokenPipeError:
            return 141
        except (OSError, ValueError, OverflowError, MemoryError, Warning) as error:
            return print_error(f"error: {describe_error(error)}", 2, error, group.is_rank_zero)
        finally:
            _flush(sys.stdout)
            _flush(sys.stderr)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print_error(f"warning: {message}", 0)


def _join_group() -> SingleProcess:
    """Return the group of processes that mpiexec started; silence all ranks except 0."""
    try:
        from net.process_group import world
    except (ImportError, RuntimeError) as error:  # RuntimeError: no MPI library found
        raise ValueError(
            "argument --mpi: expected mpi4py and an MPI library, installed by "
            f"pip install 'njitnet[mpi]' ({error})"
        ) from error
    group = world()
    if not group.is_rank_zero:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if signal.getsignal(signal.SIGINT) is interrupts.exit_on_interrupt:
            signal.signal(signal.SIGINT, interrupts.exit_silently)
    return group


def _flush(stream: TextIO | None) -> None:
    """Flush a stream; if that fails, discard its buffer so that Python exits without error."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
