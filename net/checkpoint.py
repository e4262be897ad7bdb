"""Checkpoints: network, optimizer, history and random state of a training run in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from net import archive, structure
from net.history import LISTS, History
from net.layer_list import is_custom
from net.random_state import get_state, set_state

Array = NDArray[Any]
Settings = dict[str, Any]
Path_ = str | os.PathLike[str]

_OPTIMIZER = "optimizer/"


def write(
    path: Path_,
    network: Any,
    optimizer: Any,
    history: History,
    rngs: Mapping[str, Any],
    settings: Settings,
) -> None:
    """Write a checkpoint atomically.

    Parameters
    ----------
    path : str or os.PathLike
    network : Network
    optimizer : Optimizer
    history : History
    rngs : mapping of str to numpy.random.Generator, RandomState or the module numpy.random
        Sources of random numbers, whose states are saved.
    settings : dict
        Settings that must be the same when the run is resumed.

    Raises
    ------
    OSError
        If the folder is missing or not writable, or the disk is full.
    """
    state = {"settings": settings, "random": {name: get_state(rng) for name, rng in rngs.items()}}
    arrays = {
        **structure.to_arrays(network),
        **{_OPTIMIZER + key: value for key, value in optimizer.state().items()},
        **{name: np.array(getattr(history, name)) for name in LISTS},
        "state": np.array(json.dumps(state, default=lambda a: a.tolist())),
    }
    try:
        archive.write(path, arrays)
    except OSError as error:
        done = len(history.train_loss_list)
        error.strerror = f"{error.strerror}; the network in memory is trained for {done} iterations"
        raise


def restore(
    path: Path_,
    network: Any,
    optimizer: Any,
    history: History,
    rngs: Mapping[str, Any],
    settings: Settings,
) -> int:
    """Restore network, optimizer, history and random state from a checkpoint.

    Parameters
    ----------
    path : str or os.PathLike
    network : Network
        A network of the saved structure, sizes and dtype.
    optimizer : Optimizer
        An optimizer of the saved class.
    history : History
        An empty history.
    rngs : mapping of str to numpy.random.Generator, RandomState or the module numpy.random
        Sources of random numbers of the saved kinds.
    settings : dict
        The settings of this run.

    Returns
    -------
    int
        Number of iterations done.

    Raises
    ------
    OSError
        If the file is missing or cannot be read.
    ValueError
        If the file is not a checkpoint, or belongs to another run. Nothing is changed in that
        case.
    """
    name = os.fspath(path)
    arrays, lists, state = _read(path)
    _check_same_run(name, network, arrays, state["settings"], settings)
    params = {key: arrays[key] for key in network.params}
    buffers = {key: arrays.get(key) for key in network.buffers}  # a missing one was None
    if state["random"].keys() != rngs.keys():
        raise ValueError(f"{name}: expected random states of {[*rngs]}, got {[*state['random']]}")
    before = {key: get_state(rng) for key, rng in rngs.items()}
    kept = optimizer.state()
    try:
        for key, rng in rngs.items():
            set_state(rng, state["random"][key])
        optimizer.set_state(
            {
                key.removeprefix(_OPTIMIZER): value
                for key, value in arrays.items()
                if key.startswith(_OPTIMIZER)
            },
            params,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        for key, rng in rngs.items():
            set_state(rng, before[key])
        optimizer.set_state(kept, network.params)
        raise ValueError(f"{name}: {error}") from error
    for key, value in params.items():
        _assign(network.params, key, value)
    for key, buffer in buffers.items():
        _assign(network.buffers, key, buffer)
    vars(history).update(lists)
    return len(lists["train_loss_list"])


def _assign(arrays: Any, key: str, value: Array | None) -> None:
    """Copy values into an existing array, so that it stays shared, or assign a new array."""
    current = arrays[key]
    if isinstance(current, np.ndarray) and value is not None and current.shape == value.shape:
        current[...] = value
    else:  # running statistics before the first batch
        layer, attribute = arrays.places()[key]
        setattr(layer, attribute, value)


def _check_same_run(
    name: str, network: Any, arrays: Mapping[str, Array], saved: Settings, settings: Settings
) -> None:
    """Raise ValueError if a checkpoint belongs to another network or another run."""
    for key, value in network.params.items():
        current, found = np.asarray(value), arrays.get(key)
        if found is None or (found.shape, found.dtype) != (current.shape, current.dtype):
            got = "no such array" if found is None else f"{found.shape} of {found.dtype}"
            raise ValueError(
                f"{name}: expected {key} {current.shape} of {current.dtype}, as in this network, "
                f"got {got}"
            )
    for key, (layer, attribute) in network.buffers.places().items():
        value, buffer = getattr(layer, attribute), arrays.get(key)
        if buffer is None and is_custom(type(layer)):  # it was None
            continue
        if buffer is None or (value is not None and buffer.shape != np.shape(value)):
            raise ValueError(f"{name}: expected {key} {np.shape(value)}, got none or another shape")
    expected = json.loads(json.dumps(structure.describe(network)))
    found_structure = json.loads(str(arrays[structure.KEY][()]))
    if expected != found_structure:
        raise ValueError(
            f"{name}: expected a run of this network, {expected}, got one of {found_structure}"
        )
    for key in sorted(settings.keys() | saved.keys(), key=lambda key: key == "data"):
        if settings.get(key) != saved.get(key):
            if key == "data":
                raise ValueError(
                    f"{name}: expected the training examples of the saved run, got other examples"
                )
            raise ValueError(
                f"{name}: expected a run with {key} {settings.get(key)!r}, got one with "
                f"{saved.get(key)!r}"
            )


def read_history(path: Path_) -> dict[str, list[Any]]:
    """Return the lists of the history in a checkpoint.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    dict of str to list
        The lists, by the names of the attributes of `History`.

    Raises
    ------
    OSError
        If the file is missing or cannot be read.
    ValueError
        If the file is not a checkpoint.
    """
    return _read(path)[1]


def _read(path: Path_) -> tuple[dict[str, Array], dict[str, list[Any]], dict[str, Any]]:
    """Read and check a checkpoint: its arrays, the lists of its history, and its other state."""
    arrays = archive.read(path)
    try:
        state = json.loads(str(arrays["state"][()]))
        lists = {name: arrays[name].tolist() for name in LISTS}
        json.loads(str(arrays[structure.KEY][()]))
        done, evaluated = len(lists["train_loss_list"]), lists["evaluated_at"]
        right = (
            type(state["settings"]) is dict
            and type(state["random"]) is dict
            and all(
                type(value) is (int if name == "evaluated_at" else float)
                for name, values in lists.items()
                for value in values
            )
            and all(0 <= i < done for i in evaluated)
            and len(lists["train_acc_list"]) == len(evaluated)
            and len(lists["test_acc_list"]) in (0, len(evaluated))
        )
        problem = "its parts are inconsistent"
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        right, problem = False, repr(error)
    if not right:
        raise ValueError(
            f"{os.fspath(path)}: expected a checkpoint of a training run, got another file "
            f"({problem})"
        )
    return arrays, lists, state
