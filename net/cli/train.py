"""``njitnet train``: train a network, and save it with a picture of its history."""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from net.cli import interrupts
from net.cli.ahead import compile_run
from net.cli.console import (
    START_SECONDS,
    check_output,
    describe_error,
    is_terminal,
    print_error,
    print_result,
    print_status,
    set_threads,
)
from net.cli.networks import check_options, make_network, make_optimizer
from net.distributed import SingleProcess

if TYPE_CHECKING:
    from net.history import History

T = TypeVar("T")


def run(options: argparse.Namespace, group: SingleProcess) -> int:
    """Train a network, and return the exit status."""
    import numpy as np

    from net import load_mnist, train

    file, picture = options.output / "network.npz", options.output / "history.png"
    filters_picture = options.output / "filters.png"
    clock = _Clock()
    with group.errors_on_all_ranks():
        _check(options, [file, picture, filters_picture])
        set_threads(options.threads)
        clock.lap("import")
        if is_terminal(sys.stderr) and group.is_rank_zero:
            print_status("compiling, which takes a while the first time ...")
        flat = not options.network.endswith("conv")
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(
                _timed, load_mnist, path=options.data, flatten=flat, part=group.shard
            )
            if options.data is not None:
                loading.result()  # report a wrong file before compiling
            compile_seconds, _ = _timed(compile_run, options=options, comm=group.self_comm)
            load_seconds, data = loading.result()
        clock.lap("load")  # loading and compiling ran concurrently; report the time of each
        clock.seconds |= {"load": load_seconds, "compile": compile_seconds}
    (x_train, t_train), (x_test, t_test) = data
    for a in (x_train, t_train, x_test, t_test):
        a.setflags(write=False)  # `train` need not check whether the callback changed it
    count = sum(group.allgather(len(x_train)))
    classes = 1 + max(group.allgather(max(int(t.max(initial=0)) for t in (t_train, t_test))))
    image = x_train.shape[2:] if len(x_train.shape) == 4 else (1, x_train.shape[1])
    rng = np.random.RandomState(options.seed)
    with group.errors_on_all_ranks():
        if options.batch_size > count:
            raise ValueError(
                f"argument --batch-size: expected at most {count}, the number of training "
                f"images, got '{options.batch_size}'"
            )
        if options.seed is not None:
            np.random.seed(options.seed)  # for the masks of dropout
        network = make_network(options, image, classes, rng)
        iterations = options.iterations or 10_000
        if options.epochs is not None:
            iterations = math.ceil(options.epochs * count / options.batch_size)
        checkpoint = options.checkpoint
        resume = {None: False, "yes": True}.get(options.resume, options.resume)
        if resume == "auto":
            resume = checkpoint.exists()
        resumed = checkpoint if resume and group.is_rank_zero else None
        reporter = _Reporter(iterations, resumed)
        filters = _first_filters(network)
        for path in (file, picture, checkpoint):
            if path is not None and group.is_rank_zero:
                check_output(path)

    status = 0
    reporter.start()
    try:
        interrupts.raise_on_interrupt()
        with np.errstate(all="ignore"):  # `train` warns of a loss that is not finite
            reporter.history = train(
                network,
                *(x_train, t_train, x_test, t_test),
                iterations=iterations,
                batch_size=options.batch_size,
                optimizer=make_optimizer(options),
                rng=rng,
                progress=is_terminal(sys.stderr),
                callback=reporter,
                checkpoint=checkpoint,
                resume=resume,
                comm=group.comm,
            )
    except BrokenPipeError:
        raise  # the output pipe is closed: a partial run is not saved
    except (KeyboardInterrupt, OSError) as error:
        done = group.on_rank_zero(lambda: len(reporter.history.train_loss_list))
        if not done:
            raise
        if isinstance(error, OSError):  # no checkpoint could be written
            status, message = 2, f"error: {describe_error(error)}"
        else:
            status = interrupts.exit_status()
            message = f"interrupted after {done} of {iterations} iterations"
        print_error(message, status, error, group.is_rank_zero)
    rate = reporter.rate()
    clock.lap("train")

    group.on_rank_zero(lambda: network.save(file))
    accuracy = reporter.history.test_acc
    if accuracy is None:
        accuracy = group.accuracy(network, x_test, t_test)
    if not group.is_rank_zero:
        return status
    history = reporter.history
    print_result("test accuracy", f"{accuracy:.4f}")
    print_result("iterations/s", f"{rate:.0f}")
    if options.mpi:
        print_result("ranks", group.size)
    _print_threads(history)
    for name, seconds in clock.seconds.items():
        print_result(name, f"{seconds:.2f} s")
    print_result("network", file)
    if checkpoint is not None and checkpoint.exists():
        print_result("checkpoint", checkpoint)
    if not options.no_plot:
        history.plot(picture)
        print_result("picture", picture)
        if filters is not None:
            _plot_filters(filters, network, filters_picture)
    return status


