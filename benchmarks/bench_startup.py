"""Start-up time: imports, and compiling or loading the kernels.

Each sample is a new process. The first call is ``gradient``, which needs the forward and backward
kernels of the affine layer, ReLU and softmax.
"""

import subprocess
import sys

NETWORK = """
import numpy as np
from net import TwoLayerNet
network = TwoLayerNet(784, 50, 10)
x, t = np.ones((100, 784)), np.zeros(100, np.int64)
"""
FIRST_CALL = "network.gradient(x, t)"

EMPTY_CACHE = """
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ['NUMBA_CACHE_DIR'] = folder.name
"""


def fill_cache() -> None:
    """Compile what the first call needs, unless it is on disk already."""
    subprocess.run([sys.executable, "-c", NETWORK + FIRST_CALL], check=True)


class Import:
    """Import time of the packages, and of Numba for comparison."""

    def timeraw_net(self) -> str:
        return "import net"

    def timeraw_kernels(self) -> str:
        return "import kernels"

    def timeraw_numba(self) -> str:
        return "import numba"


class FirstCall:
    """Time of the first ``gradient`` of a process, in float64, without the imports."""

    # A cold call takes seconds: no warm-up, and few samples.
    rounds = 1
    repeat = 3
    warmup_time = 0
    timeout = 300

    def timeraw_compiled(self) -> tuple[str, str]:
        return FIRST_CALL, EMPTY_CACHE + NETWORK

    def timeraw_loaded(self) -> tuple[str, str]:
        return FIRST_CALL, NETWORK

    timeraw_loaded.setup = fill_cache
