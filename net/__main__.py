"""The command line: ``njitnet``, or ``python -m net``."""

import argparse
import io
import math
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from net.alone import Alone, on_all_ranks

if TYPE_CHECKING:
    from net.ranks import Ranks
    from net.training import History

# What was done before this line, the interpreter's start and the package's own imports, can only be
# told by the processor time it took.
_BEFORE = time.process_time()

_IN_PICTURE = 60  # of the digits it got wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the lecture's network, or let a trained one predict; see ``njitnet --help``.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line, without the program's name; by default from `sys.argv`.

    Returns
    -------
    int
        The exit status: 0, 2 after an error, 130 after Ctrl-C, 141 when nobody reads the output.
    """
    command, parser = _train, _train_parser
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["predict"]:
        command, parser = _predict, _predict_parser
    if words[:1] in (["predict"], ["train"]):
        del words[0]
    if isinstance(sys.stdout, io.TextIOWrapper):  # each line at once, and any file's name
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    # It may be ignored instead, as in a background job, or the caller's own.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _give_up)
    ranks: Alone | Ranks = Alone()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            if "--mpi" in words:
                ranks = _join()
            with ranks:
                with ranks.together():
                    options = parser().parse_args(words)
                return command(options, ranks)
    except KeyboardInterrupt as error:
        return _complain("interrupted", 130, error, ranks.first)
    except BrokenPipeError:
        return 141
    except (OSError, ValueError, OverflowError, MemoryError, Warning) as error:
        return _complain(f"error: {_message(error)}", 2, error, ranks.first)
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _let_go(sys.stdout)
        _let_go(sys.stderr)


def _give_up(*_: Any) -> NoReturn:
    """End the process on Ctrl-C as long as there is nothing to keep.

    A KeyboardInterrupt would be lost where LLVM calls Python as it compiles.
    """
    os.write(2, b"njitnet: interrupted\n")
    os._exit(130)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or "not enough memory"


def _complain(
    message: str, status: int, error: BaseException | None = None, first: bool = True
) -> int:
    """Say something in one line on standard error; once, where all ranks have the error."""
    if first or not on_all_ranks(error):
        print("njitnet:", " ".join(message.split()), file=sys.stderr)
    return status


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _complain(f"warning: {message}", 0)


def _give_up_silently(*_: Any) -> NoReturn:
    os._exit(130)


def _join() -> "Ranks":
    """Return this process as one of those that mpiexec started; others than rank 0 are silent."""
    try:
        from net.ranks import world
    except (ImportError, RuntimeError) as error:  # the second where it finds no MPI
        raise ValueError(
            "argument --mpi: expected mpi4py and an MPI to be installed, as by "
            f"pip install 'njitnet[mpi]' ({error})"
        ) from error
    ranks = world()
    if not ranks.first:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if signal.getsignal(signal.SIGINT) is _give_up:
            signal.signal(signal.SIGINT, _give_up_silently)
    return ranks


def _let_go(stream: TextIO | None) -> None:
    """Write what a stream still holds, or drop it, so that Python does not fail to as it ends."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# ---------------------------------------------------------------------------------------- options
class _Parser(argparse.ArgumentParser):
    """A parser that raises its errors, and knows what both commands share."""

    def __init__(self, **texts: Any):
        super().__init__(allow_abbrev=False, **texts)

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)

    def option(self, name: str, help: str, metavar: str | None = None, **options: Any) -> None:
        """Add an option whose help tells its default."""
        if "default" in options:
            help += " (default: %(default)s)"
        if metavar is not None:
            options["metavar"] = metavar
        self.add_argument(name, help=help, **options)

    def add_shared(self) -> None:
        """Add the options of both commands."""
        self.option(
            "--data", "four IDX files named as MNIST's are (default: MNIST)", "FOLDER", type=Path
        )
        self.option(
            "--output",
            "where files are written, over those of the run before",
            "FOLDER",
            type=Path,
            default=Path("runs"),
        )
        self.option(
            "--threads", "how many compute (default: one per processor)", "N", type=_whole(1)
        )
        self.option("--no-plot", "draw no picture", action="store_true")
        self.option("--version", "show the version and exit", action=_Version, nargs=0)


