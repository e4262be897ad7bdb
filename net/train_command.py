"""``njitnet train``: train the lecture's network, and keep it with a picture of its history."""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from net.alone import Alone
from net.console import (
    BEFORE,
    check_writable,
    complain,
    describe,
    give_up,
    give_up_silently,
    is_terminal,
    line,
    set_threads,
)

if TYPE_CHECKING:
    from net.ranks import Ranks
    from net.training import History

T = TypeVar("T")


def run(options: argparse.Namespace, ranks: "Alone | Ranks") -> int:
    """Do it, and return the exit status."""
    import numpy as np

    from net import TwoLayerNet, load_mnist, train

    file, picture = options.output / "network.npz", options.output / "history.png"
    clock = _Clock()
    with ranks.together():
        if options.resume and options.checkpoint is None:
            raise ValueError("argument --resume: expected --checkpoint FILE beside it, got none")
        set_threads(options.threads)
        clock.lap("import")
        if is_terminal(sys.stderr) and ranks.first:
            print("compiling, which takes a while the first time ...", file=sys.stderr)
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(_timed, load_mnist, path=options.data, part=ranks.part)
            if options.data is not None:
                loading.result()  # a wrong file is told before anything is compiled
            compile_seconds, _ = _timed(_compile, dtype=options.dtype, comm=ranks.itself)
            load_seconds, data = loading.result()
        clock.lap("load")  # both side by side; each is told with its own time
        clock.seconds |= {"load": load_seconds, "compile": compile_seconds}
    (x_train, t_train), (x_test, t_test) = data
    count = sum(ranks.gather(len(x_train)))
    classes = 1 + max(ranks.gather(max(t.max(initial=0) for t in (t_train, t_test))))
    sizes = x_train.shape[1], options.hidden_size, int(classes)
    rng = np.random.RandomState(options.seed)
    with ranks.together():
        if options.batch_size > count:
            raise ValueError(
                f"argument --batch-size: expected at most {count}, the number of training "
                f"images, got '{options.batch_size}'"
            )
        network = TwoLayerNet(*sizes, dtype=options.dtype, rng=rng)
        resumed = options.checkpoint if options.resume and ranks.first else None
        reporter = _Reporter(options.iterations, resumed)
        for path in (file, picture, options.checkpoint):
            if path is not None and ranks.first:
                check_writable(path)

    status = 0
    reporter.start()
    try:
        if signal.getsignal(signal.SIGINT) in (give_up, give_up_silently):
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with np.errstate(all="ignore"):  # `train` warns of a loss that is not finite
            reporter.history = train(
                network,
                *(x_train, t_train, x_test, t_test),
                iterations=options.iterations,
                batch_size=options.batch_size,
                learning_rate=options.learning_rate,
                rng=rng,
                progress=is_terminal(sys.stderr),
                callback=reporter,
                checkpoint=options.checkpoint,
                resume=options.resume,
                comm=ranks.comm,
            )
    except (KeyboardInterrupt, OSError) as error:
        done = ranks.lead(lambda: len(reporter.history.train_loss_list))
        if not done:
            raise
        if isinstance(error, OSError):  # no checkpoint could be written
            status, message = 2, f"error: {describe(error)}"
        else:
            status = 130
            message = f"interrupted after {done} of {options.iterations} iterations"
        complain(message, status, error, ranks.first)
    rate = reporter.rate()
    clock.lap("train")

    ranks.lead(lambda: network.save(file))
    accuracy = ranks.accuracy(network, x_test, t_test)
    if not ranks.first:
        return status
    history = reporter.history
    line("test accuracy", f"{accuracy:.4f}")
    line("iterations/s", f"{rate:.0f}")
    if options.mpi:
        line("ranks", ranks.part[1])
    if history.threads:
        most = max(history.threads, key=history.threads.__getitem__)
        line("threads", f"{most} for {history.threads[most]} of {sum(history.threads.values())}")
    for name, seconds in clock.seconds.items():
        line(name, f"{seconds:.2f} s")
    line("network", file)
    if options.checkpoint is not None and options.checkpoint.exists():
        line("checkpoint", options.checkpoint)
    if not options.no_plot:
        history.plot(picture)
        line("picture", picture)
    return status


def _compile(dtype: str, comm: Any) -> None:
    """Compile all that a run needs, or load it, by training a throw-away network."""
    import numpy as np

    from net import TwoLayerNet, train

    rng = np.random.default_rng(0)
    x, t = (rng.random((1000, 8)) < 0.2).astype(np.float32), rng.integers(0, 2, 1000)
    train(TwoLayerNet(8, 2, 2, dtype=dtype, rng=0), x, t, x, t, iterations=1, rng=0, comm=comm)


def _timed(function: Callable[..., T], **options: Any) -> tuple[float, T]:
    """Return how many seconds a function took, and what it returned."""
    begin = time.perf_counter()
    result = function(**options)
    return time.perf_counter() - begin, result


class _Clock:
    """How long each part of the work takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter() - BEFORE

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now


class _Reporter:
    """Prints the accuracies of each epoch, and holds on to the history for after Ctrl-C."""

    def __init__(self, iterations: int, checkpoint: Path | None):
        from net import History
        from net.checkpoint import read_history

        self.history = History()
        if checkpoint is not None:
            vars(self.history).update(read_history(checkpoint))
        self._iterations = iterations
        self._before = len(self.history.train_loss_list)

    def start(self) -> None:
        """Start to count time."""
        self._started = time.perf_counter()

    def rate(self) -> float:
        """Return the iterations per second until now."""
        done = len(self.history.train_loss_list) - self._before
        return done / (time.perf_counter() - self._started)

    def __call__(self, iteration: int, history: "History") -> None:
        from tqdm import tqdm

        self.history = history
        if history.evaluated_at[-1:] != [iteration - 1]:
            return  # called at the end of the run, which is no epoch
        tqdm.write(f"{history.train_acc_list[-1]} {history.test_acc_list[-1]}")
        if not is_terminal(sys.stderr):
            print(
                f"iteration {iteration} of {self._iterations}: "
                f"loss {history.train_loss_list[-1]:.4f}, {self.rate():.0f} iterations/s",
                file=sys.stderr,
            )
