"""Threads, forks and users' parallel loops give correct results, without crash or deadlock.

Each test runs in a separate process (`support.thread_scenarios`), with each threading layer that
Numba can load.
"""

import os
from functools import cache

import pytest
from support.exhaustive import exhaustive
from support.processes import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="needs fork and process groups"),
]


@cache
def loads(layer, folder):
    """Return whether Numba can load a threading layer."""
    code = "import numba; numba.get_num_threads()"
    return run(folder, "-c", code, NUMBA_THREADING_LAYER=layer)[0] == 0


@pytest.fixture(params=["omp", exhaustive("workqueue"), exhaustive("tbb")])
def layer(request, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    if not loads(request.param, folder):
        pytest.skip(f"Numba cannot load the threading layer {request.param} here")
    return request.param


def expect_right(layer, scenario, folder, **environment):
    """Check that all results of a scenario are correct, and return its output."""
    environment |= {"NUMBA_THREADING_LAYER": layer}
    status, output = run(folder, "-m", "support.thread_scenarios", scenario, layer, **environment)
    assert status == 0, output
    lines = output.splitlines()
    assert "right" in lines, output
    return lines


@pytest.mark.parametrize("scenario", ["threads", "prange", "forks"])
def test_under_each_layer(layer, scenario, tmp_path):
    expect_right(layer, scenario, tmp_path)


@pytest.mark.exhaustive
def test_processes_that_start_afresh(tmp_path):
    expect_right("omp", "starts", tmp_path)


@cache
def trained(layer, threads, folder):
    """Return the set of digests of each method of training; a set of one if bitwise identical."""
    found = {}
    for line in expect_right(layer, "bits", folder, NUMBA_NUM_THREADS=threads):
        if "\t" in line:
            dtype, way, digest = line.split("\t")
            found.setdefault((dtype, way), set()).add(digest)
    return found


@pytest.mark.parametrize("threads", ["2", *map(exhaustive, ["1", "3", "4", "8"])])
def test_training_gives_the_same_bits(layer, threads, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    one = trained("omp", "1", folder)
    assert len(one) == 6
    assert {len(digests) for digests in one.values()} == {1}
    assert trained(layer, threads, folder) == one
