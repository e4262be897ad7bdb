"""States of random number generators, as checkpoints save them."""

from typing import Any

import numpy as np


def get_state(rng: Any) -> Any:
    """Return the state of a random number generator.

    Parameters
    ----------
    rng : numpy.random.Generator, RandomState or the module numpy.random

    Returns
    -------
    dict
    """
    if isinstance(rng, np.random.Generator):
        return rng.bit_generator.state
    return rng.get_state(legacy=False)


def set_state(rng: Any, state: Any) -> None:
    """Set the state of a random number generator.

    Parameters
    ----------
    rng : numpy.random.Generator, RandomState or the module numpy.random
    state : dict
        State that `get_state` returned.

    Raises
    ------
    ValueError
        If the state belongs to another kind of generator or is damaged. Nothing is changed in that
        case.
    """
    before = get_state(rng)
    try:
        # NumPy does not check the position in the buffer, and would read out of bounds.
        pos, buffer_pos = state.get("state", {}).get("pos", 0), state.get("buffer_pos", 0)
        if not (0 <= pos <= 624 and 0 <= buffer_pos <= 4):
            raise ValueError(f"expected a position in the buffer, got {pos}, {buffer_pos}")
        if isinstance(rng, np.random.Generator):
            rng.bit_generator.state = state
        else:
            rng.set_state(state)
    except Exception as error:  # NumPy raises many types for invalid states
        if isinstance(rng, np.random.Generator):
            rng.bit_generator.state = before
        else:
            rng.set_state(before)
        raise ValueError(f"expected the state of a generator like {rng!r} ({error!r})") from error


def clone(rng: Any) -> Any:
    """Return a new random number generator with the same state.

    Parameters
    ----------
    rng : numpy.random.Generator, RandomState or the module numpy.random

    Returns
    -------
    numpy.random.Generator or RandomState
    """
    if isinstance(rng, np.random.Generator):
        kind: Any = type(rng.bit_generator)
        twin: Any = np.random.Generator(kind())
    else:
        twin = np.random.RandomState()
    set_state(twin, get_state(rng))
    return twin


def describe(rng: Any) -> str:
    """Return the name of the kind of a random number generator.

    Parameters
    ----------
    rng : numpy.random.Generator, RandomState or the module numpy.random

    Returns
    -------
    str
    """
    bits = getattr(rng, "bit_generator", None)
    name = getattr(rng, "__name__", type(rng).__name__)
    return name if bits is None else f"{name} ({type(bits).__name__})"