def _train_parser() -> _Parser:
    parser = _Parser(
        prog="njitnet",
        usage="njitnet [train] [options]\n       njitnet predict [FILE] [options]",
        description="Train the lecture's two-layer network on MNIST. Prints its accuracies on the "
        "training and the test set at each epoch and how it went at the end; writes the trained "
        "network and a picture of the run.",
        epilog="What to do with the trained network: njitnet predict --help",
    )
    option = parser.option
    option("--iterations", "batches to learn from", "N", type=_whole(1), default=10_000)
    option("--batch-size", "images in a batch", "N", type=_whole(1), default=100)
    option("--learning-rate", "length of a step", "X", type=_positive, default=0.1)
    option("--hidden-size", "hidden units", "N", type=_whole(1), default=50)
    option(
        "--dtype",
        "of the network's numbers: float64 as in the lecture, or float32, which is faster and "
        "learns as well",
        choices=("float32", "float64"),
        default="float32",
    )
    option(
        "--seed",
        "for the same run again, as after np.random.seed(N) (default: a new run each time)",
        "N",
        type=_whole(0, 2**32 - 1),
    )
    option("--checkpoint", "keep the state of the run here at each epoch", "FILE", type=Path)
    option(
        "--resume",
        "go on from the checkpoint, up to --iterations in all",
        action="store_true",
    )
    option(
        "--mpi",
        "train on all processes that mpiexec started, as by mpiexec -n 4 njitnet --mpi",
        action="store_true",
    )
    parser.add_shared()
    return parser


def _predict_parser() -> _Parser:
    parser = _Parser(
        prog="njitnet predict",
        description="Show digits with what the trained network takes them for and how probable "
        "that is: drawn in characters on a terminal, and otherwise a line for each, of its "
        "number, the prediction, the probability and the right answer if that is known. Where the "
        "right answers are known, also shows the accuracy and draws a picture of the digits it "
        "got wrong.",
        epilog="A picture shows one digit, light on dark or dark on light: its edge tells which. "
        "The digit is cut out, scaled and centred as MNIST's were, unless the picture has the "
        "network's size already. The right answers to an IDX file are looked for beside it, under "
        "its name with labels-idx1 for images-idx3.",
    )
    parser.option(
        "file",
        "a picture (PNG, JPEG, ...) or images in an IDX file (default: the test set)",
        "FILE",
        type=Path,
        nargs="?",
    )
    parser.option(
        "--network", "the trained network", "FILE", type=Path, default=Path("runs", "network.npz")
    )
    parser.option("--count", "how many digits to show", "N", type=_whole(1), default=6)
    parser.add_shared()
    return parser


class _Version(argparse.Action):
    def __call__(self, *_: Any) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print("njitnet", version("njitnet"))
        except PackageNotFoundError:
            print("njitnet, not installed")
        sys.exit()


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number of a range."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            end = "" if most is None else f" to {most}"
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {least}{end}, got {text!r}"
            )
        return number

    return read


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number greater than 0, got {text!r}")
    return number


def _set_threads(count: int | None) -> None:
    if count is None:
        return
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    if count > most:
        raise ValueError(
            f"argument --threads: expected a whole number from 1 to {most}, got '{count}'"
        )
    numba.set_num_threads(count)


def _check_writable(file: Path) -> None:
    """See that a file can be written, before any work is done for it; makes its folder."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        raise ValueError(
            f"{file.parent}: expected a folder to write in, or the name for a new one "
            f"({error.strerror})"
        ) from error
    if file.is_dir():
        raise ValueError(f"{file}: expected a file to write, found a folder")


# ------------------------------------------------------------------------------------------ train
def _train(options: argparse.Namespace, ranks: "Alone | Ranks") -> int:
    import numpy as np

    from net import TwoLayerNet, load_mnist, train

    file, picture = options.output / "network.npz", options.output / "history.png"
    clock = _Clock()
    with ranks.together():
        if options.resume and options.checkpoint is None:
            raise ValueError("argument --resume: expected --checkpoint FILE beside it, got none")
        _set_threads(options.threads)
        clock.lap("import")
        if _is_terminal(sys.stderr) and ranks.first:
            print("compiling, which takes a while the first time ...", file=sys.stderr)
        pool = ThreadPoolExecutor(1)  # not in a `with`: an error in the data is told at once
        compiled = pool.submit(_compile, options.dtype, ranks.itself)
        data = load_mnist(path=options.data, part=ranks.part)
        clock.lap("load")
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
                _check_writable(path)
        seconds = compiled.result()
    clock.lap("compile")
    clock.seconds["compile"] = seconds  # in all, not only those that loading did not cover

    status = 0
    reporter.start()
    try:
        if signal.getsignal(signal.SIGINT) in (_give_up, _give_up_silently):
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with np.errstate(all="ignore"):  # `train` warns of a loss that is not finite
            reporter.history = train(
                network,
                *(x_train, t_train, x_test, t_test),
                iterations=options.iterations,
                batch_size=options.batch_size,
                learning_rate=options.learning_rate,
                rng=rng,
                progress=_is_terminal(sys.stderr),
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
            status, message = 2, f"error: {_message(error)}"
        else:
            status = 130
            message = f"interrupted after {done} of {options.iterations} iterations"
        _complain(message, status, error, ranks.first)
    rate = reporter.rate()
    clock.lap("train")

    ranks.lead(lambda: network.save(file))
    accuracy = ranks.accuracy(network, x_test, t_test)
    if not ranks.first:
        return status
    history = reporter.history
    _line("test accuracy", f"{accuracy:.4f}")
    _line("iterations/s", f"{rate:.0f}")
    if options.mpi:
        _line("ranks", ranks.part[1])
    if history.threads:
        most = max(history.threads, key=history.threads.__getitem__)
        _line("threads", f"{most} for {history.threads[most]} of {sum(history.threads.values())}")
    for name, seconds in clock.seconds.items():
        _line(name, f"{seconds:.2f} s")
    _line("network", file)
    if options.checkpoint is not None and options.checkpoint.exists():
        _line("checkpoint", options.checkpoint)
    if not options.no_plot:
        history.plot(picture)
        _line("picture", picture)
    return status


def _compile(dtype: str, comm: Any) -> float:
    """Compile all that a run needs, by a throw-away network; return the seconds that it took."""
    import numpy as np

    from net import TwoLayerNet, train

    begin = time.perf_counter()
    rng = np.random.default_rng(0)
    x, t = (rng.random((1000, 8)) < 0.2).astype(np.float32), rng.integers(0, 2, 1000)
    train(TwoLayerNet(8, 2, 2, dtype=dtype, rng=0), x, t, x, t, iterations=1, rng=0, comm=comm)
    return time.perf_counter() - begin


class _Clock:
    """How long each part of the work takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter() - _BEFORE

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
        if not _is_terminal(sys.stderr):
            print(
                f"iteration {iteration} of {self._iterations}: "
                f"loss {history.train_loss_list[-1]:.4f}, {self.rate():.0f} iterations/s",
                file=sys.stderr,
            )


