"""Selection of the processes of a run: this process, or the ranks of a communicator."""

from typing import Any

from net.distributed import SingleProcess


def processes(comm: Any) -> SingleProcess:
    """Return the processes of a training run: this process, or the ranks of a communicator.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm or None
        None for this process alone.

    Returns
    -------
    SingleProcess or ProcessGroup

    Raises
    ------
    TypeError
        If `comm` is not a communicator of mpi4py.
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
