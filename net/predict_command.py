"""``njitnet predict``: show digits and what a trained network takes them for."""

import argparse
import shutil
import sys
from typing import TYPE_CHECKING

from net.alone import Alone
from net.console import check_writable, is_terminal, line, set_threads

if TYPE_CHECKING:
    from net.ranks import Ranks

_IN_PICTURE = 60  # of the digits it got wrong


def run(options: argparse.Namespace, ranks: "Alone | Ranks") -> int:
    """Do it, and return the exit status."""
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
    set_threads(options.threads)
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
        check_writable(picture)

    y = softmax(network.predict(images))
    digits, sure = y.argmax(axis=1), y.max(axis=1)

    def caption(i: int, gap: str) -> str:
        answer = f"{gap}is {labels[i]}" if labels is not None and digits[i] != labels[i] else ""
        return f"{digits[i]}  {sure[i]:.1%}{answer}"

    shown = range(min(options.count, len(images)))
    if is_terminal(sys.stdout):
        columns = shutil.get_terminal_size().columns
        print(draw(images[: len(shown)], [caption(i, "  ") for i in shown], columns), end="\n\n")
    else:
        for i in shown:
            print(i, digits[i], f"{sure[i]:.4f}", *([] if labels is None else [labels[i]]))
    if labels is None:
        return 0

    wrong = np.flatnonzero(digits != labels)
    line("accuracy", f"{1 - wrong.size / len(images):.4f}")
    line("wrong", f"{wrong.size} of {len(images)}")
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
        line("picture", picture)
    return 0