def _first_filters(network: Any) -> Any:
    """Return a copy of the first layer's filters, or None if it is not a convolution."""
    from net import Convolution

    first = network.layers[0]
    return first.W.copy() if isinstance(first, Convolution) else None


def _plot_filters(before: Any, network: Any, path: Path) -> None:
    """Draw the first layer's filters before and after training."""
    from net import plot_filters

    plot_filters({"before training": before, "after training": _first_filters(network)}, path)
    print_result("filters", path)


def _print_threads(history: Any) -> None:
    """Print the number of threads that most iterations used."""
    if history.threads:
        most = max(history.threads, key=history.threads.__getitem__)
        total = sum(history.threads.values())
        print_result("threads", f"{most} for {history.threads[most]} of {total}")


def _check(options: argparse.Namespace, written: list[Path]) -> None:
    """Check the options for conflicts."""
    check_options(options)
    if options.checkpoint is None:
        if options.resume is not None:
            raise ValueError("argument --resume: expected --checkpoint FILE with it, got none")
        return
    checkpoint = os.path.realpath(options.checkpoint)
    for other in written:
        if checkpoint == os.path.realpath(other):
            raise ValueError(
                f"argument --checkpoint: expected a file of its own, got {options.checkpoint}, "
                "which the run also writes"
            )
    if options.data is not None and os.path.dirname(checkpoint) == os.path.realpath(options.data):
        from net.mnist import is_data_file

        if is_data_file(os.path.basename(checkpoint)):
            raise ValueError(
                f"argument --checkpoint: expected a file of its own, got {options.checkpoint}, "
                "which contains data"
            )


def _timed(function: Callable[..., T], **options: Any) -> tuple[float, T]:
    """Return the seconds that a function took, and its result."""
    begin = time.perf_counter()
    result = function(**options)
    return time.perf_counter() - begin, result


class _Clock:
    """Stopwatch of the phases of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter() - START_SECONDS

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now


class _Reporter:
    """Callback that prints the accuracies of each epoch and keeps the history after Ctrl-C."""

    def __init__(self, iterations: int, checkpoint: Path | None):
        from net import History
        from net.checkpoint import read_history

        self.history = History()
        if checkpoint is not None:
            vars(self.history).update(read_history(checkpoint))
        self._iterations = iterations
        self._before = len(self.history.train_loss_list)

    def start(self) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def rate(self) -> float:
        """Return the iterations per second since `start`."""
        done = len(self.history.train_loss_list) - self._before
        return done / (time.perf_counter() - self._started)

    def __call__(self, iteration: int, history: "History") -> None:
        self.history = history
        if history.evaluated_at[-1:] != [iteration - 1]:
            return  # last call of the run, not at the end of an epoch
        _print_beside_bar(f"{history.train_acc_list[-1]} {history.test_acc_list[-1]}")
        if not is_terminal(sys.stderr):
            print_status(
                f"iteration {iteration} of {self._iterations}: "
                f"loss {history.train_loss_list[-1]:.4f}, {self.rate():.0f} iterations/s"
            )


def _print_beside_bar(text: str) -> None:
    """Print a line without breaking a progress bar."""
    if is_terminal(sys.stderr):
        from tqdm import tqdm

        tqdm.write(text)
    else:
        print(text)
