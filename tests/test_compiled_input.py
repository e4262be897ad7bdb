"""Kernels also check their arguments when called from a user's ``@njit`` function."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from naive import EXPECTED_GOT
from numba.core.errors import TypingError

import kernels

pytestmark = pytest.mark.slow

X, W, B = np.ones((3, 4)), np.ones((4, 2)), np.ones(2)
T, HOT = np.array([0, 1, 3]), np.eye(4)[:3]
MASK = X > 0
IMAGES, FILTERS = np.ones((3, 1, 4, 4)), np.ones((2, 1, 1, 1))
POOLED = np.zeros((3, 1, 2, 2))
SIZES = {"max_pool_forward": (2, 2, 2), "max_pool_backward": (2, 2, 2)}
"""Valid arguments after the arrays."""


# These compile quickly. The test of a compiled caller of the affine kernels with shapes that
# differ is in test_affine.py, beside the caller that takes longer to compile.
@numba.njit
def relu_backward(dout, mask):
    return kernels.relu_backward(dout, mask)


@numba.njit
def sigmoid_backward(dout, out):
    return kernels.sigmoid_backward(dout, out)


@numba.njit
def softmax(x):
    return kernels.softmax(x)


@numba.njit
def loss(x, t):
    return kernels.softmax_cross_entropy_forward(x, t)


@numba.njit
def loss_backward(y, t):
    return kernels.softmax_cross_entropy_backward(y, t)


VALUES = {
    "shapes that differ": (relu_backward, (X, MASK[:2])),
    "shapes that differ, sigmoid": (sigmoid_backward, (X, X[:2])),
    "no class": (softmax, (np.ones((3, 0)),)),
    "empty batch": (loss, (np.ones((0, 4)), np.zeros(0, int))),
    "label too large": (loss, (X, np.array([0, 1, 4]))),
    "label far too large": (loss, (X, np.array([0, 1, 2**64 - 1], np.uint64))),
    "label negative": (loss, (X, np.array([0, 1, -1]))),
    "too few labels": (loss, (X, T[:2])),
    "too many labels": (loss, (X, np.array([0, 1, 2, 3]))),
    "one-hot too wide": (loss, (X, np.ones((3, 5)))),
    "one-hot too short": (loss, (X, HOT[:2])),
    "one-hot NaN": (loss, (X, HOT * np.nan)),
    "one-hot infinite": (loss, (X, HOT + np.inf)),
    "label too large, backward": (loss_backward, (X, np.array([0, 1, 4]))),
    "label negative, backward": (loss_backward, (X, np.array([-5, 1, 2]))),
    "too few labels, backward": (loss_backward, (X, T[:2])),
    "one-hot too wide, backward": (loss_backward, (X, np.ones((3, 5)))),
}


@pytest.mark.parametrize(("function", "arguments"), VALUES.values(), ids=VALUES)
def test_wrong_values_from_compiled_code(function, arguments):
    with pytest.raises(ValueError, match=EXPECTED_GOT):
        function(*arguments)


KINDS = {
    "adagrad_update": (X, X, X, 0.1),
    "adam_update": (X, X, X, X, 1, 0.1, 0.9, 0.999),
    "affine_forward": (X, W, B),
    "affine_backward": (np.ones((3, 2)), X, W),
    "affine_backward_params": (np.ones((3, 2)), X, W),
    "batch_norm_forward": (X, W[:, 0].copy(), W[:, 0].copy()),
    "batch_norm_inference": (X, *np.ones((4, 4))),
    "batch_norm_backward": (X, X, *np.ones((3, 4))),
    "dropout_forward": (X, MASK),
    "dropout_backward": (X, MASK),
    "momentum_update": (X, X, X, 0.1, 0.9),
    "nesterov_update": (X, X, X, 0.1, 0.9),
    "convolution_forward": (IMAGES, FILTERS, B),
    "convolution_backward": (np.ones((3, 2, 4, 4)), IMAGES, FILTERS),
    "convolution_backward_params": (np.ones((3, 2, 4, 4)), IMAGES, FILTERS),
    "max_pool_forward": (IMAGES,),
    "max_pool_backward": (POOLED, POOLED.astype(int), IMAGES.shape),
    "relu_forward": (X,),
    "relu_backward": (X, MASK),
    "rmsprop_update": (X, X, X, 0.1, 0.99),
    "sgd_update": (X, X, 0.1),
    "sigmoid_forward": (X,),
    "sigmoid_backward": (X, X),
    "softmax": (X,),
    "softmax_cross_entropy_forward": (X, T),
    "softmax_cross_entropy_backward": (X, T, 1.0),
}
WRONG = {
    "complex": lambda a: np.asarray(a).astype(complex),
    "float16": lambda a: np.asarray(a).astype(np.float16),
    "date": lambda a: np.asarray(a).astype("M8[s]"),
    "list": lambda a: [1.0, 2.0],
    "tuple": lambda a: (1, 2),
    "None": lambda a: None,
    "text": lambda a: "text",
    "one dimension more": lambda a: np.asarray(a)[..., None, None],
}
# Arguments of any number of dimensions: (X, 1, 1) is valid, too.
ANY_RANK = {("relu_forward", 0), ("sigmoid_forward", 0), ("softmax", 0)}
ANY_RANK |= {("batch_norm_forward", 0), ("batch_norm_inference", 0)}
CASES = [
    pytest.param(name, i, wrong, id=f"{name}-{i}-{wrong}")
    for name, arguments in KINDS.items()
    for i in range(len(arguments))
    for wrong in WRONG
    if not ((name, i) in ANY_RANK and wrong == "one dimension more")
]


def compiled(kernel):
    return numba.njit(lambda *arguments: kernel(*arguments))


@pytest.mark.parametrize(("name", "i", "wrong"), CASES)
def test_wrong_kinds_from_compiled_code(name, i, wrong):
    """Compiling the caller raises a clear error, not an arbitrary one from Numba."""
    arguments = list(KINDS[name])
    arguments[i] = WRONG[wrong](arguments[i])
    with pytest.raises(TypingError, match=EXPECTED_GOT):
        compiled(getattr(kernels, name))(*arguments, *SIZES.get(name, ()))


def test_scalars_from_compiled_code():
    assert set(KINDS) == set(kernels.__all__)
    for name, arguments in KINDS.items():
        with pytest.raises(TypingError, match=EXPECTED_GOT):
            compiled(getattr(kernels, name))(1.0, *arguments[1:], *SIZES.get(name, ()))
    with pytest.raises(TypingError, match=r"expected x \(\.\.\., C\).* got"):
        softmax(np.array(1.0))
    with pytest.raises(TypingError, match="expected integer class indices, got"):
        loss(X, T + 0.5)
    with pytest.raises(TypingError, match=r"expected mask as booleans.* got"):
        relu_backward(X, X)


@pytest.mark.slow
def test_callers_of_different_processes_are_kept_apart(tmp_path):
    """Copies of one array in two dtypes, in users' functions that two processes compiled."""
    (tmp_path / "callers.py").write_text(
        """
import sys
import numpy as np
from numba import njit
import kernels

@njit(cache=True)
def affine(x, W, b):
    return kernels.affine_forward(x, W, b).sum()

@njit(cache=True)
def loss(x, t):
    return kernels.softmax_cross_entropy_forward(x, t)[0]

bytes_ = np.ones((3, 6), np.uint8)[:, ::2]
ones = np.ones((3, 3), np.float32)
for name in sys.argv[1:]:
    result = loss(ones, bytes_) if name == "loss" else affine(bytes_, ones, ones[0])
    print(f"{result:.4f}")
""",
        encoding="utf-8",
    )

    def run(*names):
        environment = {**os.environ, "PYTHONPATH": os.getcwd(), "NUMBA_CACHE_DIR": str(tmp_path)}
        command = [sys.executable, "-W", "error", str(tmp_path / "callers.py"), *names]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    expected = {"affine": "36.0000", "loss": f"{3 * np.log(3):.4f}"}
    for name, value in expected.items():
        assert run(name) == [value]
    assert run("affine", "loss") == [*expected.values()]
    assert run("loss", "affine") == [*expected.values()][::-1]
