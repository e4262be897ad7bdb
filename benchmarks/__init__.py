"""Benchmarks for airspeed velocity (asv), in the modules ``bench_*``; see ``docs/benchmarks.md``.

Each commit that asv measures has its own Numba cache directory. The hash of the sources in the
cache key (`kernels._cache`) already prevents stale code from being run. Separate directories avoid
recompilation when commits are measured alternately, as by ``asv continuous``, and keep asv out of
a cache directory that the user has set.

asv compares JAX with njitnet on one thread. JAX reads its number of threads when it is imported.

The folder `tracking` has no ``__init__.py``, so that asv does not search it for benchmarks: its
imports are not installed in asv's environments.
"""

import os

if "ASV_ENV_DIR" in os.environ and "ASV_COMMIT" in os.environ:
    os.environ |= {
        "NUMBA_CACHE_DIR": os.path.join(
            os.environ["ASV_ENV_DIR"], "numba", os.environ["ASV_COMMIT"]
        ),
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    }
