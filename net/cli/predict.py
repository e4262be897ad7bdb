"""``njitnet predict``: show digits with the network's predictions."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from net.cli.console import check_output, is_terminal, print_result, set_threads
from net.distributed import SingleProcess

_SHOWN = 6  # digits of a test set or of one file
_IN_PICTURE = 60  # the most wrongly predicted digits that are drawn


def run(options: argparse.Namespace, group: SingleProcess) -> int:
    """Show the predictions, and return the exit status."""
    import numpy as np

    from kernels import softmax
    from net import Network
    from net.images import draw, read_images, read_test_set

    if options.file and options.data is not None:
        raise ValueError("argument --data: expected --data or FILE, got both")
    if not options.network.exists():
        raise ValueError(
            f"{options.network}: expected a trained network, found no such file; "
            "`njitnet` trains one"
        )
    set_threads(options.threads)
    network = Network.load(options.network)
    size = _input_size(network)
    if options.file:
        read = [read_images(file, size or 28 * 28) for file in options.file]
        shapes = {images.shape[1:] for images, _ in read}
        if len(shapes) > 1:
            raise ValueError(f"FILE: expected images of one size, got {sorted(shapes)}")
        images = np.concatenate([images for images, _ in read])
        known = [labels for _, labels in read if labels is not None]
        labels = np.concatenate(known) if len(known) == len(read) else None
        names = [str(f) for f, (group_, _) in zip(options.file, read, strict=True) for _ in group_]
    else:
        images, labels = read_test_set(options.data)
        names = [""] * len(images)
    height, width = images.shape[1:]
    if size is not None and height * width != size:
        raise ValueError(
            f"{options.network}: expected a network for images of {height} x {width} pixels, as "
            f"given, found one for {size} pixels"
        )
    picture = options.output / "wrong.png"
    if labels is not None and not options.no_plot:
        check_output(picture)
    blank = [name for name, image in zip(names, images, strict=True) if not image.any()]
    if options.file and blank:
        raise ValueError(f"{blank[0]}: expected a digit, got a blank picture")

    y = softmax(_predict(network, images, options.network))
    classes = y.shape[1]
    if labels is not None and labels.max() >= classes:
        raise ValueError(
            f"{options.network}: expected a network for labels up to {labels.max()}, as given, "
            f"found one for labels up to {classes - 1}"
        )
    digits, sure = y.argmax(axis=1), y.max(axis=1)

    def caption(i: int, gap: str) -> str:
        answer = f"{gap}is {labels[i]}" if labels is not None and digits[i] != labels[i] else ""
        return f"{digits[i]}  {sure[i]:.1%}{answer}"

    several = len(options.file) > 1
    count = options.count or (len(images) if several else _SHOWN)
    shown = range(min(count, len(images)))
    if is_terminal(sys.stdout):
        columns = shutil.get_terminal_size().columns
        print(draw(images[: len(shown)], [caption(i, "  ") for i in shown], columns), end="\n\n")
    else:
        print("image", "prediction", "probability", *([] if labels is None else ["label"]))
        for i in shown:
            name = names[i] if several else i
            print(name, digits[i], f"{sure[i]:.4f}", *([] if labels is None else [labels[i]]))
    if labels is None:
        return 0
    wrong = np.flatnonzero(digits != labels)
    print_result("accuracy", f"{1 - wrong.size / len(images):.4f}")
    print_result("wrong", f"{wrong.size} of {len(images)}")
    if wrong.size and not options.no_plot:
        from net.plot import plot_digits

        worst = wrong[np.argsort(-sure[wrong], kind="stable")][:_IN_PICTURE]
        plot_digits(
            images[worst],
            [caption(i, "\n") for i in worst],
            picture,
            f"{wrong.size} of {len(images)} predicted wrong"
            + (f"; the {worst.size} most confident" if wrong.size > worst.size else ""),
        )
        print_result("picture", picture)
    return 0


def _input_size(network: Any) -> int | None:
    """Return the number of pixels that a network takes, or None for convolutional networks."""
    from net import Affine

    first = next(iter(network.layers.values()))
    return first.W.shape[0] if isinstance(first, Affine) else None


def _predict(network: Any, images: Any, file: Path) -> Any:
    """Return the logits of images, in batches of 500 to limit memory."""
    import numpy as np

    try:
        return np.concatenate(
            [network.predict(images[i : i + 500, np.newaxis]) for i in range(0, len(images), 500)]
        )
    except ValueError as error:
        raise ValueError(
            f"{file}: expected a network for images of {images.shape[1]} x {images.shape[2]} "
            f"pixels, found another ({error})"
        ) from error