# ---------------------------------------------------------------------------------------- predict
def _predict(options: argparse.Namespace, ranks: "Alone | Ranks") -> int:
    import numpy as np

    from kernels import softmax
    from net import TwoLayerNet
    from net.predict import draw, read_images, read_test_set

    if options.file is not None and options.data is not None:
        raise ValueError("argument --data: expected this or FILE, got both")
    if not options.network.exists():
        raise ValueError(
            f"{options.network}: expected a trained network, found no such file; "
            "`njitnet` trains one"
        )
    _set_threads(options.threads)
    network = TwoLayerNet.load(options.network)
    size, classes = network.params["W1"].shape[0], network.params["b2"].size
    if options.file is None:
        images, labels = read_test_set(options.data)
    else:
        images, labels = read_images(options.file, size)
    height, width = images.shape[1:]
    if height * width != size:
        raise ValueError(
            f"{options.network}: expected a network for images of {height} x {width} pixels, as "
            f"given, found one for {size} pixels"
        )
    if labels is not None and labels.max() >= classes:
        raise ValueError(
            f"{options.network}: expected a network for labels up to {labels.max()}, as given, "
            f"found one for labels up to {classes - 1}"
        )
    picture = options.output / "wrong.png"
    if labels is not None and not options.no_plot:
        _check_writable(picture)

    y = softmax(network.predict(images))
    digits, sure = y.argmax(axis=1), y.max(axis=1)

    def caption(i: int, gap: str) -> str:
        answer = f"{gap}is {labels[i]}" if labels is not None and digits[i] != labels[i] else ""
        return f"{digits[i]}  {sure[i]:.1%}{answer}"

    shown = range(min(options.count, len(images)))
    if _is_terminal(sys.stdout):
        columns = shutil.get_terminal_size().columns
        print(draw(images[: len(shown)], [caption(i, "  ") for i in shown], columns), end="\n\n")
    else:
        for i in shown:
            print(i, digits[i], f"{sure[i]:.4f}", *([] if labels is None else [labels[i]]))
    if labels is None:
        return 0

    wrong = np.flatnonzero(digits != labels)
    _line("accuracy", f"{1 - wrong.size / len(images):.4f}")
    _line("wrong", f"{wrong.size} of {len(images)}")
    if wrong.size and not options.no_plot:
        from net.plot import plot_digits

        worst = wrong[np.argsort(-sure[wrong], kind="stable")][:_IN_PICTURE]
        plot_digits(
            images[worst],
            [caption(i, "\n") for i in worst],
            picture,
            f"{wrong.size} of {len(images)} predicted wrong"
            + (f"; the {worst.size} it was surest of" if wrong.size > worst.size else ""),
        )
        _line("picture", picture)
    return 0


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _line(name: str, value: object) -> None:
    """Print a result."""
    print(f"{name:<15}{value}")


if __name__ == "__main__":
    sys.exit(main())
