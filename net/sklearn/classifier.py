"""`MLPClassifier`, with the interface of scikit-learn's estimator."""

from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit, log_expit
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from kernels._arrays import Array
from kernels.mlp import CompiledNetwork
from net.sklearn.parameters import ACTIVATIONS, check_parameters
from net.sklearn.training import EpochTraining, as_writable, num_threads


# scikit-learn and SciPy have no type annotations; hence the ignored errors in this module.
class MLPClassifier(ClassifierMixin, EpochTraining):  # type: ignore[misc]
    """Multi-layer perceptron classifier with scikit-learn's interface, on compiled kernels.

    It is a replacement for ``sklearn.neural_network.MLPClassifier``. With the same `random_state`
    it draws the same initial weights and batches. The formulas are the same, so parameters and
    losses agree up to rounding.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default (100,)
        Number of units of each hidden layer.
    activation : {'relu', 'logistic', 'identity'}, default 'relu'
        Activation function of the hidden layers.
    solver : {'adam', 'sgd'}, default 'adam'
    alpha : float, default 0.0001
        Strength of the L2 penalty: ``0.5 alpha sum W^2 / n`` is added to the loss of a batch of
        ``n`` examples.
    batch_size : int or 'auto', default 'auto'
        'auto' is 200, or the number of examples if that is less.
    learning_rate : {'constant'}, default 'constant'
    learning_rate_init : float, default 0.001
    power_t : float, default 0.5
        Not used. Accepted for compatibility with scikit-learn, as is `max_fun`.
    max_iter : int, default 200
        Maximum number of epochs.
    shuffle : bool, default True
        Whether to shuffle the examples before each epoch.
    random_state : int, RandomState or None, default None
    tol : float, default 1e-4
        Training ends when the loss, or the validation score with `early_stopping`, has not
        improved by `tol` for more than `n_iter_no_change` epochs.
    verbose : bool, default False
        Whether to print the loss of each epoch.
    warm_start : bool, default False
        Whether `fit` starts from the parameters of the previous call.
    momentum : float, default 0.9
        Momentum of the solver 'sgd'.
    nesterovs_momentum : bool, default True
        Whether the solver 'sgd' uses Nesterov's momentum.
    early_stopping : bool, default False
        Whether to set aside a part of the training set for validation, end training by the
        validation score, and keep the parameters of the best score.
    validation_fraction : float, default 0.1
        Fraction of the training set that is set aside for validation.
    beta_1, beta_2, epsilon : float, default 0.9, 0.999 and 1e-8
        Parameters of the solver 'adam'.
    n_iter_no_change : int or inf, default 10
    max_fun : int, default 15000
        Not used.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    coefs_ : list of ndarray
        Weights, shapes ``(n_features, M1), (M1, M2) ...``. With two classes, the last layer has
        one logistic output.
    intercepts_ : list of ndarray
        Biases, shapes ``(M1,), (M2,) ...``.
    loss_ : float
        Loss of the last epoch.
    loss_curve_ : list of float
        Mean loss of each epoch; the loss of a batch is computed before its update.
    best_loss_ : float or None
        Smallest loss; None with `early_stopping`.
    validation_scores_ : list of float or None
        Validation accuracy after each epoch; None without `early_stopping`.
    best_validation_score_ : float or None
        None without `early_stopping`.
    n_iter_ : int
        Number of epochs.
    t_ : int
        Number of training examples seen, each counted once per epoch.
    n_layers_ : int
        Number of layers of units, including the input: one more than ``len(coefs_)``.
    n_outputs_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray, shape (n_features,)
        Defined if `X` has feature names that are strings.
    out_activation_ : {'softmax', 'logistic'}

    Notes
    -----
    `fit` checks the parameters and raises ValueError if one is out of range or not supported.
    float32 input is trained in float32, any other dtype in float64. Sparse matrices are not
    supported. `y` may be an indicator matrix of 0 and 1 (multilabel classification).

    The loss is computed by log-sum-exp and is not clipped. Where a probability rounds to 0, it is
    larger than the loss of scikit-learn, which clips probabilities at the epsilon of the dtype.
    The gradients do not differ.

    `fit` chooses its number of threads by timing; the result does not depend on it. In a worker
    of a pool, as started by joblib, it uses one thread or the number of threads that joblib sets.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from net.sklearn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MLPClassifier((20,), learning_rate_init=0.03, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), classifier).fit(X, y)
    >>> bool(pipeline.score(X, y) > 0.95)
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train until the loss or the validation score stops improving, or for `max_iter` epochs.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        y : array-like, shape (n_samples,) or (n_samples, n_labels)
        sample_weight : array-like, shape (n_samples,), optional

        Returns
        -------
        self : MLPClassifier

        Raises
        ------
        ValueError
            If a parameter, `X` or `y` is invalid, or the trained parameters are not finite.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train one epoch, starting from the current parameters and optimizer state.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array-like, shape (n_classes,), optional
            All classes; required in the first call.

        Returns
        -------
        self : MLPClassifier

        Raises
        ------
        ValueError
            As for `fit`, and if `early_stopping` is set.
        """
        if not hasattr(self, "classes_"):
            if classes is None:
                raise ValueError("classes: expected all classes in the first call, got None")
            self._set_classes(y if type_of_target(y).startswith("multilabel") else classes)
        elif classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(
                f"classes: expected those of the first call, {self.classes_}, got {classes}"
            )
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """Return the most probable class of each example.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples,) or (n_samples, n_labels)
        """
        check_is_fitted(self)
        codes = self._predict_codes(self._validate_x(X))
        return codes if self._multilabel else self.classes_[codes]

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, in the order of `classes_`.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
            For multilabel classification, the probability of each label.
        """
        z = self._logits(X)
        if self.out_activation_ == "logistic":
            return expit(z)  # type: ignore[no-any-return]
        # NumPy: compiling `kernels.softmax` takes seconds, and nothing else here uses it.
        y: Array = np.exp(z - z.max(axis=1, keepdims=True))
        y /= y.sum(axis=1, keepdims=True)
        return y

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of `predict_proba`, finite even if a probability rounds to 0.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
        """
        z = self._logits(X)
        if self.out_activation_ == "logistic":
            return log_expit(z)  # type: ignore[no-any-return]
        y: Array = z - z.max(axis=1, keepdims=True)
        y -= np.log(np.exp(y).sum(axis=1, keepdims=True))
        return y

    def _logits(self, X: Any) -> Array:
        """Return a column of logits for each class or label; ``-z`` and ``z`` for two classes."""
        check_is_fitted(self)
        z = self._outputs(self._validate_x(X))
        return np.hstack([-z, z]) if self.n_outputs_ == 1 else z

    def _validate_x(self, X: Any) -> Array:
        x: Array = validate_data(self, X, dtype=self.coefs_[0].dtype, reset=False)
        return x

    def _outputs(self, X: Array) -> Array:
        W, b = map(as_writable, self._parameters())
        return CompiledNetwork(W, b, self._activations).logits(X, num_threads())

    def _parameters(self) -> tuple[list[Array], list[Array]]:
        return self.coefs_, self.intercepts_

    def _predict_codes(self, X: Array) -> Array:
        z = self._outputs(X)
        if self._multilabel:
            return (z > 0).astype(np.int64)
        codes: Array = z.argmax(axis=1) if self.out_activation_ == "softmax" else z[:, 0] > 0
        return np.minimum(codes, len(self.classes_) - 1)  # if there is only one class

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Self:
        check_parameters(self)
        if incremental and self.early_stopping:
            raise ValueError("early_stopping: expected False for partial_fit, got True")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        dtype = (np.float64, np.float32) if first else self.coefs_[0].dtype
        X, y = validate_data(self, X, y, multi_output=True, dtype=dtype, reset=first)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if issparse(y):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._set_classes(y)
        codes = self._encode(y)
        classes = len(self.classes_)
        outputs = classes if self._multilabel or classes > 2 else 1
        self._random_state = check_random_state(self.random_state)
        sizes = [X.shape[1], *np.atleast_1d(self.hidden_layer_sizes).tolist(), outputs]
        if first:
            self.out_activation_ = "logistic" if self._multilabel or classes <= 2 else "softmax"
            self._initialize(sizes, X.dtype)
        elif [X.shape[1], *(W.shape[1] for W in self.coefs_)] != sizes:
            before = [W.shape[1] for W in self.coefs_[:-1]]
            raise ValueError(
                f"hidden_layer_sizes: expected {before}, as in the first fit, got {sizes[1:-1]}"
            )
        self._activations = [ACTIVATIONS[self.activation]] * (len(sizes) - 2)
        self._train(X, codes, sample_weight, incremental)
        if not all(np.isfinite(a).all() for part in self._parameters() for a in part):
            raise ValueError(
                "expected a loss that falls, got parameters that are not finite: scale the input, "
                "or choose a smaller learning_rate_init"
            )
        return self

    def _set_classes(self, y: Any) -> None:
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise ValueError("y: expected one class or labels of 0 and 1, got several outputs")
        self._multilabel = kind == "multilabel-indicator"
        self.classes_ = np.arange(np.shape(y)[1]) if self._multilabel else unique_labels(y)

    def _encode(self, y: Array) -> Array:
        """Return the index of each example's class, or the label matrix."""
        if self._multilabel:
            if y.shape[1:] != self.classes_.shape or not ((y == 0) | (y == 1)).all():
                raise ValueError(
                    f"y: expected {len(self.classes_)} labels of 0 and 1, got shape {y.shape}"
                )
            return y
        if y.ndim > 1:
            raise ValueError(f"y: expected the classes of the first fit, got shape {y.shape}")
        codes = np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)
        unknown = self.classes_[codes] != y
        if unknown.any() or (self.warm_start and len(np.unique(codes)) < len(self.classes_)):
            raise ValueError(
                f"y: expected the classes of the first fit, {self.classes_}, got {np.unique(y)}"
            )
        return codes
