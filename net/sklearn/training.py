"""Training loop of `fit` and `partial_fit`, after validation of the input."""

import multiprocessing
import threading
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from kernels._arrays import Array
from kernels._threads import Team
from net.sklearn.epochs import Epochs, OptimizerState

MIN_TUNED_PRODUCTS = 2_000_000_000
"""Multiplications of the forward passes of all epochs from which several threads are tried."""


class EpochTraining(BaseEstimator):  # type: ignore[misc]
    """Initialisation, training by epochs, and stopping criteria, as in scikit-learn."""

    coefs_: list[Array]
    intercepts_: list[Array]
    best_loss_: Any
    best_validation_score_: Any
    validation_scores_: Any
    _best_parameters: Any

    def _initialize(self, sizes: list[int], dtype: Any) -> None:
        """Draw parameters as scikit-learn does, after X. Glorot and Y. Bengio, AISTATS 2010."""
        self.n_iter_ = self.t_ = 0
        self.n_layers_, self.n_outputs_ = len(sizes), sizes[-1]
        self.coefs_, self.intercepts_ = [], []
        for d, m in pairwise(sizes):
            bound = np.sqrt((2.0 if self.activation == "logistic" else 6.0) / (d + m))
            for parameters, shape in ((self.coefs_, (d, m)), (self.intercepts_, m)):
                drawn = self._random_state.uniform(-bound, bound, shape)
                parameters.append(drawn.astype(dtype, copy=False))
        self.loss_curve_: list[float] = []
        self._reset_best()

    def _reset_best(self) -> None:
        """Reset the best loss or validation score."""
        stopping, self._no_improvement_count = self.early_stopping, 0
        self._best_parameters = self._copy_parameters() if stopping else None
        self.best_loss_ = None if stopping else np.inf
        self.validation_scores_ = [] if stopping else None
        self.best_validation_score_ = -np.inf if stopping else None

    def _copy_parameters(self) -> tuple[list[Array], list[Array]]:
        return [W.copy() for W in self.coefs_], [b.copy() for b in self.intercepts_]

    def _train(self, X: Array, y: Array, sample_weight: Any, incremental: bool) -> None:
        self.coefs_, self.intercepts_ = map(as_writable, self._parameters())
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer = self._new_optimizer()
        self._optimizer.states = [as_writable(state) for state in self._optimizer.states]
        if self.early_stopping != (self.best_loss_ is None):  # changed since a warm start
            self._reset_best()
        weights, validation = sample_weight, None
        if self.early_stopping:
            parts = [X, y] if sample_weight is None else [X, y, sample_weight]
            parts = train_test_split(
                *parts,
                random_state=self._random_state,
                test_size=self.validation_fraction,
                stratify=y if self.n_outputs_ == 1 else None,
            )
            X, y, weights = (*parts[::2], None)[:3]
            validation = (*parts[1::2], None)[:3]
            if len(validation[0]) < 2:
                raise ValueError(
                    "validation_fraction: expected a validation set of at least 2 examples, got "
                    f"{len(validation[0])}"
                )
        batch_size = 200 if self.batch_size == "auto" else int(self.batch_size)
        if self.batch_size != "auto" and batch_size > len(X):
            warnings.warn(
                f"batch_size: expected at most {len(X)} examples, got {batch_size}; it is clipped",
                stacklevel=4,
            )
        epoch = len(X) * sum(W.size for W in self.coefs_)
        most = 1 if incremental else self.max_iter
        small = epoch * most < MIN_TUNED_PRODUCTS
        softmax_output = self.out_activation_ == "softmax"
        with Team(1 if small else num_threads()) as team:
            epochs = Epochs(
                self.coefs_,
                self.intercepts_,
                self._activations,
                X,
                y if softmax_output else None,
                None if softmax_output else y.reshape(len(y), -1).astype(X.dtype),
                weights,
                min(batch_size, len(X)),
                self.alpha,
                self._optimizer,
                team,
                most,
            )
            try:
                self._run_epochs(epochs, len(X), validation, incremental)
            except KeyboardInterrupt:
                warnings.warn("Training interrupted by user.", stacklevel=4)
        epochs.store()
        if self.early_stopping:
            self.coefs_, self.intercepts_ = self._best_parameters

    def _new_optimizer(self) -> OptimizerState:
        if self.solver == "adam":
            options = [self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon]
            rule, count = "adam", 2
        else:
            options = [self.learning_rate_init, self.momentum]
            rule, count = "nesterov" if self.nesterovs_momentum else "momentum", 1
        arrays = [a for pair in zip(*self._parameters(), strict=True) for a in pair]
        states = [[np.zeros_like(a) for a in arrays] for _ in range(count)]
        return OptimizerState(rule, options, states)

    def _run_epochs(
        self, epochs: Epochs, n: int, validation: tuple[Any, ...] | None, incremental: bool
    ) -> None:
        order = np.arange(n)
        self.n_iter_ = 0
        for _ in range(1 if incremental else self.max_iter):
            if self.shuffle:
                permutation = np.arange(n)
                self._random_state.shuffle(permutation)
                order = order[permutation]
            self.loss_ = epochs.run(order)
            self.n_iter_ += 1
            self.t_ += n
            self.loss_curve_.append(self.loss_)
            if self.verbose:
                print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
            if validation is None:
                self._compare_loss()
            else:
                epochs.store()
                self._compare_score(*validation)
            if self._no_improvement_count > self.n_iter_no_change:
                if self.verbose:
                    what = "Training loss" if validation is None else "Validation score"
                    print(
                        f"{what} did not improve more than tol={self.tol:f} for "
                        f"{self.n_iter_no_change} consecutive epochs. Stopping."
                    )
                return
        if not incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _compare_loss(self) -> None:
        better = self.loss_ <= self.best_loss_ - self.tol
        self._no_improvement_count = 0 if better else self._no_improvement_count + 1
        self.best_loss_ = min(self.best_loss_, self.loss_)

    def _compare_score(self, X: Array, y: Array, sample_weight: Array | None) -> None:
        correct = (self._predict_codes(X) == y).reshape(len(y), -1).all(axis=1)
        score = float(np.average(correct, weights=sample_weight))
        self.validation_scores_.append(score)
        if self.verbose:
            print(f"Validation score: {score:f}")
        better = score >= self.best_validation_score_ + self.tol
        self._no_improvement_count = 0 if better else self._no_improvement_count + 1
        if score > self.best_validation_score_:
            self.best_validation_score_ = score
            self._best_parameters = self._copy_parameters()


def num_threads() -> int | None:
    """Return the number of threads to use: 1 in a worker, otherwise None for all.

    A worker is any thread except the main one, as with joblib's backend 'threading', or a process
    of a pool. The workers of joblib's backend 'loky' read their number of threads from the
    environment.

    Returns
    -------
    int or None
    """
    main = threading.current_thread() is threading.main_thread()
    return None if main and not multiprocessing.current_process().daemon else 1


def as_writable(arrays: list[Array]) -> list[Array]:
    """Return arrays that kernels can write to; joblib passes read-only memory to workers.

    Parameters
    ----------
    arrays : list of ndarray

    Returns
    -------
    list of ndarray
        The arrays, copied if they are not writable, aligned and C-contiguous.
    """
    return [np.require(a, requirements=["C", "A", "W"]) for a in arrays]
