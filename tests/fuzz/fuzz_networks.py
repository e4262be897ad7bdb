"""Fuzz the readers of networks and checkpoints: no input may do more than raise ValueError.

With atheris and njitnet's dependencies installed, from the repository's root, for ten minutes and
at most 1 GB of memory:

    mkdir -p /tmp/networks && PYTHONPATH=. python tests/fuzz/fuzz_networks.py /tmp/networks \
        -max_total_time=600 -rss_limit_mb=1024 -timeout=120

The first byte of an input selects the form of the other bytes: a whole file, or the content of one
array of an otherwise valid file. The checksums of that file are recomputed, because the fuzzer
could not guess them.
"""

import io
import sys
import tempfile
from pathlib import Path

import atheris

READERS = [
    *("net.archive", "net.checkpoint", "net.structure", "net.optimizer", "net.random_state"),
    *("numpy.lib._format_impl", "zipfile"),
]
with atheris.instrument_imports(include=READERS):
    import zipfile

    import numpy as np

    from net import Adam, History, MultiLayerNetExtend, Network, checkpoint

FOLDER = tempfile.TemporaryDirectory(prefix="njitnet-fuzz-")
FILE = Path(FOLDER.name, "input.npz")
SETTINGS = {"examples": 3, "batch_size": 2}
GENERATORS = [np.random.RandomState, np.random.default_rng]


def whole(generator: type) -> bytes:
    """Return a valid checkpoint."""
    network, adam = make(), Adam()
    adam.update(network.params, network.gradient(np.eye(3), np.array([0, 1, 1])))
    history = History([1.5, 0.5], [0.25], [0.75], [0])
    checkpoint.write(FILE, network, adam, history, {"batches": generator(0)}, SETTINGS)
    return FILE.read_bytes()


def make() -> MultiLayerNetExtend:
    """Return a network with buffers and options."""
    return MultiLayerNetExtend(3, [2], 2, use_dropout=True, use_batchnorm=True, rng=0)


WHOLE = [whole(generator) for generator in GENERATORS]


def members(file: bytes) -> dict[str, bytes]:
    """Return the content of each array of a checkpoint."""
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        return {name: archive.read(name) for name in sorted(archive.namelist())}


MEMBERS = [members(file) for file in WHOLE]
NAMES = sorted(MEMBERS[0])


def read(data: bytes) -> None:
    """Read one input as a network and as a checkpoint."""
    first, content = data[0] if data else 0, data[1:]
    kind, part = first & 1, first >> 1
    if part < len(NAMES):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, value in MEMBERS[kind].items():
                archive.writestr(name, content if name == NAMES[part] else value)
        content = file.getvalue()
    FILE.write_bytes(content)
    try:
        network = Network.load(FILE)
        assert sum(value.nbytes for value in network.params.values()) <= 3 * len(content)
    except ValueError:
        pass
    network, random = make(), GENERATORS[kind](0)
    history = History()
    try:
        checkpoint.restore(FILE, network, Adam(), history, {"batches": random}, SETTINGS)
    except ValueError:
        assert history == History()
        return
    random.choice(3, 2)
    assert all(type(x) is float for x in history.train_loss_list)


def seed(folder: Path) -> None:
    """Write valid inputs, which the fuzzer mutates."""
    for kind, file in enumerate(WHOLE):
        (folder / f"whole{kind}").write_bytes(bytes([0xFE | kind]) + file)
        for part, name in enumerate(NAMES):
            content = bytes([part << 1 | kind]) + MEMBERS[kind][name]
            (folder / f"{name.replace('/', '-')}{kind}").write_bytes(content)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if Path(argument).is_dir():
            seed(Path(argument))
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
