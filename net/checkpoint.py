"""The state of a training run in a file: network, history and random state."""

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from net import archive
from net.two_layer_net import TwoLayerNet

if TYPE_CHECKING:
    from net.training import History

Settings = dict[str, Any]


def write(
    path: archive.Path_, network: TwoLayerNet, history: "History", random: Any, settings: Settings
) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : str or os.PathLike
    network : TwoLayerNet
    history : History
    random : numpy.random.Generator, RandomState or the module numpy.random
        What draws the batches; its state is kept.
    settings : dict
        What has to be the same when the run goes on.

    Raises
    ------
    OSError
        If the folder is missing or not writable, or the disk is full.
    """
    state = {"settings": settings, "random": get_state(random)}
    lists = {name: np.array(values) for name, values in _lists(history).items()}
    text = np.array(json.dumps(state, default=lambda a: a.tolist()))
    try:
        archive.write(path, {**network.params, **lists, "state": text})
    except OSError as error:
        done = len(history.train_loss_list)
        error.strerror = f"{error.strerror}; the network in memory keeps its {done} iterations"
        raise


def restore(
    path: archive.Path_, network: TwoLayerNet, history: "History", random: Any, settings: Settings
) -> int:
    """Bring network, history and random state to where a checkpoint left them.

    Parameters
    ----------
    path : str or os.PathLike
    network : TwoLayerNet
        Of the saved sizes and dtype.
    history : History
        Empty.
    random : numpy.random.Generator, RandomState or the module numpy.random
        Of the saved kind.
    settings : dict
        Those of this run.

    Returns
    -------
    int
        The number of iterations done.

    Raises
    ------
    OSError
        If the file is missing or cannot be read.
    ValueError
        If it is no checkpoint, or one of another run; nothing is changed then.
    """
    saved, lists, state = _read(path)
    for key, value in network.params.items():
        if (saved.params[key].shape, saved.params[key].dtype) != (value.shape, value.dtype):
            raise ValueError(
                f"{os.fspath(path)}: expected {key} {value.shape} of {value.dtype}, as in this "
                f"network, got {saved.params[key].shape} of {saved.params[key].dtype}"
            )
    if state["settings"] != settings:
        raise ValueError(
            f"{os.fspath(path)}: expected a run with {settings}, got one with {state['settings']}"
        )
    before = get_state(random)
    try:
        set_state(random, state["random"])
    except Exception as error:  # whatever NumPy raises for a state of another kind of generator
        set_state(random, before)
        raise ValueError(
            f"{os.fspath(path)}: expected the state of a generator like {random!r} ({error!r})"
        ) from error
    network.params.update(saved.params)
    vars(history).update(lists)
    return len(lists["train_loss_list"])


def read_history(path: archive.Path_) -> dict[str, list[Any]]:
    """Return the lists of the history in a checkpoint.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    dict of str to list
        By the names of `History`'s attributes.

    Raises
    ------
    OSError
        If the file is missing or cannot be read.
    ValueError
        If it is no checkpoint.
    """
    return _read(path)[1]


def _read(path: archive.Path_) -> tuple[TwoLayerNet, dict[str, list[Any]], dict[str, Any]]:
    """Read a checkpoint whose parts fit together: network, lists of the history, other state."""
    from net.training import History

    arrays = archive.read(path)
    network = TwoLayerNet.from_arrays(arrays, path)
    try:
        state = json.loads(str(arrays["state"][()]))
        lists = {name: arrays[name].tolist() for name in _lists(History())}
        done, evaluated = len(lists["train_loss_list"]), lists["evaluated_at"]
        right = (
            state.keys() >= {"settings", "random"}
            and all(
                type(value) is (int if name == "evaluated_at" else float)
                for name, values in lists.items()
                for value in values
            )
            and all(0 <= i < done for i in evaluated)
            and len(lists["train_acc_list"]) == len(evaluated)
            and len(lists["test_acc_list"]) in (0, len(evaluated))
        )
        problem = "its parts do not fit together"
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        right, problem = False, repr(error)
    if not right:
        raise ValueError(
            f"{os.fspath(path)}: expected a checkpoint of a training run, got another file "
            f"({problem})"
        )
    return network, lists, state


def _lists(history: "History") -> dict[str, list[Any]]:
    return {name: values for name, values in vars(history).items() if isinstance(values, list)}


def get_state(random: Any) -> Any:
    """Return the state of what draws random numbers.

    Parameters
    ----------
    random : numpy.random.Generator, RandomState or the module numpy.random

    Returns
    -------
    dict
    """
    if isinstance(random, np.random.Generator):
        return random.bit_generator.state
    return random.get_state(legacy=False)


def set_state(random: Any, state: Any) -> None:
    """Put what draws random numbers into a state.

    Parameters
    ----------
    random : numpy.random.Generator, RandomState or the module numpy.random
    state : dict
        From `get_state`.
    """
    # Where NumPy's generators are in their buffers: it does not look, and would read beyond them.
    pos, buffer_pos = state.get("state", {}).get("pos", 0), state.get("buffer_pos", 0)
    if not (0 <= pos <= 624 and 0 <= buffer_pos <= 4):
        raise ValueError(f"expected a position in the buffer, got {pos}, {buffer_pos}")
    if isinstance(random, np.random.Generator):
        random.bit_generator.state = state
    else:
        random.set_state(state)
