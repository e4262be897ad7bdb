"""What a user waits for before the first result: imports, and compiling or loading kernels.

Each sample is a process of its own. The first call is that of ``gradient``, which needs the affine,
ReLU and softmax kernels forward and backward.
"""

import subprocess
import sys

from benchmarks.bench_base import DTYPES

NETWORK = """
import numpy as np
from net import TwoLayerNet
network = TwoLayerNet(784, 50, 10, dtype=np.{dtype})
x, t = np.ones((100, 784), np.{dtype}), np.zeros(100, np.int64)
"""
FIRST_CALL = "network.gradient(x, t)"

EMPTY_CACHE = """
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ['NUMBA_CACHE_DIR'] = folder.name
"""


class Import:
    """Importing the packages, and Numba alone for comparison."""

    def timeraw_net(self) -> str:
        return "import net"

    def timeraw_kernels(self) -> str:
        return "import kernels"

    def timeraw_numba(self) -> str:
        return "import numba"


class FirstCall:
    """The first ``gradient`` of a process, without the imports."""

    params = (DTYPES,)
    param_names = ("dtype",)
    # One call in a process; a cold one takes seconds.
    number = 1
    rounds = 1
    repeat = 3
    warmup_time = 0

    def setup(self, dtype: str) -> None:
        """Fill the disk cache."""
        code = NETWORK.format(dtype=dtype) + FIRST_CALL
        subprocess.run([sys.executable, "-c", code], check=True)

    def timeraw_compiled(self, dtype: str) -> tuple[str, str]:
        return FIRST_CALL, EMPTY_CACHE + NETWORK.format(dtype=dtype)

    def timeraw_loaded(self, dtype: str) -> tuple[str, str]:
        return FIRST_CALL, NETWORK.format(dtype=dtype)
