"""The history of a run, and its figures, as shown in a notebook."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

import net
from net import History, TwoLayerNet, plot_filters, plot_histories, train


@pytest.fixture(scope="module")
def history():
    rng = np.random.default_rng(0)
    x, t = rng.random((60, 5)), rng.integers(0, 3, 60)
    return train(TwoLayerNet(5, 4, 3, rng=0), x, t, x[:20], t[:20], iterations=130, batch_size=20)


def test_the_accuracy_after_the_last_iteration(history):
    rng = np.random.default_rng(0)
    x, t = rng.random((60, 5)), rng.integers(0, 3, 60)
    network = TwoLayerNet(5, 4, 3, rng=0)
    for iterations in (0, 1, 4, 5):
        run = train(network, x, t, x[:20], t[:20], iterations=iterations, batch_size=20)
        assert run.train_acc == network.accuracy(x, t)
        assert run.test_acc == network.accuracy(x[:20], t[:20])
    assert train(network, x, t, iterations=2).test_acc is None
    assert History().train_acc is None


def test_repr_is_short(history):
    text = repr(history)
    assert len(text) < 120
    assert text.startswith("History(130 iterations, loss ")
    assert f"test accuracy {history.test_acc:.4f}" in text
    assert repr(History()) == "History(0 iterations)"
    assert len(repr(TwoLayerNet(784, 50, 10, rng=0))) < 120
    assert repr(net.Adam()) == "Adam(lr=0.001, beta1=0.9, beta2=0.999)"
    assert [repr(net.Add()), repr(net.Mul())] == ["Add()", "Mul()"]
    x, t = np.eye(4), np.arange(4) % 2
    trainer = net.Trainer(TwoLayerNet(4, 8, 2, rng=0), x, t, x, t, 3, 4, "adam", verbose=False)
    trainer.train()
    assert repr(trainer).startswith("Trainer(TwoLayerNet(")
    assert repr(trainer).endswith("Adam(lr=0.01, beta1=0.9, beta2=0.999), iteration 3 of 3)")
    for name in ("network", "optimizer"):  # replacing them would have no effect
        with pytest.raises(AttributeError):
            setattr(trainer, name, None)


def test_plot_returns_the_figure(history, tmp_path):
    figure = history.plot()
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 2
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert f"test set, {history.test_acc:.4f} at the end" in labels
    history.plot(tmp_path / "a.png")
    history.plot(str(tmp_path / "a.svg"))
    stream = io.BytesIO()
    history.plot(stream)
    assert stream.getvalue().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    axes = Figure().subplots()
    assert history.plot(ax=axes) is axes
    assert len(axes.lines) == 2


def test_the_gap_between_the_sets_is_seen(history):
    low, high = history.plot().axes[1].get_ylim()
    assert low > 0.0
    assert high > 1
    assert low <= min(history.train_acc_list[1:] + history.test_acc_list[1:])


@pytest.mark.parametrize("values", ["loss", "accuracy", "overfitting"])
def test_runs_compared(history, tmp_path, values):
    file = tmp_path / "runs.png"
    runs = {"first": history, "second": History([2.0, 1.0], [0.1], [0.1], [0])}
    figure = plot_histories(runs, file, values=values, title="Two runs")
    assert isinstance(figure, Figure)
    assert file.stat().st_size > 1000
    shown = [text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()]
    shown += [axes.get_title() for axes in figure.axes]
    assert {"first", "second"} <= set(shown)
    if values == "accuracy":
        line = figure.axes[0].lines[0]
        assert (line.get_xdata()[-1], line.get_ydata()[-1]) == (129, history.test_acc)


def test_filters(tmp_path):
    W = np.random.default_rng(0).random((30, 1, 5, 5))
    figure = plot_filters({"before": W, "after": W}, tmp_path / "filters.png")
    assert sum(len(part.axes) for part in figure.subfigs) >= 60
    assert (tmp_path / "filters.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: plot_histories({}), ValueError),
        (lambda: plot_histories([History()]), ValueError),
        (lambda: plot_histories({"a": 1}), TypeError),
        (lambda: plot_histories({"a": History()}, values="gradient"), ValueError),
        (lambda: plot_filters({"a": np.ones(3)}), ValueError),
        (lambda: plot_filters({}), ValueError),
        (lambda: History().plot(5), TypeError),
        (lambda: History().plot("picture.words"), ValueError),
    ],
)
def test_bad_input(call, error):
    with pytest.raises(error):
        call()


def test_version():
    assert net.__version__[0].isdigit()


def test_a_notebook_shows_the_figure():
    figure = History([2.3, 1.2]).plot()
    assert figure._repr_png_().startswith(b"\x89PNG")
