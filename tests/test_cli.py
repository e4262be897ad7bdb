"""The command line, run as a separate process where necessary."""

import errno
import fcntl
import gzip
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from net import Network, TwoLayerNet, archive, load_mnist, train
from net.__main__ import main
from net.images import draw, read_images

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "net"]
SIZE, CLASSES = 8, 3
TIMEOUT = 280  # a deadlock ends here; on a busy machine compilation alone takes minutes


# --------------------------------------------------------------------- a small data set and network
def idx(array):
    return struct.pack(f">{1 + array.ndim}I", 2048 + array.ndim, *array.shape) + array.tobytes()


def figures(rng, count):
    """Return horizontal bars, vertical bars and boxes: light on dark, noisy, with a margin."""
    labels = rng.integers(0, CLASSES, count, dtype=np.uint8)
    kinds = np.zeros((CLASSES, SIZE, SIZE))
    kinds[0, 3:5, 1:7] = kinds[1, 1:7, 3:5] = kinds[2, 1:7, 1:7] = 230
    kinds[2, 3:5, 3:5] = 0
    noise = rng.integers(-25, 26, (count, SIZE, SIZE))
    return np.clip(kinds[labels] + noise, 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(7)
    for part, count in (("train", 300), ("t10k", 100)):
        images, labels = figures(rng, count)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


@pytest.fixture(scope="module")
def network(data, tmp_path_factory):
    """Return the file of a network trained on the small data set."""
    file = tmp_path_factory.mktemp("network") / "network.npz"
    (x, t), _ = load_mnist(path=data)
    trained = TwoLayerNet(SIZE**2, 10, CLASSES, 0.1, dtype=np.float32, rng=0)
    train(trained, x, t, iterations=300, batch_size=20, rng=0)
    trained.save(file)
    return file


# ---------------------------------------------------------------------------------------- processes
def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def run(*words, cwd, status=0, warnings="error"):
    done = subprocess.run(
        [*COMMAND, *map(str, words)],
        cwd=cwd,
        env={**environment(), "PYTHONWARNINGS": warnings},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def start(*words, cwd, program=COMMAND, **streams):
    return subprocess.Popen(
        [*program, *map(str, words)], cwd=cwd, env=environment(), text=True, **streams
    )


def run_in_terminal(*words, cwd):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 0, 0))
    process = start(*words, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    output, end = b"", time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        if select.select([ours], [], [], 1)[0]:
            try:
                output += os.read(ours, 65536)
            except OSError:  # on Linux, the other side is closed
                break
    os.close(ours)
    assert process.wait(TIMEOUT) == 0, output
    return output.decode()


def summary(text):
    """Return the aligned lines at the end as a dictionary."""
    lines = re.findall(r"^([a-z][a-z/ ]{14})(\S.*)$", text, re.MULTILINE)
    return {name.strip(): value for name, value in lines}


def accuracies(text):
    return [tuple(map(float, line)) for line in re.findall(r"^(\S+) (\S+)$", text, re.MULTILINE)]


def assert_picture(file):
    with Image.open(file) as picture:
        picture.load()
        assert min(picture.size) > 100
        assert len(picture.convert("L").getcolors()) > 1


# -------------------------------------------------------------------------------------------- train
def test_learns_mnist(tmp_path):
    out, err = run("--iterations", 700, "--seed", 1, cwd=tmp_path)
    before, after = accuracies(out)
    assert max(before) < 0.3
    assert min(after) > 0.85

    told = summary(out)
    assert list(told) == [
        *("test accuracy", "iterations/s", "threads", "import", "load", "compile", "train"),
        *("network", "picture"),
    ]
    assert all(0 < float(told[k].removesuffix(" s")) < TIMEOUT for k in list(told)[3:7])
    assert told["network"] == str(Path("runs", "network.npz"))
    trained = TwoLayerNet.load(tmp_path / told["network"])
    assert {key: (a.shape, a.dtype) for key, a in trained.params.items()} == {
        "W1": ((784, 50), np.float32),
        "b1": ((50,), np.float32),
        "W2": ((50, 10), np.float32),
        "b2": ((10,), np.float32),
    }
    assert told["test accuracy"] == f"{trained.accuracy(*load_mnist()[1]):.4f}"
    assert_picture(tmp_path / told["picture"])
    assert re.fullmatch(
        r"iteration 1 of 700: loss \S+, \d+ iterations/s\n"
        r"iteration 601 of 700: loss \S+, \d+ iterations/s\n",
        err,
    )


def test_same_numbers_as_the_script_with_the_same_seed(data, tmp_path, capsys):
    options = ("--seed", 3, "--dtype", "float64", "--iterations", 100, "--batch-size", 30)
    sizes = ("--hidden", 12, "--learning-rate", 0.3, "--data", data, "--no-plot")
    assert main([str(w) for w in ("train", *options, *sizes, "--output", tmp_path / "a/b")]) == 0

    sets = load_mnist(path=data)
    np.random.seed(3)
    script = TwoLayerNet(SIZE**2, 12, CLASSES)
    history = train(script, *sets[0], *sets[1], iterations=100, batch_size=30, learning_rate=0.3)
    expected = list(zip(history.train_acc_list, history.test_acc_list, strict=True))
    assert accuracies(capsys.readouterr().out) == expected
    for key, value in TwoLayerNet.load(tmp_path / "a/b/network.npz").params.items():
        np.testing.assert_array_equal(value, script.params[key])
    assert os.listdir(tmp_path / "a/b") == ["network.npz"]


def test_goes_on_from_a_checkpoint(data, tmp_path, capsys):
    def go(name, iterations, *more):
        words = ("--data", data, "--seed", 5, "--no-plot", "--iterations", iterations, *more)
        assert main([*map(str, words), "--output", str(tmp_path / name)]) == 0
        output = capsys.readouterr()
        return accuracies(output.out), output.err, TwoLayerNet.load(tmp_path / name / "network.npz")

    whole, _, expected = go("whole", 50)
    keep = ("--checkpoint", tmp_path / "state")
    first, _, _ = go("parts", 20, *keep)
    second, err, resumed = go("parts", 50, *keep, "--resume")
    assert first + second == whole
    assert err.startswith("iteration 22 of 50: ")
    for key, value in resumed.params.items():
        np.testing.assert_array_equal(value, expected.params[key])
    assert go("parts", 50, *keep, "--resume")[0] == []


def test_keeps_the_network_when_no_checkpoint_can_be_written(data, tmp_path, capsys, monkeypatch):
    """The disk fills up at the third epoch."""
    write, written = archive.write, []

    def full(path, arrays):
        if path.name == "state":
            written.append(path)
            if len(written) == 3:
                raise OSError(errno.ENOSPC, "No space left on device; as before", str(path))
        write(path, arrays)

    monkeypatch.setattr(archive, "write", full)
    words = ("--data", data, "--iterations", 30, "--checkpoint", tmp_path / "state", "--no-plot")
    assert main([*map(str, words), "--seed", "5", "--output", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    message = (
        "No space left on device; as before; the network in memory is trained for 7 iterations"
    )
    assert f"njitnet: error: {tmp_path / 'state'}: {message}\n" in err
    assert summary(out)["network"] == str(tmp_path / "network.npz")
    monkeypatch.undo()
    words = (
        "--data",
        data,
        "--iterations",
        7,
        "--no-plot",
        "--seed",
        5,
        "--output",
        tmp_path / "o",
    )
    assert main([*map(str, words)]) == 0
    kept, expected = (
        TwoLayerNet.load(tmp_path / name) for name in ("network.npz", "o/network.npz")
    )
    for key, value in expected.params.items():
        np.testing.assert_array_equal(kept.params[key], value)


def test_shows_a_bar_in_a_terminal(data, tmp_path):
    text = run_in_terminal("--data", data, "--iterations", 2000, cwd=tmp_path)
    assert "Traceback" not in text
    assert "iteration 1 of" not in text
    bar = re.findall(r"\r *(\d+)%\|.*?\| (\d+)/2000 \[.*?it/s, loss=\S+, train=\S+, test=", text)
    assert bar[-1] == ("100", "2000")
    lines = re.sub(r"[^\n]*\r(?!\n)", "", text).replace("\r\n", "\n")
    assert len(accuracies(lines)) == -(-2000 // 3)
    assert summary(lines)["network"] == "runs/network.npz"


def test_tells_of_a_loss_that_is_not_finite(data, tmp_path):
    words = ("--data", data, "--iterations", 20, "--learning-rate", "1e30", "--threads", 1)
    _, err = run(*words, cwd=tmp_path, warnings="default")
    told, *others = (line for line in err.splitlines() if line.startswith("njitnet: "))
    assert others == []
    assert told.startswith("njitnet: warning: the loss stopped being finite at iteration ")
    assert "try a learning rate below 1e+30" in told
    _, err = run(*words, cwd=tmp_path, warnings="error", status=2)
    assert err.startswith("njitnet: error: the loss stopped being finite at iteration ")
    assert_picture(tmp_path / "runs/history.png")


def test_interrupted_keeps_what_was_trained(data, tmp_path):
    words = ("--data", data, "--iterations", 10**9, "--checkpoint", "state.npz")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start(*words, cwd=tmp_path, **pipes)
    first = [process.stdout.readline() for _ in range(20)]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    assert "Traceback" not in err
    done = re.fullmatch(
        r"njitnet: interrupted after (\d+) of 1000000000 iterations", err.splitlines()[-1]
    )
    assert int(done[1]) > 3 * (len(first) - 1)
    told = summary(out)
    assert float(told["test accuracy"]) > 0.3
    assert TwoLayerNet.load(tmp_path / told["network"]).params["W1"].shape == (SIZE**2, 50)
    assert TwoLayerNet.load(tmp_path / told["checkpoint"])
    assert_picture(tmp_path / told["picture"])


def test_interrupted_before_there_is_anything_to_keep(tmp_path):
    program = (
        "import os, signal, sys, time, net; from net.__main__ import main\n"
        "net.load_mnist = lambda **_: [os.kill(os.getpid(), signal.SIGINT), time.sleep(60)]\n"
        "sys.exit(main())"
    )
    process = start(cwd=tmp_path, program=[sys.executable, "-c", program], stderr=subprocess.PIPE)
    assert process.communicate(timeout=TIMEOUT)[1] == "njitnet: interrupted\n"
    assert process.returncode == 130
    assert os.listdir(tmp_path) == []


def test_nobody_reads_the_output(data, tmp_path):
    words = ("--data", data, "--iterations", 10**9)
    with start(*words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        assert process.wait(TIMEOUT) == 141


# ------------------------------------------------------------------------------------------ predict
def test_predicts_the_test_set(data, network, tmp_path):
    out, err = run("predict", "--network", network, "--data", data, "--count", 5, cwd=tmp_path)
    assert err == ""
    (_, _), (x, t) = load_mnist(path=data)
    header, *lines = [line.split() for line in out.splitlines()[:6]]
    assert header == ["image", "prediction", "probability", "label"]
    assert [int(line[0]) for line in lines] == list(range(5))
    assert [int(line[3]) for line in lines] == t[:5].tolist()
    y = TwoLayerNet.load(network).predict(x[:5]).astype(np.float64)
    y = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    assert [int(line[1]) for line in lines] == y.argmax(axis=1).tolist()
    np.testing.assert_allclose([float(line[2]) for line in lines], y.max(axis=1), atol=6e-5)
    assert summary(out.partition("\n")[2]) == {"accuracy": "1.0000", "wrong": "0 of 100"}
    assert not (tmp_path / "runs/wrong.png").exists()


def test_draws_in_a_terminal(data, network, tmp_path):
    text = run_in_terminal("predict", "--network", network, "--data", data, cwd=tmp_path)
    assert text.count("%%%") > 6
    assert len(re.findall(r"\d  \d+\.\d%", text)) == 6
    assert re.search(r"^accuracy {7}1.0000\r$", text, re.MULTILINE)


@pytest.mark.parametrize("packed", [False, True])
def test_predicts_an_idx_file_with_the_answers_beside_it(network, tmp_path, capsys, packed):
    images, labels = figures(np.random.default_rng(1), 80)
    labels[:70] = (labels[:70] + 1) % CLASSES
    for name, array in (("my-images-idx3-ubyte", images), ("my-labels-idx1-ubyte", labels)):
        file = tmp_path / (name + ".gz" * packed)
        file.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    words = ["predict", tmp_path / file.name.replace("labels-idx1", "images-idx3")]
    words += ["--network", network, "--output", tmp_path]
    assert main(list(map(str, words))) == 0
    told = summary(capsys.readouterr().out)
    assert told["accuracy"] == "0.1250"
    assert told["wrong"] == "70 of 80"
    assert_picture(told["picture"])

    file.unlink()
    assert main(list(map(str, words))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [len(line.split()) for line in lines] == [3] * 7


@pytest.mark.parametrize("kind", range(CLASSES))
def test_predicts_pictures(network, tmp_path, capsys, kind):
    images, labels = figures(np.random.default_rng(2), 20)
    image = Image.fromarray(images[labels == kind][0]).resize((120, 120))
    aside = Image.new("L", (700, 300), 30)
    aside.paste(image.point(lambda p: 30 + p * 0.6), (500, 10))
    clear = Image.new("RGBA", image.size, (0, 0, 0, 0))
    clear.putalpha(image)
    forms = {
        "light-on-dark.png": image,
        "dark-on-light.jpg": image.point(lambda p: 255 - p),
        "aside-and-pale.png": aside,
        "black-on-nothing.png": clear,
        "sixteen-bits.png": Image.fromarray(np.asarray(image, np.uint16) * 257),
        "palette.gif": image.convert("P"),
    }
    for name, picture in forms.items():
        picture.save(tmp_path / name)
        assert main(["predict", str(tmp_path / name), "--network", str(network)]) == 0
        number, digit, probability = capsys.readouterr().out.splitlines()[1].split()
        assert (number, digit) == ("0", str(kind)), name
        assert float(probability) > 0.6, name


def test_a_picture_of_the_networks_size_is_taken_as_it_is(tmp_path):
    image = figures(np.random.default_rng(3), 1)[0][0]
    for name, form in (("as-it-is.png", image), ("turned.png", 255 - image)):
        Image.fromarray(form).save(tmp_path / name)
        found, labels = read_images(tmp_path / name, SIZE**2)
        assert labels is None
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, image[np.newaxis] / 255, atol=1e-6)


def test_a_digit_is_cut_out_scaled_and_centred(tmp_path):
    paper = np.full((300, 200), 250, np.uint8)
    paper[20:160, 110:180] = 40  # 140 x 70: to be 20 x 10
    Image.fromarray(paper).save(tmp_path / "box.png")
    found, _ = read_images(tmp_path / "box.png", 28 * 28)
    box = np.zeros((28, 28))
    box[4:24, 9:19] = 1
    np.testing.assert_allclose(found[0], box, atol=1e-6)

    paper[20:160, 110:180] = 250
    paper[2, 3] = paper[290, 190] = 0  # two specks, far apart
    Image.fromarray(paper).save(tmp_path / "specks.png")
    found, _ = read_images(tmp_path / "specks.png", 28 * 28)
    assert found.max() == 1
    assert 1 < np.count_nonzero(found) < 9


def test_a_picture_of_one_colour(tmp_path):
    for level in (0, 100, 255):
        Image.new("L", (30, 20), level).save(tmp_path / "flat.png")
        found, _ = read_images(tmp_path / "flat.png", SIZE**2)
        np.testing.assert_array_equal(found, np.zeros((1, SIZE, SIZE)))


def test_draw_fits_into_the_terminal():
    images = np.ones((5, 6, 10), np.float32)
    text = draw(images, ["caption"] * 5, 24)
    assert text == "\n\n".join(
        "\n".join(
            ["  ".join([line] * n) for line in ["@" * 10] * 3] + [("caption     " * n).strip()]
        )
        for n in (2, 2, 1)
    )
    assert max(map(len, draw(images, [""] * 5, 5).splitlines())) == 5
    assert draw(images * 0, ["x"] * 5, 79).split() == ["x"] * 5


# ------------------------------------------------------------------------------------------- errors
NUMBERS = ("0", "-1", "1.5", "x", "", "nan")
BAD_OPTIONS = [
    *([option, value] for option in ("--iterations", "--batch-size") for value in NUMBERS),
    *(["--learning-rate", value] for value in ("0", "-0.1", "nan", "inf", "x", "")),
    *(["--seed", value] for value in ("-1", "4294967296", "x")),
    *(["--threads", value] for value in ("0", "100000")),
    ["--hidden", "0"],
    ["--hidden", "9" * 30],
    ["--hidden", "9" * 12],
    ["--batch-size", "301"],
    ["--dtype", "float16"],
    ["--dtype", "int\n"],
    ["--resume"],
    ["--resume", "--checkpoint", "missing"],
    ["--resume", "--checkpoint", "text"],
    ["--resume", "--checkpoint", "network.npz"],
    ["--checkpoint", "folder"],
    ["--checkpoint", "text/below"],
    ["--output", "text"],
    ["--output", "text/below"],
    ["--output", "taken"],
    ["--data", "missing"],
    ["--data", "text"],
    ["--data", "folder"],
    ["--iter", "5"],
    ["--iterations"],
    ["--none"],
    ["thing"],
    ["predict", "--count", "0"],
    ["predict", "--network", "missing"],
    ["predict", "--network", "text"],
    ["predict", "--network", "folder"],
    ["predict", "--network", "odd.npz"],
    ["predict", "--network", "two.npz"],
    ["predict", "missing"],
    ["predict", "folder"],
    ["predict", "text"],
    ["predict", "cut.png"],
    ["predict", "cut-idx3"],
    ["predict", "small-idx3"],
    ["predict", "odd.png", "--network", "odd.npz"],
    ["predict", "some-images-idx3"],
    ["predict", "odd.png", "--data", "folder"],
    ["predict", "--output", "text"],
    ["predict", "blank.png"],
    ["predict", "odd.png", "blank.png"],
    ["predict", "grey.png"],
    ["predict", "faint.png"],
    ["--network", "three-layer"],
    ["--hidden", "10,10"],
    ["--hidden", "10,"],
    ["--activation", "sigmoid"],
    ["--network", "multi-layer", "--activation", "tanh"],
    ["--network", "multi-layer", "--dropout", "1"],
    ["--dropout", "0.5"],
    ["--batch-norm"],
    ["--weight-decay", "-1"],
    ["--optimizer", "newton"],
    ["--epochs", "0"],
    ["--epochs", "2", "--iterations", "5"],
    ["--resume", "auto"],
    ["--resume", "never", "--checkpoint", "state"],
    ["--output", ".", "--checkpoint", "network.npz"],
    ["--output", ".", "--checkpoint", "folder/../history.png"],
]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory, network):
    """Return a folder of invalid files."""
    folder = tmp_path_factory.mktemp("crowded")
    (folder / "folder").mkdir()
    (folder / "taken/network.npz").mkdir(parents=True)
    (folder / "text").write_text("words\n")
    (folder / "network.npz").write_bytes(network.read_bytes())
    TwoLayerNet(60, 4, CLASSES, rng=0).save(folder / "odd.npz")
    TwoLayerNet(SIZE**2, 4, 2, rng=0).save(folder / "two.npz")
    Image.fromarray(np.arange(900, dtype=np.uint8).reshape(30, 30)).save(folder / "odd.png")
    Image.new("RGBA", (20, 20), (255, 255, 255, 0)).save(folder / "blank.png")
    Image.new("L", (SIZE, SIZE), 200).save(folder / "grey.png")  # of the network's own size
    faint = np.full((50, 50), 255, np.uint8)
    faint[20:30, 20:30] = 254
    Image.fromarray(faint).save(folder / "faint.png")
    (folder / "cut.png").write_bytes((folder / "odd.png").read_bytes()[:-300])
    images, labels = figures(np.random.default_rng(4), 10)
    (folder / "cut-idx3").write_bytes(idx(images)[:-1])
    (folder / "small-idx3").write_bytes(idx(images[:, 1:, 1:]))
    (folder / "some-images-idx3").write_bytes(idx(images))
    (folder / "some-labels-idx1").write_bytes(idx(labels[1:]))
    return folder


@pytest.mark.parametrize("words", BAD_OPTIONS, ids=" ".join)
def test_errors_are_one_line(words, crowded, data, network, monkeypatch, capsys):
    monkeypatch.chdir(crowded)
    files = sum(path.is_file() for path in crowded.rglob("*"))
    if "predict" in words and "--network" not in words:
        words = [*words, "--network", str(network)]
    if "--data" not in words and not re.search("png|idx", " ".join(words)):
        words = [*words, "--data", str(data)]
    assert main(words) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert re.fullmatch(r"njitnet: error: [^\n]{10,}\n", output.err)
    assert sum(path.is_file() for path in crowded.rglob("*")) == files


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--optimiser", "adam"], "did you mean --optimizer?"),
        (["predict", "--thread=2"], "did you mean --threads?"),
        (["--nonsense"], "see --help"),
    ],
)
def test_a_similar_option_is_named(words, hint, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.endswith(f"{words[-1]}; {hint}\n")


@pytest.mark.parametrize("words", [["--iterations", "-5"], ["predict", "no.png"]])
def test_errors_of_a_process(words, tmp_path):
    out, err = run(*words, cwd=tmp_path, status=2)
    assert out == ""
    assert re.fullmatch(r"njitnet: error: [^\n]+\n", err)


def test_help_and_version(capsys):
    for words, text in (
        (["--help"], "njitnet predict [FILE ...]"),
        (["predict", "--help"], "--network FILE"),
        (["--version"], "njitnet"),
        (["predict", "--version"], "njitnet"),
    ):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert not end.value.code
        assert text in capsys.readouterr().out


def test_the_help_tells_every_default(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for default in ("10000", "100", "0.1", "50", "float32", "MNIST", "runs", "two-layer", "sgd"):
        assert re.search(rf"\(default: {default}[);]| {default} for", text), default
    assert "None" not in text


# ------------------------------------------------------------------------------- trust
def test_terminated_keeps_what_was_trained(data, tmp_path):
    words = ("--data", data, "--iterations", 10**9)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start(*words, cwd=tmp_path, **pipes)
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 143
    assert "interrupted after" in err
    assert TwoLayerNet.load(tmp_path / summary(out)["network"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_standard_error(data, tmp_path):
    with open("/dev/full", "w") as full:
        process = start("--data", data, "--iterations", 60, cwd=tmp_path, stderr=full,
                        stdout=subprocess.PIPE)  # fmt: skip
        out, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert len(accuracies(out)) == 20
    assert (tmp_path / "runs/network.npz").exists()


def test_a_reader_that_leaves(data, tmp_path):
    """``njitnet | head -1`` prints no error, and saves no partially trained network."""
    words = ("--data", data, "--iterations", 10**9)
    with start(*words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(TIMEOUT) == 141
    assert all(line.startswith("iteration ") for line in err.splitlines())
    assert not (tmp_path / "runs/network.npz").exists()


def test_the_largest_label(tmp_path, capsys):
    """Label 255 needs 256 classes, a number that does not fit a byte."""
    for part in ("train", "t10k"):
        images, labels = figures(np.random.default_rng(3), 40)
        labels[labels == 2] = 255
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    words = ["--data", tmp_path, "--iterations", 5, "--batch-size", 5, "--output", tmp_path / "o"]
    assert main([*map(str, words), "--no-plot"]) == 0
    assert Network.load(tmp_path / "o/network.npz").params["b2"].shape == (256,)
    capsys.readouterr()


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/stdin"])
def test_devices_are_not_read(network, capsys, device):
    for words in (["predict", "--network", device], ["predict", device, "--network", network]):
        assert main([*map(str, words)]) == 2
        assert "expected" in capsys.readouterr().err


def test_a_checkpoint_in_place_of_data(data, tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    file = folder / "train-labels-idx1-ubyte"
    before = file.read_bytes()
    assert main(["--data", str(folder), "--checkpoint", str(file), "--iterations", "5"]) == 2
    assert "which contains data" in capsys.readouterr().err
    assert file.read_bytes() == before


# ------------------------------------------------------------------------------- other networks
@pytest.mark.parametrize(
    "words",
    [
        ["--network", "multi-layer", "--hidden", "9,8", "--activation", "sigmoid"],
        ["--network", "multi-layer", "--dropout", "0.2", "--batch-norm", "--optimizer", "adam"],
        ["--optimizer", "momentum", "--weight-decay", "0.001", "--hidden", "7"],
    ],
    ids=" ".join,
)
def test_other_networks(data, tmp_path, capsys, words):
    options = ["--data", data, "--epochs", 2, "--batch-size", 20, "--seed", 1, "--output", tmp_path]
    keep = ["--checkpoint", tmp_path / "state", "--resume", "auto"]
    for _ in range(2):  # the second finds the run done
        assert main([*map(str, [*words, *options, *keep])]) == 0
        out = capsys.readouterr().out
    assert len(accuracies(out)) == 0
    network = Network.load(tmp_path / "network.npz")
    assert len(archive.read(tmp_path / "state")["train_loss_list"]) == 30
    if "--hidden" in words:
        hidden = [int(n) for n in words[words.index("--hidden") + 1].split(",")]
        shapes = [network.params[f"W{i + 1}"].shape[1] for i in range(len(hidden))]
        assert shapes == hidden
    assert network.weight_decay == (0.001 if "--weight-decay" in words else 0)
    predict = ["predict", "--data", data, "--network", tmp_path / "network.npz", "--no-plot"]
    assert main([*map(str, predict)]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_a_convolutional_network(data, tmp_path, capsys):
    words = ["--network", "simple-conv", "--hidden", 6, "--data", data, "--iterations", 30]
    words += ["--batch-size", 20, "--optimizer", "adam", "--seed", 1, "--output", tmp_path]
    assert main([*map(str, words)]) == 0
    assert float(summary(capsys.readouterr().out)["test accuracy"]) > 0.5
    predict = ["predict", "--data", data, "--network", tmp_path / "network.npz", "--no-plot"]
    assert main([*map(str, predict)]) == 0
    assert_picture(tmp_path / "history.png")
    assert_picture(tmp_path / "filters.png")


def test_the_test_files_alone(data, network, tmp_path, capsys):
    for file in data.glob("t10k-*"):
        shutil.copy(file, tmp_path)
    words = ["predict", "--data", tmp_path, "--network", network, "--no-plot"]
    assert main([*map(str, words)]) == 0
    assert "accuracy       1.0000" in capsys.readouterr().out


def test_several_pictures(network, tmp_path, capsys):
    images, labels = figures(np.random.default_rng(2), 3)
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image).save(file)
    assert main([*map(str, ["predict", *files, "--network", network])]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[1]) for line in lines] == labels.tolist()
