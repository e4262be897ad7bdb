"""``net.sklearn``: scikit-learn's estimator checks, and agreement with its classifier."""

import pickle
import sys
import warnings

import numba
import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier as Reference
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from kernels._threads import Team
from net.sklearn import MLPClassifier
from net.sklearn.epochs import Epochs
from net.sklearn.training import num_threads

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SOLVERS = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.1, "momentum": 0.0},
    "momentum": {"solver": "sgd", "learning_rate_init": 0.05, "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.05},
    "adam": {"solver": "adam", "beta_1": 0.8, "epsilon": 1e-4, "learning_rate_init": 0.01},
}
TARGETS = {
    "classes": lambda t: t,
    "two classes": lambda t: t % 2,
    "labels": lambda t: np.stack([t % 2, t > 4, t % 3 == 0], axis=1).astype(int),
}


@pytest.fixture(scope="module")
def digits():
    x, t = load_digits(return_X_y=True)
    return x[:550] / 16, t[:550]


@pytest.mark.slow
@parametrize_with_checks([MLPClassifier(), MLPClassifier(solver="sgd", alpha=0.01)])
def test_checks_of_estimators(estimator, check):
    check(estimator)


# ---------------------------------------------------------------- agreement
def assert_same(ours, reference, tolerance=1e-9):
    """Check that fitted attributes and predictions agree."""
    for name in ("loss_curve_", "loss_", "validation_scores_", "best_validation_score_"):
        a, b = getattr(ours, name), getattr(reference, name)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(reference, name), name
    np.testing.assert_array_equal(ours.classes_, reference.classes_)
    assert (ours.best_loss_ is None) == (reference.best_loss_ is None)
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(ours, name), getattr(reference, name), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a, b, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("activation", ["relu", "logistic", "identity"])
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_five_epochs_are_those_of_scikit_learn(digits, solver, targets, activation):
    """The same random_state gives the same batches, of 200, 200 and 150, with sample weights."""
    x, t = digits[0], TARGETS[targets](digits[1])
    options = {"max_iter": 5, "random_state": 3, "alpha": 0.1, "activation": activation}
    for sample_weight in (None, np.random.default_rng(0).uniform(0, 2, len(x))):
        ours, reference = (
            kind((30, 20), **options, **SOLVERS[solver]).fit(x, t, sample_weight)
            for kind in (MLPClassifier, Reference)
        )
        assert len(ours.loss_curve_) == 5
        assert_same(ours, reference)
        np.testing.assert_array_equal(ours.predict(x), reference.predict(x))
        np.testing.assert_allclose(ours.predict_proba(x), reference.predict_proba(x), atol=1e-9)
        np.testing.assert_allclose(
            ours.predict_log_proba(x), reference.predict_log_proba(x), rtol=1e-6
        )
        assert ours.score(x, t) == reference.score(x, t)


