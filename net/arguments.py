"""The options of the commands."""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that raises its errors, and knows what both commands share."""

    def __init__(self, **texts: Any):
        super().__init__(allow_abbrev=False, **texts)

    def error(self, message: str) -> NoReturn:
        """Raise it."""
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


def train_parser() -> Parser:
    """Return the options of ``njitnet train``."""
    parser = Parser(
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


def predict_parser() -> Parser:
    """Return the options of ``njitnet predict``."""
    parser = Parser(
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
