"""The course's trainer: epochs of training, with an evaluation at the start of each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kernels._threads import Team
from net.distributed import SingleProcess
from net.history import History
from net.network import Network
from net.optimizers import OPTIMIZERS
from net.training_checks import check_examples, check_network
from net.training_run import TrainingRun, next_stop
from net.validation import check_int


class Trainer:
    """A training loop over epochs, with the interface of the course's scripts.

    Batches are drawn with replacement by ``np.random.choice(N, mini_batch_size)``. The loss of each
    batch is computed after the update, and the accuracies on both sets after the first iteration of
    each epoch.

    Parameters
    ----------
    network : Network
        The network, which is trained in place.
    x_train, t_train, x_test, t_test : array_like
        Training set and test set, as for `net.train`.
    epochs : int, default 20
        Number of epochs.
    mini_batch_size : int, default 100
        Number of examples in a batch.
    optimizer : str or Optimizer, default 'SGD'
        An optimizer, or the name of one in upper or lower case: 'SGD', 'Momentum', 'Nesterov',
        'AdaGrad', 'RMSprop' or 'Adam'.
    optimizer_param : dict, default {'lr': 0.01}
        Arguments of the optimizer that is given by name.
    evaluate_sample_num_per_epoch : int, optional
        Number of examples, from the start of each set, on which accuracies are evaluated; by
        default all.
    verbose : bool, default True
        Whether to print losses and accuracies.

    Attributes
    ----------
    train_loss_list, train_acc_list, test_acc_list : list of float
        Loss of each iteration, and accuracies of each evaluation.
    current_iter, current_epoch : int
        Number of iterations done, and number of evaluations.
    optimizer : Optimizer
    history : History
        The three lists and the iterations of the evaluations, for `History.plot`.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value.

    Notes
    -----
    K. Saito, "Deep Learning from Scratch", O'Reilly Japan (2016), chapter 6.

    Examples
    --------
    >>> import numpy as np
    >>> from net import MultiLayerNet, Trainer
    >>> x, t = np.eye(4), np.array([0, 1, 1, 0])
    >>> np.random.seed(0)
    >>> network = MultiLayerNet(4, [8], 2)
    >>> trainer = Trainer(network, x, t, x, t, epochs=100, mini_batch_size=4, optimizer="adam",
    ...                   optimizer_param={"lr": 0.01}, verbose=False)
    >>> trainer.train()
    >>> trainer.current_epoch, trainer.test_acc_list[-1]
    (100, 1.0)
    """

    def __init__(
        self,
        network: Network,
        x_train: ArrayLike,
        t_train: ArrayLike,
        x_test: ArrayLike,
        t_test: ArrayLike,
        epochs: int = 20,
        mini_batch_size: int = 100,
        optimizer: Any = "SGD",
        optimizer_param: Mapping[str, Any] = {"lr": 0.01},
        evaluate_sample_num_per_epoch: int | None = None,
        verbose: bool = True,
    ):
        check_network(network)
        sets = [
            check_examples(network, x_train, t_train, "train", 1),
            check_examples(network, x_test, t_test, "test", 1),
        ]
        self.verbose = bool(verbose)
        self.epochs = check_int(epochs, "epochs", 0)
        self.batch_size = check_int(mini_batch_size, "mini_batch_size", 1)
        made = _make_optimizer(optimizer, optimizer_param)
        self._run = TrainingRun(network, sets, made, self.batch_size, np.random, SingleProcess())
        self.train_size = self._run.n
        self.iter_per_epoch = max(self.train_size / self.batch_size, 1)
        self.max_iter = int(self.epochs * self.iter_per_epoch)
        self.current_epoch = 0
        self.evaluate_sample_num_per_epoch = evaluate_sample_num_per_epoch
        if evaluate_sample_num_per_epoch is not None:
            k = check_int(evaluate_sample_num_per_epoch, "evaluate_sample_num_per_epoch", 1)
            self._run.evaluated_sets = [(x[:k], t[:k]) for x, t in sets]

    def __repr__(self) -> str:
        return (
            f"Trainer({self.network!r}, {self.optimizer!r}, iteration {self.current_iter} of "
            f"{self.max_iter})"
        )

    @property
    def network(self) -> Network:
        """The network, which cannot be replaced."""
        return self._run.network

    @property
    def optimizer(self) -> Any:
        """The optimizer, which cannot be replaced. Its options, such as ``lr``, may be changed."""
        return self._run.optimizer

    @property
    def history(self) -> History:
        """The losses and accuracies so far."""
        return self._run.history

    @property
    def train_loss_list(self) -> list[float]:
        """Loss of each iteration's batch, after the update."""
        return self.history.train_loss_list

    @property
    def train_acc_list(self) -> list[float]:
        """Accuracy on the training set at each evaluation."""
        return self.history.train_acc_list

    @property
    def test_acc_list(self) -> list[float]:
        """Accuracy on the test set at each evaluation."""
        return self.history.test_acc_list

    @property
    def current_iter(self) -> int:
        """Number of iterations done."""
        return self._run.done

    def train_step(self) -> None:
        """Run one iteration, and evaluate the accuracies if it is the first of an epoch."""
        self._train(self.current_iter + 1)

    def train(self) -> None:
        """Run the remaining iterations, and evaluate the accuracies after the last iteration."""
        self._train(self.max_iter)
        with Team() as team:
            self._run.start(team, 0)
            self._run.finish()
        if self.verbose:
            print("=============== Final Test Accuracy ===============")
            print(f"test acc:{self.history.test_acc}")

    def _train(self, until: int) -> None:
        run = self._run
        with run.group, Team() as team:
            run.start(team, until - run.done)
            while run.done < until:
                stop, evaluate = next_stop(run.done, until, run.n, self.batch_size, False)
                before = run.done
                run.advance(stop)
                if self.verbose:
                    for loss in self.train_loss_list[before:]:
                        print(f"train loss:{loss}")
                if evaluate:
                    self.current_epoch += 1
                    run.evaluate()
                    if self.verbose:
                        print(
                            f"=== epoch:{self.current_epoch}, train acc:{self.train_acc_list[-1]}, "
                            f"test acc:{self.test_acc_list[-1]} ==="
                        )
                run.group.raise_if_interrupted()


def _make_optimizer(optimizer: Any, params: Mapping[str, Any]) -> Any:
    """Return the optimizer that the arguments specify."""
    if isinstance(optimizer, str):
        if optimizer.lower() not in OPTIMIZERS:
            names = ", ".join(kind.__name__ for kind in OPTIMIZERS.values())
            raise ValueError(f"optimizer: expected one of {names}, got {optimizer!r}")
        if not isinstance(params, Mapping):
            raise TypeError(f"optimizer_param: expected a dict of arguments, got {params!r}")
        try:
            return OPTIMIZERS[optimizer.lower()](**params)
        except TypeError as error:
            kind = OPTIMIZERS[optimizer.lower()].__name__
            raise TypeError(
                f"optimizer_param: expected arguments of {kind}, got {params!r} ({error})"
            ) from None
    if not callable(getattr(optimizer, "update", None)) or isinstance(optimizer, type):
        raise TypeError(
            f"optimizer: expected a name such as 'Adam', or an optimizer, got {optimizer!r}"
        )
    return optimizer
