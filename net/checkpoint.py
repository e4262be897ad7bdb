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
    archive.write(path, {**network.params, **lists, "state": text})


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
    arrays = archive.read(path)
    saved = TwoLayerNet.from_arrays(arrays, path)
    for key, value in network.params.items():
        if (saved.params[key].shape, saved.params[key].dtype) != (value.shape, value.dtype):
            raise ValueError(
                f"{os.fspath(path)}: expected {key} {value.shape} of {value.dtype}, as in this "
                f"network, got {saved.params[key].shape} of {saved.params[key].dtype}"
            )
    try:
        state = json.loads(str(arrays["state"][()]))
        lists = {name: arrays[name].tolist() for name in _lists(history)}
        done = len(lists["train_loss_list"])
        found, random_state = state["settings"], state["random"]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"{os.fspath(path)}: expected a checkpoint of a training run, got another file "
            f"({error!r})"
        ) from error
    if found != settings:
        raise ValueError(f"{os.fspath(path)}: expected a run with {settings}, got one with {found}")
    before = get_state(random)
    try:
        set_state(random, random_state)
    except Exception as error:  # whatever NumPy raises for a state of another kind of generator
        set_state(random, before)
        raise ValueError(
            f"{os.fspath(path)}: expected the state of a generator like {random!r} ({error!r})"
        ) from error
    network.params.update(saved.params)
    vars(history).update(lists)
    return done


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
    if isinstance(random, np.random.Generator):
        random.bit_generator.state = state
    else:
        random.set_state(state)
