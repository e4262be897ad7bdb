"""The processes that train: this one alone, or the ranks of a communicator."""

from typing import Any

from net.distributed import SingleProcess


def processes(comm: Any) -> SingleProcess:
    """Return the processes that train: this one alone, or the ranks of a communicator.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm or None

    Returns
    -------
    SingleProcess or ProcessGroup

    Raises
    ------
    TypeError
        If `comm` is no communicator.
    """
    if comm is None:
        return SingleProcess()
    try:
        from net.process_group import ProcessGroup
    except ImportError as error:
        raise TypeError(
            f"comm: expected a communicator of mpi4py, which is not installed, got {comm!r}"
        ) from error
    return ProcessGroup(comm)
