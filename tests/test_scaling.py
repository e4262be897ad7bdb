"""The scaling benchmark runs on small problems, and its model behaves as expected."""

import re
from importlib.util import find_spec
from math import isfinite

import pytest

from benchmarks import scaling
from benchmarks.scaling import Job, Model, Network, allreduce, busiest, line

pytestmark = pytest.mark.slow

NETWORK = Network("some", 1e-5, 1e9)


@pytest.mark.skipif(find_spec("mpi4py") is None, reason="needs mpi4py: pip install 'njitnet[mpi]'")
def test_command_line(monkeypatch, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    monkeypatch.setattr(scaling, "DOCS", tmp_path / "scaling.md")
    scaling.DOCS.write_text("<!-- table:scaling -->\n<!-- end -->\n", encoding="utf-8")
    scaling.main(quick=True, docs=True)
    shown, written = capsys.readouterr().out, scaling.DOCS.read_text(encoding="utf-8")
    for text in (shown, written):
        numbers = [float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d*)?(?![\w.])", text)]
        assert all(map(isfinite, numbers))
        assert not re.search(r"\b(nan|inf)\b", text)
        for kind in ("strong", "weak", "200 Gb/s InfiniBand", "this machine"):
            assert kind in text
    assert "By `python -m benchmarks.tables scaling --docs` on" in written
    assert (tmp_path / "images" / "scaling.png").stat().st_size > 10_000


def test_without_mpiexec(monkeypatch):
    monkeypatch.setattr(scaling, "which", lambda *_, **__: None)
    with pytest.raises(FileNotFoundError, match=r"mpiexec: expected an MPI; pip install"):
        scaling.measure(1, [], [], 0.0)


def test_line():
    assert line([(1, 5.0), (2, 7.0), (4, 11.0)]) == pytest.approx((3, 2))
    assert line([(1, 1.0), (2, 3.0), (4, 7.0)])[0] == 0, "no overhead below zero"
    assert line([(1, 3.0), (2, 2.0), (4, 1.0)])[1] == 0, "no time below zero"
    assert line([(10, 1.0), (10, 1.0)])[1] == pytest.approx(0.1)


def test_allreduce():
    """Short messages take recursive doubling, long ones Rabenseifner's algorithm."""
    assert allreduce(8, 4, NETWORK, 0) == pytest.approx(3 * (1e-5 + 4e-9))
    assert allreduce(8, 1e8, NETWORK, 0) == pytest.approx(6e-5 + 2 * 7 / 8 * 0.1)
    assert allreduce(8, 1e8, NETWORK, 1e-9) == pytest.approx(6e-5 + 3 * 7 / 8 * 0.1)


def test_busiest():
    assert busiest(100, 1) == 100
    assert busiest(100, 2) == pytest.approx(50 + 4, abs=0.3)  # sqrt(100 / (2 pi)) above the mean
    assert 1 < busiest(10, 1000) < 2


def test_model():
    model = Model({"net": (0.0, 1e-3)}, {"net": 7960}, NETWORK, 0.0)
    job, free = Job("net", 10_000), Network("free", 0.0, 1e30)
    assert model.efficiency(job, 1, NETWORK, False) == 1
    for weak in (False, True):
        seen = [model.efficiency(job, n, NETWORK, weak) for n in (1, 2, 8, 64, 1024)]
        assert seen == sorted(seen, reverse=True)
        assert model.efficiency(job, 64, free, weak) > seen[3]
    # The only loss is that of unequal shares.
    expected = 10_000 / 8 / busiest(10_000, 8)
    assert model.efficiency(job, 8, free, False) == pytest.approx(expected)
    overhead = Model({"net": (1.0, 1e-3)}, {"net": 7960}, NETWORK, 0.0)
    assert overhead.efficiency(job, 8, free, False) < overhead.efficiency(job, 8, free, True)


def test_docs_have_the_place():
    text = scaling.DOCS.read_text(encoding="utf-8")
    assert re.search(r"<!-- table:scaling -->\n.*?<!-- end -->", text, re.DOTALL)
    assert "(images/scaling.png)" in text
