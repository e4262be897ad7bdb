"""Comparison of `net.sklearn.MLPClassifier` with scikit-learn's: time per epoch, and accuracy.

``python -m benchmarks.sklearn_classifier`` fits both alternately, from the same seeds, with default
parameters except for the number of epochs and the stopping criterion, and prints a row for each
data set, hidden layers and dtype. Compilation is not included: each dtype is fitted once before it
is timed.
"""

import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numba
import numpy as np

from net import load_mnist

# scikit-learn is imported inside functions: asv imports this module in environments without it.


def digits() -> list[Any]:
    """Return 1,797 images of 64 pixels, a quarter of them as the test set."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, t = load_digits(return_X_y=True)
    return train_test_split(x / 16, t, random_state=0)


def dense() -> list[Any]:
    """Return 20,000 examples of 100 features, none of them zero, in two classes."""
    from sklearn.datasets import make_classification
    from sklearn.model_selection import train_test_split

    x, t = make_classification(20_000, 100, n_informative=40, random_state=0)
    return train_test_split(x, t, random_state=0)


def mnist() -> list[Any]:
    """Return 60,000 training images of 784 pixels and 10,000 test images."""
    (x_train, t_train), (x_test, t_test) = load_mnist()
    return [x_train, x_test, t_train, t_test]


SETS: dict[str, tuple[Callable[[], list[Any]], int, tuple[tuple[int, ...], ...]]] = {
    "digits": (digits, 30, ((30,), (100,), (100, 50))),
    "dense": (dense, 5, ((30,), (100,), (256, 128))),
    "MNIST": (mnist, 10, ((50,), (100,), (256, 128))),
}
"""Data sets: function that loads the set, number of epochs, and sizes of hidden layers."""


def fit(kind: Any, data: list[Any], **options: Any) -> tuple[float, float]:
    """Fit a classifier; return the seconds per epoch and the accuracy on the test set.

    Parameters
    ----------
    kind : class
        Class of the classifier.
    data : list of ndarray
        Training and test set: ``x_train, x_test, t_train, t_test``.
    **options
        Parameters of the classifier.

    Returns
    -------
    seconds, accuracy : float
    """
    from sklearn.exceptions import ConvergenceWarning

    x_train, x_test, t_train, t_test = data
    classifier = kind(tol=0.0, n_iter_no_change=np.inf, **options)
    begin = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(x_train, t_train)
    seconds = (perf_counter() - begin) / classifier.n_iter_
    return seconds, classifier.score(x_test, t_test)


def main() -> None:
    """Print a row for each data set, hidden layers and dtype."""
    from sklearn.neural_network import MLPClassifier as Theirs
    from threadpoolctl import threadpool_limits

    from net.sklearn import MLPClassifier as Ours

    parser = ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="fits of each, one for each seed")
    parser.add_argument("--threads", type=int, default=numba.config.NUMBA_NUM_THREADS)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=[*SETS])
    args = parser.parse_args()
    numba.set_num_threads(args.threads)
    print(f"{args.rounds} fits of each, {args.threads} threads; accuracy: mean ± deviation")
    print("set     hidden    dtype    scikit-learn, ms     njitnet, ms  ratio   accuracies")
    for name in args.sets:
        load, epochs, layers = SETS[name]
        for dtype in ("float32", "float64"):
            x_train, x_test, t_train, t_test = load()
            data = [x_train.astype(dtype), x_test.astype(dtype), t_train, t_test]
            begin = perf_counter()
            fit(Ours, [a[:500] for a in data], max_iter=1)
            started = perf_counter() - begin
            fit(Ours, data, hidden_layer_sizes=layers[0], max_iter=epochs)  # compiles what is left
            for hidden in layers:
                rows: dict[Any, list[tuple[float, float]]] = {Theirs: [], Ours: []}
                for seed in range(args.rounds):
                    for kind in sorted(rows, key=lambda k: (k is Ours) == (seed % 2 == 0)):
                        with threadpool_limits(args.threads):
                            rows[kind].append(
                                fit(
                                    *(kind, data),
                                    hidden_layer_sizes=hidden,
                                    max_iter=epochs,
                                    random_state=seed,
                                )
                            )
                times, accuracies = zip(
                    *(zip(*rows[kind], strict=True) for kind in rows), strict=True
                )
                ratio = median(a / b for a, b in zip(*times, strict=True))
                cells = [f"{1000 * median(t):16.2f}" for t in times]
                shown = " ".join(f"{np.mean(a):.4f} ± {np.std(a):.4f}" for a in accuracies)
                sizes = "-".join(map(str, hidden))
                print(f"{name:7} {sizes:9} {dtype}  {'  '.join(cells)}  {ratio:5.2f}  {shown}")
            print(
                f"        start-up and a first epoch of 500 examples: {started:.2f} s", flush=True
            )


if __name__ == "__main__":
    main()
