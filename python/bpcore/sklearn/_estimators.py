"""The estimators: what scikit-learn's have, with the same results, and what theirs lack."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from scipy.special import expit, logit, logsumexp
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import validate_data

from bpcore import _validation
from bpcore._validation import Array, Floats

from ._base import BaseMLP, has_steps
from ._explain import Explained
from ._losses import REGRESSION, reported


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """scikit-learn's ``MLPClassifier``, computed by this package: the same results, sooner, and more to choose from.

    With the parameters that scikit-learn has, ``fit`` draws the same numbers and takes the same steps as its namesake.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default (100,)
        Units of each hidden layer; ``()`` for none.
    activation : str or sequence of str, default "relu"
        Of the hidden layers: identity, logistic (or sigmoid), tanh, relu, as in scikit-learn, or leaky_relu, elu,
        softplus, silu, gelu; one name for all, or a sequence with one for each.
    solver : {"adam", "sgd", "lbfgs"}, default "adam"
        lbfgs is SciPy's L-BFGS-B on all rows at once.
    alpha : float, default 0.0001
        Weight of the penalty ``alpha/2`` times the squares of the weights, which is divided by the rows of the batch
        (the sum of their weights).
    batch_size : int or "auto", default "auto"
        Rows of a mini-batch; auto: 200, or all if they are fewer.
    learning_rate : str or callable, default "constant"
        With sgd also invscaling (``learning_rate_init / (t + 1)^power_t`` after an epoch, t rows seen) and adaptive (a
        fifth of it whenever ``n_iter_no_change`` epochs in turn were no better, until 1e-6), which scikit-learn has.
        With sgd and adam alike: cosine (to 0), one_cycle (up from 1/25 in the first 0.3 of the steps, then down to
        4e-6), step (a tenth of it after each third), each over ``max_iter`` epochs; plateau, which is adaptive for
        both; or a function of the step, counted from 0 in each ``fit``, that returns the rate. Calls of
        ``partial_fit`` go on counting, as epochs of one schedule.
    learning_rate_init : float, default 0.001
    power_t : float, default 0.5
    max_iter : int, default 200
        Epochs; with lbfgs iterations.
    shuffle : bool, default True
        Whether each epoch takes the rows in a new order.
    random_state : int, RandomState or None, default None
        For weights, order of the rows and held-out rows.
    tol : float, default 1e-4
        What an epoch must gain to count as better.
    verbose : bool, default False
        Print the loss of each epoch.
    warm_start : bool, default False
        Whether ``fit`` goes on from the weights of the fit before.
    momentum : float, default 0.9
        Of sgd.
    nesterovs_momentum : bool, default True
    early_stopping : bool, default False
        Hold out ``validation_fraction`` of the rows, stop when their score is no better for ``n_iter_no_change``
        epochs, and return to the best weights. Of no effect with lbfgs and lm.
    validation_fraction : float, default 0.1
    beta_1, beta_2, epsilon : float, default 0.9, 0.999 and 1e-8
        Of adam, with epsilon as scikit-learn has it.
    n_iter_no_change : int or infinity, default 10
    max_fun : int, default 15000
        Evaluations of lbfgs.
    loss : {"log_loss", "focal"}, default "log_loss"
        focal is ``-(1 - p)^gamma log p`` of the right class, for two classes or for labels.
    gamma : float, default 2.0
        Of the focal loss.
    label_smoothing : float, default 0.0
        Of more than two classes: this part of each target is spread over the classes.
    class_weight : dict, "balanced", list of dict or None, default None
        Weights of classes (a list: for each label those of 0 and 1), by which sample weights are multiplied; balanced:
        by the inverse of their numbers of rows.
    l1 : float, default 0.0
        Weight of the penalty of the weights' absolute values, divided as ``alpha`` is. After each step the weights are
        brought nearer to 0 by ``rate * l1``, divided likewise: some become exactly 0. For sgd and adam.
    weight_decay : float, default 0.0
        Before each step, the weights are multiplied by ``1 - rate * weight_decay`` (with adam this is AdamW). Biases
        are not. For sgd and adam.
    clip_norm : float or None, default None
        Gradients of a step that are longer than this are scaled down to it. For sgd and adam.
    scoring : str, callable or None, default None
        What early stopping scores by, as in ``cross_val_score``; None: accuracy. It is called with arrays, not frames.
    callbacks : callable or list of callable, default None
        Called with the estimator after each epoch (of each member); training ends if one returns a true value.
    progress : bool, default False
        Show a progress bar; needs the package tqdm.
    dtype : {None, "float32", "float64"}, default None
        Of the whole computation; None: that of X if it is one of these, otherwise float64, as in scikit-learn.
    n_members : int, default 1
        Train so many networks, which begin with other weights; predictions are their means.
    threads : int or None, default None
        At most so many threads; None: those of the machine, or of OMP_NUM_THREADS if fewer. Results do not depend on
        it.

    Attributes
    ----------
    classes_ : ndarray, or a list of them
    coefs_, intercepts_ : list of ndarray
        Weights, of shape ``(n_in, n_out)``, and biases of each layer, which may be changed in place.
    loss_, best_loss_ : float
        The loss of the last epoch, and the least one; ``best_loss_`` is None with early stopping, and missing with
        lbfgs and lm.
    loss_curve_ : list of float
        Of each epoch (not with lbfgs and lm).
    validation_scores_ : list of float or None
        With early stopping, the score after each epoch.
    best_validation_score_ : float or None
    n_iter_, n_layers_, n_outputs_, n_features_in_ : int
    t_ : int
        Rows seen in training.
    out_activation_ : str
    feature_names_in_ : ndarray
        Names of columns, if X had them, all strings.
    estimators_ : list of MLPClassifier
        The networks, if ``n_members`` is more than 1; weights and records of epochs are theirs then, ``loss_`` is the
        mean of theirs and ``n_iter_`` the largest.

    Raises
    ------
    TypeError, ValueError
        In ``fit``, if a parameter is of the wrong kind or out of range, or the data are; the message names it.

    References
    ----------
    F. Pedregosa et al. (2011), JMLR 12:2825-2830. I. Loshchilov and F. Hutter (2019), arXiv:1711.05101 (weight decay).
    T.-Y. Lin et al. (2017), arXiv:1708.02002 (focal).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from bpcore.sklearn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier((16,), solver="lbfgs", alpha=1, max_iter=1000, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    >>> model.predict_proba(X[:1]).argmax()
    np.int64(0)
    """

    _losses = ("log_loss", "focal")
    _default_score = staticmethod(accuracy_score)

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        loss: str = "log_loss",
        gamma: float = 2.0,
        label_smoothing: float = 0.0,
        class_weight: Any = None,
        l1: float = 0.0,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        scoring: Any = None,
        callbacks: Any = None,
        progress: bool = False,
        dtype: Any = None,
        n_members: int = 1,
        threads: int | None = None,
    ) -> None:
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
        self.loss = loss
        self.gamma = gamma
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.l1 = l1
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.scoring = scoring
        self.callbacks = callbacks
        self.progress = progress
        self.dtype = dtype
        self.n_members = n_members
        self.threads = threads

    def _check_parameters(self) -> None:
        super()._check_parameters()
        _validation.check_scalar("gamma", self.gamma)
        _validation.check_scalar("label_smoothing", self.label_smoothing, high=1.0, below=True)
        weight = self.class_weight
        dicts = weight if isinstance(weight, list) else [weight]  # of several labels, one for each
        if weight is not None and weight != "balanced" and not all(isinstance(given, dict) for given in dicts):
            raise TypeError(
                f"class_weight must be a dict (of labels, a list of them), 'balanced' or None, got {weight!r}"
            )
        for given in dicts if isinstance(dicts[0], dict) else ():
            for label, value in given.items():
                _validation.check_scalar(f"class_weight[{label!r}]", value)

    def _network_loss(self) -> tuple[str, str]:
        if self.out_activation_ == "softmax":
            return "cross_entropy", "softmax"
        return ("focal" if self.loss == "focal" else "binary_cross_entropy"), "sigmoid"

    def _loss_options(self) -> dict[str, float]:
        if self.out_activation_ == "softmax":
            if self.loss == "focal":
                raise ValueError("loss='focal' needs two classes or labels, got more than two classes")
            return {"label_smoothing": self.label_smoothing}
        if self.label_smoothing:
            raise ValueError(f"label_smoothing needs more than two classes, got {len(self.classes_)}")
        return {"gamma": self.gamma} if self.loss == "focal" else {}

    def _validate(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        with Explained(X, y):
            X, y = validate_data(
                self, X, y, accept_sparse=["csr", "csc"], multi_output=True, dtype=(np.float64, np.float32), reset=reset
            )
        if hasattr(y, "toarray"):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
            return X, y
        classes = unique_labels(y)
        if self.warm_start and not incremental:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )
        return X, y

    def _class_weights(self, y: Array, weights: Any) -> Any:
        if self.class_weight is None:
            return weights
        try:
            by_class = compute_sample_weight(self.class_weight, y)
        except (TypeError, ValueError) as error:
            raise type(error)(f"class_weight: {error}") from error
        return by_class if weights is None else by_class * weights

    def _targets(self, y: Array) -> Array:
        """Labels of more than two classes, else a matrix of 0 and 1."""
        kind = self._label_binarizer.y_type_
        self.out_activation_ = "softmax" if kind == "multiclass" else "logistic"
        if kind == "multiclass":
            self.n_outputs_ = len(self.classes_)
            return np.searchsorted(self.classes_, y).astype(np.int64)
        targets: Array = np.asarray(self._label_binarizer.transform(y), dtype=np.float64)
        targets = targets.reshape(len(targets), -1)
        self.n_outputs_ = targets.shape[1]
        return targets

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on rows and their classes.

        Parameters
        ----------
        X : array_like, frame or sparse matrix of shape (m, n_features)
            Batches of a sparse matrix are made dense one at a time, and the whole of it with lbfgs.
        y : array_like of shape (m,), or (m, n_labels) of 0 and 1
        sample_weight : array_like of shape (m,), optional
            Not negative.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter, X, y or sample_weight is wrong, or if the weights end up not finite.
        """
        return self._fit(X, y, sample_weight)

    @available_if(has_steps)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """One epoch over these rows, from the weights that there are.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.
        classes : array_like, optional
            All classes that will come; needed in the first call.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, True, classes)

    def _check_classes(self, y: Any, classes: Any) -> None:
        """The classes that :meth:`partial_fit` learns, from its first call; refuses others later."""
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not for partial_fit, which does not know all rows; take "
                "sklearn.utils.class_weight.compute_class_weight('balanced', classes=classes, y=y) as a dict"
            )
        if not hasattr(self, "classes_"):
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
            self.classes_ = self._label_binarizer.classes_
        elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {self.classes_!r}"
            )

    def _predict(self, X: Any) -> Array:
        outputs = self._forward(X)
        binarizer = self._label_binarizer
        predicted: Array = binarizer.inverse_transform(outputs.ravel() if outputs.shape[1] == 1 else outputs)
        return predicted

    def predict(self, X: Any) -> Array:
        """The class of each row.

        Parameters
        ----------
        X : array_like, frame or sparse matrix of shape (m, n_features)

        Returns
        -------
        y : ndarray of shape (m,), or (m, n_labels) of 0 and 1
        """
        return self._predict(self._validated_inputs(X))

    def predict_proba(self, X: Any, return_std: bool = False) -> Any:
        """The probability of each class, or label.

        Parameters
        ----------
        X : array_like, frame or sparse matrix of shape (m, n_features)
        return_std : bool, default False
            Return the standard deviation over the members as well; needs ``n_members`` > 1.

        Returns
        -------
        probabilities : ndarray of shape (m, n_classes)
            In the order of ``classes_``.
        std : ndarray of the same shape
            If ``return_std``.
        """
        X = self._validated_inputs(X)
        members = _members(self) if return_std else getattr(self, "estimators_", [self])
        each = np.stack([member._probabilities(X) for member in members])
        return (each.mean(axis=0), each.std(axis=0)) if return_std else each.mean(axis=0)

    def _probabilities(self, X: Any) -> Floats:
        if self.n_outputs_ > 1:
            return self._forward(X)
        z = self._forward(X, logits=True)  # 1 - p would be 0 where p is rounded to 1
        return expit(np.concatenate([-z, z], axis=1))  # type: ignore[no-any-return]

    def predict_log_proba(self, X: Any) -> Floats:
        """The logarithm of the probabilities; of classes from the logits, finite where a probability underflows to 0.

        Parameters
        ----------
        X : array_like, frame or sparse matrix of shape (m, n_features)

        Returns
        -------
        log_probabilities : ndarray of shape (m, n_classes)
        """
        return self._log_probabilities(self._validated_inputs(X))

    def _log_probabilities(self, X: Any) -> Floats:
        if hasattr(self, "estimators_"):
            each = np.stack([member._log_probabilities(X) for member in self.estimators_])
            return logsumexp(each, axis=0) - math.log(len(each))  # type: ignore[no-any-return]
        if self.out_activation_ == "logistic" and self.n_outputs_ > 1:
            # Labels whose probabilities are both rounded to 1 shall be equal here, too.
            with np.errstate(divide="ignore"):
                logs: Floats = np.log(self._forward(X))
            return logs
        z = self._forward(X, logits=True)
        if self.out_activation_ == "softmax":
            logs = z - z.max(axis=1, keepdims=True)
            logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
        else:
            logs = -np.logaddexp(0, np.concatenate([z, -z], axis=1))
        return logs

    def decision_function(self, X: Any) -> Floats:
        """What the probabilities are made of, comparable from row to row; scikit-learn's has no such method.

        Parameters
        ----------
        X : array_like, frame or sparse matrix of shape (m, n_features)

        Returns
        -------
        decisions : ndarray of shape (m,) for two classes, else (m, n_outputs)
            Of two classes and of labels the logit of the (second's) probability, positive where it is predicted; of
            more classes the logarithm of each one's probability. With ``n_members`` > 1 of the mean probabilities.
        """
        X = self._validated_inputs(X)
        if self.out_activation_ == "logistic" and self.n_outputs_ > 1:
            return self._forward(X, logits=True) if not hasattr(self, "estimators_") else logit(self._forward(X))
        logs = self._log_probabilities(X)
        return logs[:, 1] - logs[:, 0] if self.n_outputs_ == 1 else logs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """scikit-learn's ``MLPRegressor``, computed by this package: the same results, sooner, and more to choose from.

    Parameters
    ----------
    loss : str, default "squared_error"
        squared_error and poisson, as in scikit-learn, or huber, absolute_error, quantile, gamma, tweedie, as in
        :class:`bpcore.Network`. With those that scikit-learn lacks, the outputs begin at the best constant: the median,
        the quantile, the mean.
    solver : {"adam", "sgd", "lbfgs", "lm"}, default "adam"
        lm: Levenberg-Marquardt, for squared_error and small networks, of up to 11,585 parameters: its time grows with
        their cube, its memory with their square and not with the rows. It ends when an iteration gains less than
        ``tol/10`` of the loss.
    delta, quantile, power : float, default 1.0, 0.5 and 1.5
        The parameters of huber (> 0), quantile (between 0 and 1) and tweedie (between 1 and 2).
    hidden_layer_sizes, activation, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, \
shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, validation_fraction, \
beta_1, beta_2, epsilon, n_iter_no_change, max_fun, l1, weight_decay, clip_norm, scoring, callbacks, progress, dtype, \
n_members, threads
        As in :class:`MLPClassifier`; ``scoring`` is R2 by default.

    Attributes
    ----------
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_, n_iter_, \
n_layers_, n_outputs_, n_features_in_, t_, out_activation_, feature_names_in_, estimators_
        As in :class:`MLPClassifier`. As in scikit-learn, losses are means over the outputs, but for poisson (and gamma
        and tweedie), which are sums of half the deviance; what is minimised is always the sum.

    Raises
    ------
    TypeError, ValueError
        In ``fit``, if a parameter is of the wrong kind or out of range, or the data are; the message names it.

    Examples
    --------
    >>> from bpcore.sklearn import MLPRegressor
    >>> x = np.linspace(0, 3, 50)[:, None]
    >>> model = MLPRegressor(hidden_layer_sizes=8, activation="tanh", solver="lm", max_iter=1000, random_state=0)
    >>> model.fit(x, np.sin(2 * x[:, 0])).score(x, np.sin(2 * x[:, 0])) > 0.999
    True
    """

    _losses = tuple(REGRESSION)
    _solvers = (*BaseMLP._solvers, "lm")
    _default_score = staticmethod(r2_score)

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        delta: float = 1.0,
        quantile: float = 0.5,
        power: float = 1.5,
        l1: float = 0.0,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        scoring: Any = None,
        callbacks: Any = None,
        progress: bool = False,
        dtype: Any = None,
        n_members: int = 1,
        threads: int | None = None,
    ) -> None:
        self.loss = loss
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
        self.delta = delta
        self.quantile = quantile
        self.power = power
        self.l1 = l1
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.scoring = scoring
        self.callbacks = callbacks
        self.progress = progress
        self.dtype = dtype
        self.n_members = n_members
        self.threads = threads

    def _network_loss(self) -> tuple[str, str]:
        return self.loss, REGRESSION[self.loss].output

    def _loss_options(self) -> dict[str, float]:
        option = REGRESSION[self.loss].option
        return {} if option is None else {option: getattr(self, option)}

    def _reported(self) -> Any:
        return reported(REGRESSION[self.loss], self.n_outputs_, self._parameter())

    def _validate(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        with Explained(X, y):
            X, y = validate_data(
                self, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=True,
                dtype=(np.float64, np.float32), reset=reset,
            )  # fmt: skip
        if hasattr(y, "toarray"):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if y.dtype.kind not in "fiub":
            place = next(place for place, value in np.ndenumerate(y) if isinstance(value, str))
            raise ValueError(f"y must be numbers, got {str(y[place])!r} in row {place[0]}; MLPClassifier takes classes")
        loss = REGRESSION[self.loss]
        wrong = np.argwhere(y <= loss.low if loss.strict else y < loss.low)
        if len(wrong):
            place = tuple(wrong[0])
            column = f", column {place[1]}" if y.ndim == 2 else ""
            must = f"{'>' if loss.strict else '>='} {loss.low:g}"
            raise ValueError(f"y must be {must} for loss={self.loss!r}, got {y[place]} in row {place[0]}{column}")
        return X, y

    def _class_weights(self, y: Array, weights: Any) -> Any:
        return weights

    def _targets(self, y: Array) -> Array:
        """A matrix."""
        targets = y.reshape(len(y), -1)
        output = REGRESSION[self.loss].output
        self.n_outputs_, self.out_activation_ = targets.shape[1], output
        return targets

    def _start_outputs(self, y: Array, weights: Floats | None) -> None:
        loss = REGRESSION[self.loss]
        if loss.start is not None:
            self.intercepts_[-1][...] = loss.start(y, weights, self._parameter())

    def _parameter(self) -> float | None:
        option = REGRESSION[self.loss].option
        return None if option is None else float(getattr(self, option))

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on rows and their targets.

        Parameters
        ----------
        X : array_like, frame or sparse matrix of shape (m, n_features)
            Batches of a sparse matrix are made dense one at a time, and the whole of it with lbfgs and lm.
        y : array_like of shape (m,) or (m, n_outputs)
            Not negative for poisson and tweedie, positive for gamma.
        sample_weight : array_like of shape (m,), optional
            Not negative.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter, X, y or sample_weight is wrong, or if the weights end up not finite.
        """
        return self._fit(X, y, sample_weight)

    @available_if(has_steps)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One epoch over these rows, from the weights that there are.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, True)

    def _predict(self, X: Any) -> Floats:
        outputs = self._forward(X)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The outputs of each row.

        Parameters
        ----------
        X : array_like, frame or sparse matrix of shape (m, n_features)
        return_std : bool, default False
            Return the standard deviation over the members as well; needs ``n_members`` > 1.

        Returns
        -------
        y : ndarray of shape (m,) or (m, n_outputs)
        std : ndarray of the same shape
            If ``return_std``.
        """
        X = self._validated_inputs(X)
        if return_std:
            each = np.stack([member._predict(X) for member in _members(self)])
            return each.mean(axis=0), each.std(axis=0)
        return self._predict(X)


def _members(estimator: Any) -> Any:
    if not hasattr(estimator, "estimators_"):
        raise ValueError("return_std=True needs several networks: fit with n_members > 1")
    return estimator.estimators_