@pytest.mark.parametrize(
    "options",
    [
        {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 2},
        {"tol": 0.05, "n_iter_no_change": 3},
        {"n_iter_no_change": np.inf, "max_iter": 12},
        {"shuffle": False, "batch_size": 64, "max_iter": 4},
        {"batch_size": 10_000, "hidden_layer_sizes": (), "max_iter": 4},
        {"hidden_layer_sizes": 7, "alpha": 0, "max_iter": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("targets", TARGETS)
def test_training_ends_where_it_does_in_scikit_learn(digits, targets, options, capsys):
    x, t = digits[0], TARGETS[targets](digits[1])
    fitted, printed = [], []
    for kind in (MLPClassifier, Reference):
        given = {"hidden_layer_sizes": (20,), "learning_rate_init": 0.02, "max_iter": 60} | options
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the batch size is clipped
            fitted.append(kind(**given, random_state=0, verbose=True).fit(x, t))
        printed.append(capsys.readouterr().out)
    assert_same(*fitted)
    assert printed[0] == printed[1]
    assert fitted[0].best_loss_ is None or abs(fitted[0].best_loss_ - fitted[1].best_loss_) < 1e-9


def test_warm_starts_and_partial_fits_are_those_of_scikit_learn(digits):
    x, t = digits
    options = {"hidden_layer_sizes": (20,), "random_state": 1, "batch_size": 50}
    ours, reference = (
        kind(**options, warm_start=True, max_iter=3) for kind in (MLPClassifier, Reference)
    )
    for _ in range(3):
        assert_same(ours.fit(x, t), reference.fit(x, t))
    assert len(ours.loss_curve_) == 9
    with pytest.raises(ValueError, match="expected the classes of the first fit"):
        ours.fit(x, t % 3)
    with pytest.raises(ValueError, match="hidden_layer_sizes: expected"):
        ours.set_params(hidden_layer_sizes=(5,)).fit(x, t)

    ours, reference = (kind(**options, solver="sgd") for kind in (MLPClassifier, Reference))
    with pytest.raises(ValueError, match="classes: expected"):
        ours.partial_fit(x, t)
    for first in range(0, 500, 120):
        part = slice(first, first + 120)
        for model in (ours, reference):
            model.partial_fit(x[part], t[part], classes=np.arange(10))
        ours = pickle.loads(pickle.dumps(ours))  # including the optimizer's state
        assert_same(ours, reference)
    with pytest.raises(ValueError, match="classes: expected"):
        ours.partial_fit(x, t, classes=np.arange(9))
    with pytest.raises(ValueError, match="y: expected the classes"):
        ours.partial_fit(x, t + 1)
    with pytest.raises(ValueError, match="early_stopping: expected"):
        ours.set_params(early_stopping=True).partial_fit(x, t)


@pytest.mark.parametrize("kind", ["f4", "f8", "f2", "u1", "list", "fortran"])
def test_types_of_input(digits, kind):
    x, t = digits if kind in ("f4", "f8") else (np.rint(16 * digits[0]), digits[1])
    given = {"list": x.tolist, "fortran": lambda: np.asfortranarray(x)}.get(
        kind, lambda: x.astype(kind)
    )()
    model = MLPClassifier((20,), max_iter=3, random_state=0).fit(given, t)
    reference = Reference((20,), max_iter=3, random_state=0).fit(given, t)
    assert_same(model, reference, 1e-5 if kind == "f4" else 1e-9)
    assert model.coefs_[0].dtype == (np.float32 if kind == "f4" else np.float64)
    assert model.predict_proba(given).dtype == model.coefs_[0].dtype


def test_any_number_of_threads_gives_the_same_bits(digits, bits_on_threads):
    def fit():
        model = MLPClassifier((40, 20), max_iter=8, random_state=0).fit(*digits)
        return (*model.coefs_, *model.intercepts_, model.predict_proba(digits[0]))

    one, others = bits_on_threads(fit)
    assert all(bits == one for bits in others)


# ---------------------------------------------------------------- limits
def test_batches_without_weight_and_logits_far_from_zero(digits):
    x, t = digits
    weights = (np.arange(len(x)) >= 100) * 1.0
    model = MLPClassifier((10,), batch_size=50, shuffle=False, max_iter=3).fit(x, t, weights)
    assert np.isfinite(model.loss_curve_).all()
    for targets in (t, t % 2):
        model.fit(1e6 * x, targets)
        assert np.isfinite(model.predict_log_proba(1e9 * x)).all()
        assert np.isfinite(model.loss_)


def test_a_loss_that_is_not_finite_is_told(digits):
    x, t = digits
    with pytest.raises(ValueError, match="not finite"):
        MLPClassifier((10,), solver="sgd", learning_rate_init=1e200, max_iter=5).fit(x, t)


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "hidden_layer_sizes": [0, (5, 0), (5, 2.5), "5", [True]],
        "activation": ["tanh", "softplus", None],
        "solver": ["lbfgs", 1],
        "learning_rate": ["invscaling", "adaptive"],
        "alpha": [-1, np.nan, "0"],
        "batch_size": [0, "all", 2.5],
        "learning_rate_init": [0, np.inf],
        "max_iter": [0, 1.5, True],
        "shuffle": [1, None],
        "tol": [-1e-9],
        "verbose": [-1, "yes"],
        "momentum": [1.1, -0.1],
        "validation_fraction": [1, -0.1],
        "beta_1": [1],
        "beta_2": [-0.5, [0.9]],
        "epsilon": [0],
        "n_iter_no_change": [0, np.nan],
    }.items(),
)
def test_parameters_are_refused_in_words(digits, name, values):
    for value in values:
        model = MLPClassifier(**{name: value})
        with pytest.raises(ValueError, match=rf"^{name}: expected .*, got "):
            model.fit(*digits)
        assert not hasattr(model, "coefs_")
        with pytest.raises(NotFittedError):
            model.predict(digits[0])


def test_input_is_refused_in_words(digits):
    x, t = digits
    model = MLPClassifier((5,), max_iter=1)
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        model.fit(csr_array(x), t)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.where(x > 0, x, np.nan), t)
    with pytest.raises(ValueError, match="validation_fraction: expected"):
        model.set_params(early_stopping=True, validation_fraction=0.0001).fit(x, t)
    with pytest.warns(UserWarning, match="batch_size: expected"):
        MLPClassifier((5,), max_iter=1, batch_size=1000).fit(x, t)


