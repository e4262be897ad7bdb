"""What airspeed velocity measures, in the modules ``bench_*``; see ``docs/benchmarks.md``.

Every commit that asv measures has its own folder of compiled kernels. The stamp that keys them
(`kernels._cache`) already keeps old code from being run. Folders of their own keep commits that are
measured in turn, as ``asv continuous`` does, from compiling again at every turn, and keep asv out
of a folder that you have set for yourself.

JAX, where asv measures it beside our one thread, has one too, which it reads when it is loaded.

The folder `tracking` has no ``__init__.py``, so that asv looks for no benchmarks in it: what it
imports is not in asv's environments.
"""

import os

if "ASV_ENV_DIR" in os.environ and "ASV_COMMIT" in os.environ:
    os.environ |= {
        "NUMBA_CACHE_DIR": os.path.join(
            os.environ["ASV_ENV_DIR"], "numba", os.environ["ASV_COMMIT"]
        ),
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    }
