"""`MLPClassifier`: what scikit-learn's users call."""

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


# scikit-learn and SciPy have no types: what is ignored in this module.
class MLPClassifier(ClassifierMixin, EpochTraining):  # type: ignore[misc]
    """scikit-learn's multi-layer perceptron for classification, on compiled kernels.

    It takes the place of ``sklearn.neural_network.MLPClassifier``: from the same `random_state`
    it draws the same initial weights and batches, and its formulas are the same, so that
    parameters and losses are, to rounding.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default (100,)
    activation : {'relu', 'logistic', 'identity'}, default 'relu'
        Of the hidden layers.
    solver : {'adam', 'sgd'}, default 'adam'
    alpha : float, default 0.0001
        Adds ``0.5 alpha sum W^2 / n`` to the loss of a batch of ``n`` examples.
    batch_size : int or 'auto', default 'auto'
        'auto' is 200, or the number of examples if that is less.
    learning_rate : {'constant'}, default 'constant'
    learning_rate_init : float, default 0.001
    power_t : float, default 0.5
        Not used; so that scikit-learn's parameters can be passed, as `max_fun`.
    max_iter : int, default 200
        The largest number of epochs.
    shuffle : bool, default True
        Whether to shuffle the examples before each epoch.
    random_state : int, RandomState or None, default None
    tol : float, default 1e-4
        Training ends when the loss, or the validation score with `early_stopping`, has not got
        better by `tol` for more than `n_iter_no_change` epochs.
    verbose : bool, default False
        Whether to print the loss of each epoch.
    warm_start : bool, default False
        Whether `fit` goes on from the parameters of the previous one.
    momentum : float, default 0.9
        For 'sgd'.
    nesterovs_momentum : bool, default True
        For 'sgd'.
    early_stopping : bool, default False
        Whether to keep the parameters of the best score on a part of the training set, which is
        not trained on, and end by that score.
    validation_fraction : float, default 0.1
        The size of that part.
    beta_1, beta_2, epsilon : float, default 0.9, 0.999 and 1e-8
        For 'adam'.
    n_iter_no_change : int or inf, default 10
    max_fun : int, default 15000
        Not used.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    coefs_ : list of ndarray
        Weights, shapes ``(n_features, M1), (M1, M2) ...``; of two classes, the last layer has one
        logistic output.
    intercepts_ : list of ndarray
        Biases, shapes ``(M1,), (M2,) ...``.
    loss_ : float
        Of the last epoch.
    loss_curve_ : list of float
        Mean loss of each epoch, each batch's before its update.
    best_loss_ : float or None
        None with `early_stopping`.
    validation_scores_ : list of float or None
        Accuracy after each epoch; None without `early_stopping`.
    best_validation_score_ : float or None
    n_iter_ : int
        Number of epochs.
    t_ : int
        Number of examples that were trained on, each counted once in each epoch.
    n_layers_ : int
        Those of units: one more than of weights.
    n_outputs_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray, shape (n_features,)
        Where `X` has names of type str.
    out_activation_ : {'softmax', 'logistic'}

    Notes
    -----
    Parameters are checked by `fit`, which raises ValueError where one is out of range or has no
    meaning here. float32 input is trained in float32, all other in float64. Sparse matrices are
    refused. `y` may be a matrix of 0 and 1, of several labels for each example.

    The loss is the logarithm of the sum of exponentials, without a bound: where a probability
    rounds to 0 it is larger than scikit-learn's, which takes the logarithm of no less than the
    dtype's epsilon. Gradients do not differ.

    `fit` chooses its number of threads by timing, and the result does not depend on it. In a
    worker of a pool, as joblib starts them, it uses one thread, or those that joblib allots.

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
        """Train until the loss or the validation score stands still, or for `max_iter` epochs.

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
            If a parameter, `X` or `y` is not as expected, or training ends in parameters that are
            not finite.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train one epoch, going on from the parameters and the optimizer's state.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array-like, shape (n_classes,), optional
            All classes that there will be; needed in the first call.

        Returns
        -------
        self : MLPClassifier

        Raises
        ------
        ValueError
            As for `fit`, and with `early_stopping`.
        """
        if not hasattr(self, "classes_"):
            if classes is None:
                raise ValueError("classes: expected all classes in the first call, got None")
            self._set_classes(y if type_of_target(y).startswith("multilabel") else classes)
        elif classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(f"classes: expected those of before, {self.classes_}, got {classes}")
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
            Of several labels, the probability of each label.
        """
        z = self._logits(X)
        if self.out_activation_ == "logistic":
            return expit(z)  # type: ignore[no-any-return]
        # In NumPy: `kernels.softmax` would be compiled for this alone, for seconds.
        y: Array = np.exp(z - z.max(axis=1, keepdims=True))
        y /= y.sum(axis=1, keepdims=True)
        return y

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of `predict_proba`, finite where a probability rounds to 0, too.

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
        """Compute a column for each class or label; of two classes -z and z."""
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
        return np.minimum(codes, len(self.classes_) - 1)  # where there is only one class

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
            raise ValueError(f"hidden_layer_sizes: expected {before}, as before, got {sizes[1:-1]}")
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
        """Return the number of each example's class, or its labels."""
        if self._multilabel:
            if y.shape[1:] != self.classes_.shape or not ((y == 0) | (y == 1)).all():
                raise ValueError(
                    f"y: expected {len(self.classes_)} labels of 0 and 1, got shape {y.shape}"
                )
            return y
        if y.ndim > 1:
            raise ValueError(f"y: expected the classes of before, got shape {y.shape}")
        codes = np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)
        unknown = self.classes_[codes] != y
        if unknown.any() or (self.warm_start and len(np.unique(codes)) < len(self.classes_)):
            raise ValueError(
                f"y: expected the classes of before, {self.classes_}, got {np.unique(y)}"
            )
        return codes