def test_targets_are_refused_in_words(digits):
    x, t = digits
    labels = np.stack([t % 2, t > 4], axis=1).astype(int)
    with pytest.raises(ValueError, match="several outputs"):
        MLPClassifier((5,)).fit(x, np.stack([t, t], axis=1))
    with pytest.raises(ValueError, match="continuous"):
        MLPClassifier((5,)).fit(x, t + 0.5)
    model = MLPClassifier((5,)).partial_fit(x, labels.tolist(), classes=[0, 1])
    for y in (labels[:, 0], np.hstack([labels, labels]), 2 * labels):
        with pytest.raises(ValueError, match=r"y: expected 2 labels"):
            model.partial_fit(x, y)
    with pytest.raises(ValueError, match="y: expected the classes"):
        MLPClassifier((5,)).partial_fit(x, t, classes=np.arange(10)).partial_fit(x, labels)
    sparse, dense = (
        MLPClassifier((5,), max_iter=2, random_state=0).fit(x, y)
        for y in (csr_array(labels), labels)
    )
    np.testing.assert_array_equal(sparse.predict_proba(x), dense.predict_proba(x))


@pytest.mark.parametrize("name", ["object", "str", "float", "one"])
def test_classes_of_any_type(digits, name):
    x, t = digits
    names = {
        "object": np.array(["b", "a", "longer"], object)[t % 3],
        "str": np.array(["odd", "even"])[t % 2],
        "float": np.array([1.0, -3.0, 7.0])[t % 3],
        "one": np.full(len(t), "only"),
    }[name]
    ours, reference = (
        kind((20,), max_iter=4, random_state=0).fit(x, names) for kind in (MLPClassifier, Reference)
    )
    assert_same(ours, reference)
    assert ours.predict(x).dtype == reference.predict(x).dtype
    np.testing.assert_array_equal(ours.predict(x), reference.predict(x))


def test_ctrl_c_ends_training(digits, monkeypatch):
    run, calls = Epochs.run, []

    def interrupted(self, order):
        calls.append(run(self, order))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(Epochs, "run", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        model = MLPClassifier((5,), random_state=0).fit(*digits)
    assert model.n_iter_ == 2
    assert np.isfinite(model.predict_proba(digits[0])).all()


def test_without_scikit_learn(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[:2] == ["net", "sklearn"]]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"njitnet\[sklearn\]"):
        import net.sklearn  # noqa: F401


def test_it_warns_as_scikit_learn_does(digits):
    with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
        MLPClassifier((5,), max_iter=1).fit(*digits)


# ---------------------------------------------------------------- among other estimators
def test_the_same_parameters_and_defaults():
    assert MLPClassifier().get_params() == Reference().get_params()
    options = {"hidden_layer_sizes": (3, 4), "alpha": 0.5, "random_state": 7}
    assert clone(MLPClassifier(**options)).get_params() == Reference(**options).get_params()


def test_saved_models_predict_and_go_on(digits, tmp_path):
    x, t = digits
    model = MLPClassifier((20,), max_iter=2, random_state=0, warm_start=True).fit(x, t)
    joblib.dump(model, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")  # arrays are read-only
    np.testing.assert_array_equal(mapped.predict_proba(x), model.predict_proba(x))
    assert_same(mapped.partial_fit(x, t), model.partial_fit(x, t), 0)
    assert_same(mapped.fit(x, t), model.fit(x, t), 0)


def team_size():
    with Team(num_threads()) as team:
        return team.size


@pytest.mark.parametrize(
    "backend", [pytest.param("loky", marks=pytest.mark.exhaustive), "threading"]
)
def test_workers_share_the_cores(digits, backend):
    search = GridSearchCV(
        make_pipeline(StandardScaler(), MLPClassifier((10,), max_iter=10, random_state=0)),
        {"mlpclassifier__alpha": [1e-4, 10.0], "mlpclassifier__solver": ["adam", "sgd"]},
        cv=2,
    )
    x, t = digits
    alone = clone(search).fit(x, t)
    with joblib.parallel_config(backend, n_jobs=2):
        sizes = joblib.Parallel()(joblib.delayed(team_size)() for _ in range(4))
        search.set_params(n_jobs=2).fit(x, t)
        scores = cross_val_score(search.best_estimator_, x, t, cv=2, n_jobs=2)
    assert 2 * max(sizes) <= max(2, numba.config.NUMBA_NUM_THREADS)
    assert search.best_params_ == alone.best_params_
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(search.cv_results_[name], alone.cv_results_[name])
    np.testing.assert_array_equal(scores, cross_val_score(alone.best_estimator_, x, t, cv=2))
    if backend == "loky":
        joblib.externals.loky.get_reusable_executor().shutdown()
