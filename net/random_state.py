"""State of sources of random numbers, as checkpoints keep it."""

from typing import Any

import numpy as np


def get_state(rng: Any) -> Any:
    """Return the state of a source of random numbers.

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
    """Put a source of random numbers into a state.

    Parameters
    ----------
    rng : numpy.random.Generator, RandomState or the module numpy.random
    state : dict
        From `get_state`.

    Raises
    ------
    ValueError
        If the state is that of another kind of generator, or damaged; nothing is changed then.
    """
    before = get_state(rng)
    try:
        # The place in the generator's buffer: NumPy does not check it, and would read beyond.
        pos, buffer_pos = state.get("state", {}).get("pos", 0), state.get("buffer_pos", 0)
        if not (0 <= pos <= 624 and 0 <= buffer_pos <= 4):
            raise ValueError(f"expected a position in the buffer, got {pos}, {buffer_pos}")
        if isinstance(rng, np.random.Generator):
            rng.bit_generator.state = state
        else:
            rng.set_state(state)
    except Exception as error:  # whatever NumPy raises for a state of another kind
        if isinstance(rng, np.random.Generator):
            rng.bit_generator.state = before
        else:
            rng.set_state(before)
        raise ValueError(f"expected the state of a generator like {rng!r} ({error!r})") from error


def clone(rng: Any) -> Any:
    """Return another source of random numbers that draws the same numbers.

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
    """Return the kind of a source of random numbers.

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
