"""Command-line options of the commands."""

import argparse
import math
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from net.optimizers import OPTIMIZERS

NETWORKS = ("two-layer", "multi-layer", "simple-conv", "deep-conv")


class Parser(argparse.ArgumentParser):
    """Argument parser that raises ValueError, with the options shared by both commands."""

    def __init__(self, **texts: Any):
        super().__init__(allow_abbrev=False, **texts)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; the error for an unknown option names a similar one."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            options = [name for action in self._actions for name in action.option_strings]
            close = get_close_matches(unknown[0].partition("=")[0], options, 1, 0.75)
            hint = f"; did you mean {close[0]}?" if close else "; see --help"
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found

    def error(self, message: str) -> NoReturn:
        """Raise ValueError instead of exiting."""
        raise ValueError(message)

    def option(self, name: str, help: str, metavar: str | None = None, **options: Any) -> None:
        """Add an option, with its default appended to the help text."""
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
            "where files are written; existing files are overwritten",
            "FOLDER",
            type=Path,
            default=Path("runs"),
        )
        self.option(
            "--threads", "number of threads (default: one per processor)", "N", type=_whole(1)
        )
        self.option("--no-plot", "do not draw a picture", action="store_true")
        self.option("--version", "show the version and exit", action=_Version, nargs=0)


def train_parser() -> Parser:
    """Return the parser of ``njitnet train``."""
    parser = Parser(
        prog="njitnet",
        usage="njitnet [train] [options]\n       njitnet predict [FILE ...] [options]",
        description="Train a network of the course on MNIST, by default the lecture's two-layer "
        "network. Prints the accuracies on the training and the test set at each epoch, and a "
        "summary at the end; writes the trained network and a picture of the run.",
        epilog="To use the trained network: njitnet predict --help",
    )
    option = parser.option
    option(
        "--network",
        "two-layer: Affine, ReLU, Affine; multi-layer: any number of hidden layers; simple-conv: "
        "one convolution; deep-conv: six convolutions with dropout",
        choices=NETWORKS,
        default="two-layer",
    )
    option(
        "--hidden",
        "hidden units; for multi-layer, of each layer (default: 50; multi-layer 100,100; "
        "simple-conv 100)",
        "N[,N...]",
        type=_sizes,
    )
    option("--activation", "activation of multi-layer (default: relu)", choices=("relu", "sigmoid"))
    option("--dropout", "fraction of units dropped in training of multi-layer", "X", type=_share)
    option("--batch-norm", "batch normalisation in multi-layer", action="store_true")
    option(
        "--weight-decay",
        "lambda of lambda / 2 * sum of W**2 in the loss",
        "X",
        type=_number(0, strict=False),
        default=0.0,
    )
    option("--optimizer", "update rule of the weights", choices=tuple(OPTIMIZERS), default="sgd")
    option(
        "--learning-rate",
        "learning rate (default: 0.1 for sgd, 0.001 for adam, otherwise 0.01)",
        "X",
        type=_number(0),
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--iterations", help="batches to train on (default: 10000)", metavar="N", type=_whole(1)
    )
    length.add_argument(
        "--epochs", help="epochs to train for, instead of --iterations", metavar="N", type=_whole(1)
    )
    option("--batch-size", "images in a batch", "N", type=_whole(1), default=100)
    option(
        "--dtype",
        "dtype of the parameters: float64 as in the lecture, or float32, which is faster and "
        "learns equally well",
        choices=("float32", "float64"),
        default="float32",
    )
    option(
        "--seed",
        "random seed, as in np.random.seed(N) (default: a different run each time)",
        "N",
        type=_whole(0, 2**32 - 1),
    )
    option("--checkpoint", "save the state of the run here at each epoch", "FILE", type=Path)
    option(
        "--resume",
        "resume from the checkpoint, up to --iterations in all; with auto, start a new run if "
        "there is no such file",
        choices=("yes", "auto"),
        nargs="?",
        const="yes",
    )
    option(
        "--mpi",
        "train on all processes of mpiexec, as in mpiexec -n 4 njitnet --mpi",
        action="store_true",
    )
    parser.add_shared()
    return parser


def predict_parser() -> Parser:
    """Return the parser of ``njitnet predict``."""
    parser = Parser(
        prog="njitnet predict",
        description="Show digits with the network's predictions and their probabilities: drawn in "
        "characters on a terminal, otherwise as a table with the labels, if known. "
        "If the labels are known, also shows the accuracy and draws a picture of the digits "
        "that were predicted wrong.",
        epilog="A picture shows one digit, light on dark or dark on light, detected at its edge. "
        "The digit is cropped, scaled and centred as in MNIST, unless the picture has the "
        "network's size already. The labels of an IDX file are read from the same folder, from the "
        "file with labels-idx1 for images-idx3 in its name.",
    )
    parser.option(
        "file",
        "pictures (PNG, JPEG, ...) or images in IDX files (default: the test set)",
        "FILE",
        type=Path,
        nargs="*",
    )
    parser.option(
        "--network", "the trained network", "FILE", type=Path, default=Path("runs", "network.npz")
    )
    parser.option(
        "--count",
        "how many digits to show (default: 6; of several files, all)",
        "N",
        type=_whole(1),
    )
    parser.add_shared()
    return parser


class _Version(argparse.Action):
    def __call__(self, *_: Any) -> NoReturn:
        import net

        print("njitnet", net.__version__)
        sys.exit()


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a converter to integers from `least` to `most`, for `argparse`."""

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


def _number(lower: float, strict: bool = True) -> Callable[[str], float]:
    """Return a converter to finite numbers above, or from, a lower bound, for `argparse`."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (lower < number < math.inf or (number == lower and not strict)):
            words = "greater than" if strict else "from"
            raise argparse.ArgumentTypeError(f"expected a number {words} {lower:g}, got {text!r}")
        return number

    return read


def _share(text: str) -> float:
    share = _number(0, strict=False)(text)
    if share >= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to below 1, got {text!r}")
    return share


def _sizes(text: str) -> list[int]:
    read = _whole(1)
    return [read(part) for part in text.split(",")]
