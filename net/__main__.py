"""Run the command line: ``python -m net``, or ``njitnet``."""

import gc
import sys

from net.cli import main


def run() -> int:
    """Run `main` as a process, with few garbage collections: a run makes little garbage.

    Returns
    -------
    int
        The exit status.
    """
    gc.set_threshold(100_000)  # collections while Numba is imported would take 0.1 s
    status = main()
    gc.freeze()  # so that the interpreter, before it exits, does not search all objects: 0.1 s
    return status


if __name__ == "__main__":
    sys.exit(run())
