"""The base class of optimizers: options, states, updates, and state for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from net.validation import check_finite

# Kernels are imported in functions: `net` and ``njitnet --help`` name the optimizers without Numba.

Array = NDArray[Any]
Params = MutableMapping[str, Any]
Grads = Mapping[str, ArrayLike]


_RULE_METHODS = {"update", "update_array", "hyperparameters"}
"""Methods of an optimizer that its compiled rule stands in for."""


class Optimizer:
    """Base class of optimizers.

    A subclass names its options and states, passes its options to this constructor, and updates one
    array in `update_array`.

    Parameters
    ----------
    **options : float
        Values of the options that the class names. Each value must be finite.

    Attributes
    ----------
    options : tuple of str
        Names of the constructor's options, whose values are attributes (class attribute).
    slots : tuple of str
        Names of the states (class attribute). Each state is an attribute: None before the first
        update, then a dictionary with one array for each parameter, by the keys of the parameters.
    iter : int
        Number of updates so far.
    epsilon : float or None
        Constant added to a divisor to avoid division by zero; None for rules without it (class
        attribute).
    rule : str or None
        Name of the compiled rule in `kernels.optimizers.RULES`; None for an optimizer without one
        (class attribute).

    Examples
    --------
    >>> import numpy as np
    >>> from net.optimizer import Optimizer
    >>> class SignSGD(Optimizer):
    ...     options = ("lr",)
    ...
    ...     def __init__(self, lr=0.01):
    ...         super().__init__(lr=lr)
    ...
    ...     def update_array(self, p, g):
    ...         p -= self.lr * np.sign(g)
    >>> params = {"W": np.array([1.0, 2.0])}
    >>> SignSGD(lr=0.5).update(params, {"W": np.array([-3.0, 0.1])})
    >>> params
    {'W': array([1.5, 1.5])}
    """

    options: ClassVar[tuple[str, ...]] = ()
    slots: ClassVar[tuple[str, ...]] = ()
    epsilon: ClassVar[float | None] = None
    rule: ClassVar[str | None] = None

    iter: int = 0
    _formula: ClassVar[str | None] = None
    _num_options: ClassVar[int] = 0

    def follows_rule(self) -> bool:
        """Return whether updates are those of the compiled rule, with constant options.

        An instance may replace a method, and a class may make an option a property.
        """
        return (
            self.rule is not None
            and not vars(self).keys() & _RULE_METHODS
            and not any(hasattr(type(self), option) for option in self.options)
        )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "rule" in vars(cls):
            cls._formula = cls.rule
            cls._num_options = len(cls.options) + (cls.epsilon is not None)
            return
        owner = next((c for c in cls.__mro__ if "rule" in vars(c)), cls)
        if any(getattr(cls, name) is not getattr(owner, name) for name in _RULE_METHODS):
            cls.rule = None  # the class or a mixin changes what the inherited compiled rule does

    def __init__(self, **options: float) -> None:
        if set(options) != set(self.options):
            raise TypeError(
                f"{type(self).__name__}: expected the options {', '.join(self.options) or 'none'}, "
                f"got {', '.join(options) or 'none'}"
            )
        for name in self.options:
            setattr(self, name, check_finite(options[name], name))
        for slot in self.slots:
            setattr(self, slot, None)
        self.iter = 0

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options)
        return f"{type(self).__name__}({options})"

    def update(self, params: Params, grads: Grads) -> None:
        """Update parameters by their gradients, in place.

        Parameters
        ----------
        params : dict-like of ndarray (float32 or float64) or of float
            Parameters. Arrays are changed in place; numbers are replaced.
        grads : dict of array_like
            Gradients by the keys of `params`. A parameter without a gradient is not changed.

        Raises
        ------
        TypeError
            If a parameter is neither a number nor an array of float32 or float64, or a gradient
            does not hold real numbers.
        ValueError
            If a gradient has no parameter or another shape than its parameter, or a parameter is
            read-only or has changed its shape or dtype since the first update. Nothing is changed
            in that case.
        """
        import kernels._arrays
        import kernels._in_place
        import kernels._updates
        import kernels.optimizers

        is_ready = kernels._in_place.is_ready
        current = dict(params)  # read each key once: `network.params` looks up its layer
        states = [self._slot(slot, current) for slot in self.slots]
        work = []
        for key, g in grads.items():
            if key not in current:
                raise ValueError(f"grads: expected keys of params, {[*params]}, got {key!r}")
            p = current[key]
            if not is_ready(p):
                p = self._array(p, key)
            g = kernels._arrays.as_kernel_array(g, p.dtype, f"grads[{key!r}]")
            if g.shape != p.shape:
                raise ValueError(
                    f"grads[{key!r}]: expected the shape of the parameter, {p.shape}, got {g.shape}"
                )
            arrays = [p, *[state[key] for state in states]]
            for s in arrays[1:]:
                if s.shape != p.shape or s.dtype != p.dtype:
                    raise ValueError(
                        f"params[{key!r}]: expected shape {s.shape} and dtype {s.dtype}, as at the "
                        f"first update, got {p.shape} and {p.dtype}; use a new optimizer"
                    )
            work.append((key, g, arrays))
        self.iter += 1
        for slot, state in zip(self.slots, states, strict=True):
            setattr(self, slot, state)
        rule = None if self.rule is None else kernels.optimizers.RULES[self.rule]
        options = None if rule is None else self._rule_options()
        for key, g, arrays in work:
            if options is not None and all(map(is_ready, arrays)):
                kernels._updates.update_ready(rule, self.iter, options, g, arrays)
            else:
                self.update_array(arrays[0], g, *arrays[1:])
            if not isinstance(current[key], np.ndarray):
                params[key] = float(arrays[0])

    def update_array(self, p: Array, g: Array, *states: Array) -> None:
        """Update one parameter and its states in place, given its gradient.

        Parameters
        ----------
        p : ndarray
            Parameter.
        g : ndarray, shape of `p`
            Gradient.
        *states : ndarray, shape of `p`
            One array for each name in `slots`, zero before the first update.
        """
        from kernels._updates import update_arrays
        from kernels.optimizers import RULES

        if self._formula is None:  # a subclass must define this method or `update`
            raise NotImplementedError(f"{type(self).__name__} has no update_array(p, g, *states)")
        arrays = dict(zip(self.slots, states, strict=True))
        update_arrays(RULES[self._formula], self.iter, self._rule_options(), g, p=p, **arrays)

    @staticmethod
    def _array(p: Any, key: str) -> Array:
        """Return a parameter as an array that can be changed in place, or raise an error."""
        from kernels._in_place import as_in_place, is_ready

        if not is_ready(p):
            if isinstance(p, float | int | np.floating) and not isinstance(p, bool):
                return np.array(p, np.float64)
            as_in_place(p, f"params[{key!r}]")
        array: Array = p
        return array

    def _slot(self, slot: str, params: Params) -> dict[str, Array]:
        """Return a copy of a state, with zeros for parameters that have no state yet."""
        state: dict[str, Array] = dict(getattr(self, slot) or {})
        for key in params:
            if key not in state:
                p = self._array(params[key], key)
                state[key] = np.zeros(p.shape, p.dtype)
        return state

    def hyperparameters(self) -> NDArray[np.float64]:
        """Return the options as an array, as the compiled rule takes them.

        Returns
        -------
        ndarray of float64
            The values of `options` in order, then `epsilon` if it is not None.
        """
        values = [getattr(self, name) for name in self.options]
        return np.array(values + ([] if self.epsilon is None else [self.epsilon]), np.float64)

    def _rule_options(self) -> NDArray[np.float64]:
        """Return `hyperparameters()` in the form that compiled code reads without a check."""
        values = np.ascontiguousarray(self.hyperparameters(), np.float64)
        if values.shape != (self._num_options,):
            raise ValueError(
                f"{type(self).__name__}.hyperparameters: expected {self._num_options} numbers, got "
                f"the shape {values.shape}"
            )
        return values

    def state(self) -> dict[str, Array]:
        """Return a copy of the state: the number of updates, and the arrays of all slots.

        Returns
        -------
        dict of ndarray
            ``"iter"``, and ``"<slot>/<key>"`` for each state of each parameter after the first
            update.
        """
        state: dict[str, Array] = {"iter": np.array(self.iter, np.int64)}
        for slot in self.slots:
            for key, s in (getattr(self, slot) or {}).items():
                state[f"{slot}/{key}"] = np.array(s)
        return state

    def set_state(self, state: Mapping[str, ArrayLike], params: Mapping[str, Any]) -> None:
        """Restore a state that `state` returned; further updates give bit-identical results.

        Parameters
        ----------
        state : dict of ndarray
        params : dict-like of ndarray or of float
            The parameters that will be updated.

        Raises
        ------
        ValueError
            If names, shapes or dtypes do not fit this optimizer and these parameters. Nothing is
            changed in that case.
        """
        name = type(self).__name__
        iteration = np.asarray(state.get("iter", "nothing"))
        if iteration.ndim or iteration.dtype.kind not in "iu" or iteration < 0:
            raise ValueError(f"{name}: expected iter as an integer from 0, got {iteration}")
        expected = {"iter"}
        if iteration > 0:
            expected |= {f"{slot}/{key}" for slot in self.slots for key in params}
        if set(state) != expected:
            raise ValueError(
                f"{name}: expected a state of {sorted(expected)}, got {sorted(map(str, state))}"
            )
        restored: dict[str, dict[str, Array]] = {slot: {} for slot in self.slots}
        for label in sorted(expected - {"iter"}):
            slot, _, key = label.partition("/")
            s = np.array(state[label])
            p = params[key]
            dtype = p.dtype if isinstance(p, np.ndarray) else np.dtype(np.float64)
            if s.shape != np.shape(p) or s.dtype != dtype:
                raise ValueError(
                    f"{name}: expected {label} in the shape {np.shape(p)} and dtype {dtype} of its "
                    f"parameter, got {s.shape} and {s.dtype}"
                )
            restored[slot][key] = s
        self.iter = int(iteration)
        for slot in self.slots:
            setattr(self, slot, restored[slot] or None)
