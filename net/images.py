"""Input images for a trained network, from picture and IDX files, and their display as text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from net.archive import check_regular
from net.mnist import load_test_set, read_idx

Images = NDArray[Any]  # float32
Labels = NDArray[np.uint8] | None

_SHADES = np.array(list(" .:-=+*#%@"))  # characters for 0 to 1
_SHARE = 20 / 28  # longer side of a digit over the side of the image, as in MNIST
_MARGIN = 2  # columns between images
_MIN_CONTRAST = 0.05  # of a digit and the edge of the picture, below which the picture is blank


def read_test_set(folder: Path | None) -> tuple[Images, Labels]:
    """Read the test set of a folder, or that of MNIST.

    Parameters
    ----------
    folder : Path or None
        None for the MNIST files of the package.

    Returns
    -------
    images : ndarray of float32, shape (N, height, width)
        Pixels from 0 to 1.
    labels : ndarray of uint8, shape (N,)

    Raises
    ------
    OSError, ValueError
        As `load_mnist`.
    """
    images, labels = load_test_set(folder)
    return images / np.float32(255), labels


def read_images(file: Path, size: int) -> tuple[Images, Labels]:
    """Read the images of an IDX file, or one image in any format that Pillow reads.

    Parameters
    ----------
    file : Path
    size : int
        Number of pixels of the network's input, to which a picture is scaled.

    Returns
    -------
    images : ndarray of float32, shape (N, height, width)
        Pixels from 0, the background, to 1.
    labels : ndarray of uint8, shape (N,), or None
        For an IDX file, the labels of the file in the same folder with ``labels-idx1`` in its name
        in place of ``images-idx3``; None if there is no such file.

    Raises
    ------
    OSError
        If the file is missing or cannot be read.
    ValueError
        If the file has neither format or is damaged, or the network's images are not square.

    Notes
    -----
    A picture is converted to greyscale on a white background. If the median of its border is
    lighter than mid-grey, the picture is inverted, because MNIST's digits are light on dark. A
    picture of the network's size is not changed further. In any other picture the digit is
    preprocessed as in MNIST (Y. LeCun et al., "Gradient-based learning applied to document
    recognition", 1998): cropped, scaled so that its longer side is 20/28 of the side of the
    network's images, normalised so that the median of the border is 0 and the maximum is 1, and
    placed with its centre of mass in the centre.
    """
    check_regular(file)
    with file.open("rb") as stream:
        start = stream.read(3)
    if start[:2] != b"\x1f\x8b" and start != b"\0\0\x08":
        return _read_picture(file, size)[np.newaxis], None
    images, _ = read_idx(file, 3)
    beside = file.with_name(file.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = read_idx(beside, 1)[0] if beside != file and beside.is_file() else None
    if labels is not None and len(labels) != len(images):
        raise ValueError(
            f"{beside}: expected {len(images)} labels, one for each image in {file.name}, "
            f"found {len(labels)}"
        )
    return images / np.float32(255), labels


def _read_picture(file: Path, size: int) -> Images:
    """Read one picture as a light digit on dark, of the network's size."""
    side = math.isqrt(size)
    if side * side != size:
        raise ValueError(
            f"{file}: expected a network for square images, found one for {size} pixels"
        )
    try:
        with Image.open(file) as picture:
            grey = _grey(picture)
    except Exception as error:  # Pillow raises many types for damaged files
        if isinstance(error, OSError) and error.errno:
            raise
        raise ValueError(
            f"{file}: expected a picture or an IDX file of images, found another or damaged file "
            f"({error})"
        ) from error
    edge = np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
    if edge > 0.5:
        grey, edge = 1 - grey, 1 - edge
    if grey.max() - edge < _MIN_CONTRAST:
        return np.zeros((side, side), np.float32)
    if grey.shape == (side, side):
        return grey
    return _as_in_mnist(np.maximum(grey - edge, 0), side)


def _as_in_mnist(ink: Images, side: int) -> Images:
    """Crop a digit, and give it the size and position in the image that digits of MNIST have."""
    square = np.zeros((side, side), np.float32)
    if not ink.any():
        return square
    rows, columns = (np.flatnonzero(ink.max(axis) > 0.3 * ink.max()) for axis in (1, 0))
    digit = Image.fromarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = side * _SHARE / max(digit.size)
    size = [max(1, round(scale * length)) for length in digit.size]
    small = np.asarray(digit.resize(size, Image.Resampling.BILINEAR))
    corner = [
        round((side - 1) / 2 - np.average(np.arange(length), weights=small.sum(axis=1 - axis)))
        for axis, length in enumerate(small.shape)
    ]
    top, left = np.clip(corner, 0, np.subtract(square.shape, small.shape))
    square[top : top + small.shape[0], left : left + small.shape[1]] = small / small.max()
    return square


def _grey(picture: Any) -> Images:
    """Convert a Pillow image to greyscale from 0, black, to 1."""
    if picture.mode.startswith("I"):  # 16-bit greyscale, which Pillow would clip at 255
        return np.asarray(picture, np.float32) / 65535
    solid = ImageOps.exif_transpose(picture).convert("RGBA")
    paper = Image.new("RGBA", solid.size, "white")
    return np.asarray(Image.alpha_composite(paper, solid).convert("L"), np.float32) / 255


def draw(images: Images, captions: list[str], columns: int) -> str:
    """Draw images in characters, without their common margin, in as many columns as fit.

    Parameters
    ----------
    images : ndarray, shape (N, height, width)
        Pixels from 0 to 1.
    captions : list of str
        Caption below each image.
    columns : int
        Width of the terminal in characters.

    Returns
    -------
    str

    Examples
    --------
    >>> import numpy as np
    >>> print(draw(np.stack([np.eye(4), np.eye(4)[::-1]]), ["down", "up"], 80))
    ==      ==
      ==  ==
    down  up
    """
    ink: NDArray[np.bool_] = np.any(images > 0.1, axis=0)
    rows, across = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if rows.size:
        images = images[:, rows[0] : rows[-1] + 1, across[0] : across[-1] + 1]
    step = -(-images.shape[2] // columns)
    blocks = [
        [*_shade(image[::step, ::step]), caption]
        for image, caption in zip(images, captions, strict=True)
    ]
    widest = max(len(line) for block in blocks for line in block)
    count = max(1, (columns + _MARGIN) // (widest + _MARGIN))
    return "\n\n".join(
        "\n".join(
            (" " * _MARGIN).join(part.ljust(widest) for part in parts).rstrip()
            for parts in zip(*blocks[first : first + count], strict=True)
        )
        for first in range(0, len(blocks), count)
    )


def _shade(image: Images) -> list[str]:
    """Return an image as lines of text, each the mean of two rows.

    A character is about twice as high as it is wide.
    """
    image = np.pad(image, ((0, image.shape[0] % 2), (0, 0)))
    levels = (image[::2] + image[1::2]) / 2 * (len(_SHADES) - 1)
    return ["".join(_SHADES[row]) for row in levels.round().astype(int)]
