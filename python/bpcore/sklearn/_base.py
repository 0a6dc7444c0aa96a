"""What the two estimators share: parameters, fitting and its records, weights, and the forward pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import scipy.optimize
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from bpcore import _validation
from bpcore._validation import Array, Floats
from bpcore.architecture import ACTIVATIONS
from bpcore.network import Network
from bpcore.training import progress_bar

from ._epochs import SCHEDULES, Epochs, Penalties, Rows, _Adam, _Descent
from ._explain import Explained, checked_weights
from ._least_squares import MAX_PARAMETERS, LeastSquares, minimize

STOCHASTIC = ("sgd", "adam")
#: Parameters in which the networks of an ensemble differ from it.
OWN_OF_MEMBERS = ("n_members", "random_state")
#: Their name of an activation, and ours.
NAMES = {"logistic": "sigmoid"}


def check_choice(name: str, value: object, choices: tuple[str, ...], more: str = "") -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}{more}, got {value!r}")


class BaseMLP(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: parameters, fitting and the attributes of it.

    The weights are one flat vector, ``_flat``, which the network computes with; ``coefs_`` and ``intercepts_`` are
    views of it. After pickling, or where a user has put other arrays in their place, it is made again from them.
    """

    _losses: tuple[str, ...]
    _solvers: tuple[str, ...] = (*STOCHASTIC, "lbfgs")
    _default_score: Any
    coefs_: list[Any]
    intercepts_: list[Any]
    estimators_: list[Any]
    best_loss_: Any
    best_validation_score_: Any
    _flat: Floats
    _best: Floats | None
    _net: Network
    _optimizer: Any

    # ---------------------------------------------------------------------------------------------------- parameters

    def _check_parameters(self) -> None:
        """Raise unless all are of the right kind and in range; an error names the parameter."""
        scalar, integer = _validation.check_scalar, _validation.check_int
        for name in ("alpha", "power_t", "tol", "l1", "weight_decay"):
            scalar(name, getattr(self, name))
        for name in ("learning_rate_init", "epsilon"):
            scalar(name, getattr(self, name), strict=True)
        for name in ("beta_1", "beta_2", "validation_fraction"):
            scalar(name, getattr(self, name), high=1.0, below=True)
        scalar("momentum", self.momentum, high=1.0)
        if self.clip_norm is not None:
            scalar("clip_norm", self.clip_norm, strict=True)
        for name in ("max_iter", "max_fun", "n_members"):
            integer(name, getattr(self, name), 1)
        if self.threads is not None:
            integer("threads", self.threads, 1)
        if self.n_iter_no_change != np.inf:
            integer("n_iter_no_change", self.n_iter_no_change, 1)
        for name in ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping", "progress"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if not isinstance(self.verbose, (bool, np.bool_)):
            integer("verbose", self.verbose, 0)
        try:
            check_random_state(self.random_state)
        except ValueError as error:
            raise ValueError(f"random_state: {error}") from None
        if self.batch_size != "auto":
            integer("batch_size", self.batch_size, 1)
        check_choice("solver", self.solver, self._solvers)
        if not callable(self.learning_rate):
            theirs = ("constant", "invscaling", "adaptive")
            check_choice("learning_rate", self.learning_rate, (*theirs, *SCHEDULES, "plateau"), " or a function")
        check_choice("loss", self.loss, self._losses)
        if self.dtype is not None and self.dtype not in ("float32", "float64", np.float32, np.float64):
            raise ValueError(f"dtype must be None, 'float32' or 'float64', got {self.dtype!r}")
        if self.early_stopping and not self.validation_fraction:
            raise ValueError("validation_fraction must be > 0 with early_stopping, got 0")
        if self.scoring is not None:
            if not isinstance(self.scoring, str) and not callable(self.scoring):
                raise TypeError(f"scoring must be a scorer's name, a function or None, got {self.scoring!r}")
            check_scoring(self, self.scoring)
        for callback in self._callbacks():
            if not callable(callback):
                raise TypeError(f"callbacks must be functions of the estimator, got {callback!r}")
        if self.solver not in STOCHASTIC:
            for name in ("l1", "weight_decay", "clip_norm"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs solver='adam' or 'sgd', got solver={self.solver!r}")
        if self.solver == "lm" and self.loss != "squared_error":
            raise ValueError(
                f"solver='lm' needs loss='squared_error', as it solves least squares, got {self.loss!r}; take 'lbfgs'"
            )
        self._hidden_sizes()
        self._hidden_activations()

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(isinstance(size, (bool, np.bool_)) or not isinstance(size, (int, np.integer)) for size in sizes):
            raise TypeError(f"hidden_layer_sizes must be integers, got {self.hidden_layer_sizes!r}")
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

    def _hidden_activations(self) -> list[str]:
        """The activation of each hidden layer, by our names."""
        n_hidden = len(self._hidden_sizes())
        if not isinstance(self.activation, (str, list, tuple, np.ndarray)):
            raise TypeError(
                f"activation must be a name or a list with one for each hidden layer, got {self.activation!r}"
            )
        given = [self.activation] * n_hidden if isinstance(self.activation, str) else list(self.activation)
        known = ("logistic", *ACTIVATIONS)
        for name in [self.activation] if isinstance(self.activation, str) else given:
            check_choice("activation", name, known, ", or a list with one for each hidden layer")
        if len(given) != n_hidden:
            raise ValueError(
                f"activation must be a name or {n_hidden} of them, one for each hidden layer, got {len(given)}"
            )
        return [NAMES.get(name, name) for name in given]

    def _loss_options(self) -> dict[str, float]:
        """The parameters of the loss, as the network takes them."""
        raise NotImplementedError

    def _network_loss(self) -> tuple[str, str]:
        """Loss and output of the network."""
        raise NotImplementedError

    def _network(self, n_features: int, dtype: Any) -> Network:
        sizes = [n_features, *self._hidden_sizes(), self.n_outputs_]
        loss, output = self._network_loss()
        return Network(
            sizes, hidden=self._hidden_activations(), loss=loss, output=output, dtype=dtype, **self._loss_options()
        )

    # ------------------------------------------------------------------------------------------------------- weights

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("_flat", "_views")}

    def _parameters(self, keep: bool = False) -> Floats:
        """The flat vector of ``coefs_`` and ``intercepts_``; if ``keep``, they become views of it."""
        arrays = [*self.coefs_, *self.intercepts_]
        views = self.__dict__.get("_views")
        if views is not None and len(views) == len(arrays) and all(a is b for a, b in zip(arrays, views)):
            flat: Floats = self._flat
            return flat
        net = self._net
        flat = np.empty(net.n_parameters, net.dtype)
        layers = net.layers(flat)
        shapes = [(layer.weights.T.shape, layer.bias.shape) for layer in layers]
        given = [(np.shape(coef), np.shape(intercept)) for coef, intercept in zip(self.coefs_, self.intercepts_)]
        if given != shapes:
            raise ValueError(f"coefs_ and intercepts_ must have the shapes of the layers, {shapes}, got {given}")
        for layer, coef, intercept in zip(layers, self.coefs_, self.intercepts_):
            layer.weights[...] = np.transpose(coef)
            layer.bias[...] = intercept
        if keep:
            self.coefs_ = [layer.weights.T for layer in layers]
            self.intercepts_ = [layer.bias for layer in layers]
            self._flat, self._views = flat, [*self.coefs_, *self.intercepts_]
        return flat

    def _initialize(self, n_features: int, dtype: Any, y: Array, weights: Floats | None) -> None:
        """Draw the weights as scikit-learn does, number for number, and begin the records of the training."""
        self.n_iter_ = 0
        self.t_ = 0
        self._net = net = self._network(n_features, dtype)
        self.n_layers_ = len(net.sizes)
        self.coefs_, self.intercepts_ = [], []
        self.__dict__.pop("_views", None)
        names = [*net.hidden, net.hidden[-1] if net.hidden else self.activation]
        for n_in, n_out, name in zip(net.sizes, net.sizes[1:], names):
            bound = np.sqrt((2.0 if name in ("sigmoid", "logistic") else 6.0) / (n_in + n_out))
            self.coefs_.append(self._random_state.uniform(-bound, bound, (n_in, n_out)))
            self.intercepts_.append(self._random_state.uniform(-bound, bound, n_out))
        self._start_outputs(y, weights)
        self._parameters(keep=True)
        for name in ("loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"):
            self.__dict__.pop(name, None)

    def _begin_records(self) -> None:
        """Those of epochs, which a warm start goes on with, unless another solver or no early stopping came before."""
        if not hasattr(self, "loss_curve_"):
            self.loss_curve_: list[float] = []
            self._no_improvement_count = 0
        if not self.early_stopping:
            if getattr(self, "best_loss_", None) is None:
                self.best_loss_ = np.inf
            self.validation_scores_: list[float] | None = None
            self.best_validation_score_ = None
        else:
            self.best_loss_ = None
            if getattr(self, "validation_scores_", None) is None:
                self.validation_scores_, self.best_validation_score_ = [], -np.inf

    def _check_classes(self, y: Any, classes: Any) -> None:
        """What a classifier needs to know before it learns from some of the rows."""

    def _start_outputs(self, y: Array, weights: Floats | None) -> None:
        """Where the loss is one that scikit-learn lacks, the outputs may begin at a constant."""

    # ------------------------------------------------------------------------------------------------------- fitting

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool = False, classes: Any = None) -> Self:
        self._check_parameters()
        if self.n_members > 1:
            return self._fit_members(X, y, sample_weight, incremental, classes)
        if incremental:
            self._check_classes(y, classes)
        self.__dict__.pop("estimators_", None)
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y = self._validate(X, y, incremental, reset=first)
        weights = self._class_weights(y, None if sample_weight is None else checked_weights(sample_weight, X))
        if weights is not None and not weights.sum() > 0:
            names = "sample_weight" if sample_weight is not None else "class_weight"
            raise ValueError(f"{names} must leave a sum > 0, got 0: Weights sum to zero, can't be normalized")
        targets = self._targets(y)
        self._random_state = check_random_state(self.random_state)
        dtype = X.dtype if self.dtype is None else np.dtype(self.dtype)
        if first:
            self._initialize(X.shape[1], dtype, targets, weights)
        else:
            self._continue(X.shape[1])
        rows = self._rows(X, targets, weights)
        if self.solver in STOCHASTIC:
            self._fit_stochastic(rows, y, incremental)
        elif self.solver == "lbfgs":
            self._fit_lbfgs(rows)
        else:
            self._fit_lm(rows)
        if not np.isfinite(self._flat).all():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed; a smaller learning_rate_init or clip_norm may help."
            )
        return self

    def _continue(self, n_features: int) -> None:
        """Go on from the weights that there are, which may be a user's own, with the parameters as they are now."""
        sizes = [coef.shape[0] for coef in self.coefs_] + [self.coefs_[-1].shape[1]]
        dtype = self._net.dtype if hasattr(self, "_net") else self.coefs_[0].dtype
        net = self._network(n_features, dtype)
        if list(net.sizes) != sizes:
            raise ValueError(
                f"the layers must be those of the fit before, {sizes}, got {list(net.sizes)}; "
                "warm_start=False begins anew"
            )
        if net != getattr(self, "_net", None):
            self._net = net
            self.__dict__.pop("_views", None)
        self._parameters(keep=True)

    def _rows(self, X: Any, targets: Array, weights: Any) -> Rows:
        dtype = self._net.dtype
        if isinstance(X, np.ndarray):
            X = np.ascontiguousarray(X, dtype)
        else:
            X = X.tocsr()
        if targets.ndim == 2:
            targets = np.ascontiguousarray(targets, dtype)
        return Rows(X, targets, None if weights is None else np.ascontiguousarray(weights, dtype))

    def _reported(self) -> Any:
        """How the reported loss follows from the network's, as :class:`Epochs` takes it."""
        return None

    def _weights_mask(self) -> Floats:
        """1 for weights, 0 for biases."""
        mask = np.zeros(self._net.n_parameters, self._net.dtype)
        for layer in self._net.layers(mask):
            layer.weights[...] = 1
        return mask

    def _split(self, rows: Rows, y: Array) -> tuple[Rows, Any]:
        """With early stopping, the rows to learn from and those to score."""
        if not self.early_stopping:
            return rows, None
        index = np.arange(len(rows))
        stratify = rows.Y.astype(bool) if isinstance(self, ClassifierMixin) and self.n_outputs_ == 1 else None
        train, held = train_test_split(
            index, random_state=self._random_state, test_size=self.validation_fraction, stratify=stratify
        )
        if len(held) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        weights = rows.sample_weight
        part = Rows(rows.X[train], rows.Y[train], None if weights is None else weights[train])
        return part, (rows.X[held], y[held], None if weights is None else weights[held])

    def _make_optimizer(self) -> _Descent | _Adam:
        if self.solver == "adam":
            return _Adam(self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon)
        return _Descent(self.learning_rate_init, self.momentum, bool(self.nesterovs_momentum and self.momentum))

    def _rate_at(self, steps_per_epoch: int) -> Any:
        """The schedule of the learning rate, as a function of the step; None if epochs change it at most."""
        if callable(self.learning_rate):
            return self.learning_rate
        if self.learning_rate not in SCHEDULES:
            return None
        schedule, total = SCHEDULES[self.learning_rate], self.max_iter * steps_per_epoch
        return lambda step: self.learning_rate_init * schedule(min(step / total, 1.0))

    def _batch_size(self, n_rows: int) -> int:
        if self.batch_size == "auto":
            return min(200, n_rows)
        if self.batch_size > n_rows:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5
            )
        return int(min(self.batch_size, n_rows))

    def _fit_stochastic(self, rows: Rows, y: Array, incremental: bool) -> None:
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        self._begin_records()
        optimizer = self.__dict__.get("_optimizer")
        if not incremental or not isinstance(optimizer, _Descent if self.solver == "sgd" else _Adam):
            self._optimizer = self._make_optimizer()
        rows, held = self._split(rows, y)
        m, size = len(rows), self._batch_size(len(rows))
        epochs = Epochs(
            self._net, self._flat, self._optimizer, rows, size,
            Penalties(self.alpha, self.l1, self.weight_decay, self.clip_norm),
            self._weights_mask(), self._reported(), self._rate_at(-(-m // size)), self.threads,
        )  # fmt: skip
        bar = progress_bar(1 if incremental else self.max_iter) if self.progress else None
        try:
            self._run(epochs, held, incremental, bar)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        finally:
            if bar is not None:
                bar.close()
        if epochs.diverged:
            warnings.warn(
                "The loss was not finite in some steps, which went on. Smaller inputs, targets or learning_rate_init, "
                "or clip_norm, may help.",
                ConvergenceWarning,
                stacklevel=4,
            )
        if self.early_stopping and self._best is not None:
            self._flat[...] = self._best

    def _run(self, epochs: Epochs, held: Any, incremental: bool, bar: Any) -> None:
        """Epochs until nothing gets better, the number of them is reached, or a callback says so."""
        m = len(epochs.rows)
        order = np.arange(m, dtype=np.int64) if self.shuffle else None
        scored = None if held is None else self._scored()
        self._best = None  # a warm start that finds no better score than a fit before ends with its last weights
        self.n_iter_ = 0
        for _ in range(self.max_iter):
            if order is not None:
                self._random_state.shuffle(order)
            self.loss_ = epochs.run(order)
            self.n_iter_ += 1
            self.t_ += m
            self.loss_curve_.append(self.loss_)
            if self.verbose:
                print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
            if epochs.diverged and not np.isfinite(self._flat).all():
                break  # no step leads back from there
            self._count_improvement(scored, held)
            if bar is not None:
                bar.set_postfix_str(f"loss {self.loss_:.4g}", refresh=False)
                bar.update()
            if self.solver == "sgd" and self.learning_rate == "invscaling":
                self._optimizer.set_learning_rate(self.learning_rate_init / (self.t_ + 1) ** self.power_t)
            ends = self._no_improvement_count > self.n_iter_no_change
            if ends:
                ends = self._stops()
                self._no_improvement_count *= ends
            if self._called_back() or ends or incremental:
                break
            # Schedules are made for all epochs, which is no sign that more are needed.
            if self.n_iter_ == self.max_iter and (epochs.rate_at is None or callable(self.learning_rate)):
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                    "converged yet.",
                    ConvergenceWarning,
                    stacklevel=5,
                )

    def _count_improvement(self, scored: Any, held: Any) -> None:
        """Record the loss or the score of an epoch, and for how many there was no better one."""
        if held is None:
            self._no_improvement_count = (
                self._no_improvement_count + 1 if self.loss_ > self.best_loss_ - self.tol else 0
            )
            self.best_loss_ = min(self.loss_, self.best_loss_)
            return
        X, y, weights = held
        score = self._score(scored, X, y, weights)
        self.validation_scores_.append(score)  # type: ignore[union-attr]
        if self.verbose:
            print(f"Validation score: {score:f}")
        better = not score < self.best_validation_score_ + self.tol
        self._no_improvement_count = 0 if better else self._no_improvement_count + 1
        if score > self.best_validation_score_:
            self.best_validation_score_ = score
            self._best = self._flat.copy()

    def _stops(self) -> bool:
        """Whether training ends for want of improvement; else the rate is divided by 5."""
        if self.early_stopping:
            what = f"Validation score did not improve more than tol={self.tol:f}"
        else:
            what = f"Training loss did not improve more than tol={self.tol:f}"
        message = f"{what} for {self.n_iter_no_change} consecutive epochs."
        falls = self.learning_rate == "plateau" or (self.learning_rate == "adaptive" and self.solver == "sgd")
        rate = self._optimizer.learning_rate
        if not falls or rate <= 1e-6:
            ends = " Learning rate too small. Stopping." if falls else " Stopping."
        else:
            self._optimizer.set_learning_rate(rate / 5.0)
            ends = f" Setting learning rate to {rate / 5.0:f}"
        if self.verbose:
            print(message + ends)
        return ends.endswith("Stopping.")

    def _callbacks(self) -> Any:
        if self.callbacks is None:
            return ()
        return self.callbacks if isinstance(self.callbacks, (list, tuple)) else [self.callbacks]

    def _called_back(self) -> bool:
        """Call the callbacks; whether one of them asks to stop."""
        return sum(bool(callback(self)) for callback in self._callbacks()) > 0  # all of them are called

    def _scored(self) -> Any:
        """This estimator for a scorer: without names of features, which the held-out rows have not."""
        scored = object.__new__(type(self))
        scored.__dict__.update(self.__dict__)
        scored.__dict__.pop("feature_names_in_", None)
        return scored

    def _score(self, scored: Any, X: Any, y: Array, weights: Floats | None) -> float:
        if self.scoring is None:
            predicted = self._predict(X)
            if predicted.dtype.kind == "f" and not np.isfinite(predicted).all():
                return np.nan
            return float(self._default_score(y, predicted, sample_weight=weights))
        scorer = check_scoring(scored, self.scoring)
        try:
            return float(scorer(scored, X, y) if weights is None else scorer(scored, X, y, sample_weight=weights))
        except (TypeError, ValueError) as error:
            raise type(error)(f"scoring={self.scoring!r}: {error}") from error

    # --------------------------------------------------------------------------------------------- all rows at once

    def _objective(self, rows: Rows) -> Any:
        """Cost and gradient of all rows, for a solver that takes float64."""
        net, total = self._net, float(len(rows)) if rows.sample_weight is None else float(rows.sample_weight.sum())
        X = rows.X if isinstance(rows.X, np.ndarray) else rows.X.toarray()

        def cost_and_gradient(x: Any) -> tuple[float, Any]:
            params = np.ascontiguousarray(x, net.dtype)
            cost, grad = net.cost_and_gradient(
                params, X, rows.Y, self.alpha / total, rows.sample_weight, threads=self.threads
            )
            return cost, grad.astype(np.float64, copy=False)

        return cost_and_gradient, total

    def _loss_of_fit(self, cost: float, rows: Rows, total: float) -> float:
        """What is reported of a cost of all rows."""
        reported_loss = self._reported()
        if reported_loss is None:
            return cost
        weights = self._flat * self._weights_mask()
        penalty = 0.5 * self.alpha * float(weights @ weights) / total
        loss: float = reported_loss(cost - penalty, rows.Y, rows.sample_weight) + penalty
        return loss

    def _fit_lbfgs(self, rows: Rows) -> None:
        cost_and_gradient, total = self._objective(rows)
        with self._records(rows, total) as after:
            result = scipy.optimize.minimize(
                cost_and_gradient,
                self._flat.astype(np.float64),
                method="L-BFGS-B",
                jac=True,
                callback=None if after is None else _scipy_callback(after),
                options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
            )
        if result.status in (0, 99):  # 99: a callback asked to stop
            problem = ""
        else:
            problem = f"(status={result.status}):\n{result.message}"
        self._finish(result.x, float(result.fun), int(min(result.nit, self.max_iter)), rows, total, problem)

    def _fit_lm(self, rows: Rows) -> None:
        n = self._net.n_parameters
        if n > MAX_PARAMETERS:
            raise ValueError(
                f"solver='lm' is for networks of up to {MAX_PARAMETERS} parameters, with a matrix of their square, "
                f"got {n}; take solver='lbfgs' or 'adam'"
            )
        problem = LeastSquares(self._net, rows, self.alpha, self._weights_mask(), self.threads)
        total = float(problem.root.ravel() @ problem.root.ravel())
        with self._records(rows, total) as after:

            def after_iteration(iteration: int, x: Floats, cost: float) -> Any:
                return after is not None and after(x, cost / total)

            x, cost, iterations, converged = minimize(
                problem, self._flat.astype(np.float64), self.max_iter, 0.1 * self.tol, after_iteration
            )
        self._finish(x, cost / total, iterations, rows, total, "" if converged else "(max_iter was reached).")

    @contextmanager
    def _records(self, rows: Rows, total: float) -> Iterator[Callable[[Any, float], bool] | None]:
        """What is to be called after each iteration, with parameters and cost, if anything is to be; true: stop."""
        bar = progress_bar(self.max_iter) if self.progress else None
        self.n_iter_ = 0

        def after(x: Any, cost: float) -> bool:
            self.n_iter_ += 1
            self._flat[...] = x
            self.loss_ = self._loss_of_fit(cost, rows, total)
            if self.verbose:
                print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
            if bar is not None:
                bar.set_postfix_str(f"loss {self.loss_:.4g}", refresh=False)
                bar.update()
            return self._called_back()

        try:
            yield after if self.verbose or self.progress or self.callbacks is not None else None
        finally:
            if bar is not None:
                bar.close()

    def _finish(self, x: Any, cost: float, iterations: int, rows: Rows, total: float, problem: str) -> None:
        """Take the result of a solver; warn of a problem, if there is one."""
        self._flat[...] = x
        self.n_iter_ = iterations
        self.loss_ = self._loss_of_fit(cost, rows, total)
        if problem:
            warnings.warn(
                f"{self.solver} failed to converge after {iterations} iteration(s) {problem}\n"
                "Increase max_iter or scale the data.",
                ConvergenceWarning,
                stacklevel=5,
            )

    # ---------------------------------------------------------------------------------------------------- ensembles

    def _fit_members(self, X: Any, y: Any, sample_weight: Any, incremental: bool, classes: Any) -> Self:
        """Fit ``n_members`` networks that differ in the numbers they draw."""
        goes_on = (self.warm_start or incremental) and len(getattr(self, "estimators_", ())) == self.n_members
        if goes_on:
            members = self.estimators_
            given = {name: value for name, value in self.get_params(deep=False).items() if name not in OWN_OF_MEMBERS}
            for member in members:
                member.set_params(**given)
        else:
            random_state = check_random_state(self.random_state)
            seeds = random_state.randint(np.iinfo(np.int32).max, size=self.n_members)
            members = [clone(self).set_params(n_members=1, random_state=int(seed)) for seed in seeds]
        for member in members:
            member._fit(X, y, sample_weight, incremental, classes)
        for name in [name for name in vars(self) if name.endswith("_") or name in ("_net", "_views", "_flat", "_best")]:
            del self.__dict__[name]  # of one network before
        self.estimators_ = members
        shared = ("n_features_in_", "feature_names_in_", "n_outputs_", "n_layers_", "out_activation_", "classes_", "t_")
        for name in (*shared, "_label_binarizer"):
            if hasattr(members[0], name):
                setattr(self, name, getattr(members[0], name))
        self.n_iter_ = max(member.n_iter_ for member in members)
        self.loss_ = float(np.mean([member.loss_ for member in members]))
        return self

    # -------------------------------------------------------------------------------------------------- predictions

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coefs_") or hasattr(self, "estimators_")

    def _validated_inputs(self, X: Any) -> Any:
        check_is_fitted(self)
        with Explained(X):
            return validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)

    def _forward(self, X: Any, logits: bool = False) -> Floats:
        """The outputs of checked rows; the mean of the members'."""
        if hasattr(self, "estimators_"):
            mean: Floats = np.mean([member._forward(X, logits) for member in self.estimators_], axis=0)
            return mean
        net, params = self._fitted_network(), self._parameters()
        if not isinstance(X, np.ndarray):
            net, params, X = self._above_the_first(net, params, X)
        if logits and net.output != "identity":
            net = Network(net.sizes, hidden=net.hidden, dtype=net.dtype)
        return net.forward(params, X, threads=self.threads)

    @staticmethod
    def _above_the_first(net: Network, params: Floats, X: Any) -> tuple[Network, Floats, Floats]:
        """A network whose inputs are the first layer's z, which of sparse rows is a product with what is not 0."""
        first, *above = net.layers(params)
        units = len(first.bias)
        upper = net._resized([units, *net.sizes[1:]])
        upper_params = np.zeros(upper.n_parameters, net.dtype)
        copy, *layers = upper.layers(upper_params)
        copy.weights[...] = np.eye(units)
        for layer, given in zip(layers, above):
            layer.weights[...], layer.bias[...] = given
        z = X.astype(net.dtype) @ np.ascontiguousarray(first.weights.T)
        return upper, upper_params, np.asarray(z + first.bias, net.dtype)

    def _fitted_network(self) -> Network:
        """The network of the fit; made from ``coefs_`` where a user has put them there without one."""
        net: Network | None = self.__dict__.get("_net")
        if net is None:
            self.n_outputs_ = self.coefs_[-1].shape[1]
            self._net = net = self._network(self.coefs_[0].shape[0], self.coefs_[0].dtype)
        return net

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def has_steps(estimator: Any) -> bool:
    if estimator.solver not in STOCHASTIC:
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True


def _scipy_callback(after: Callable[[Any, float], bool]) -> Callable[..., None]:
    """The same for SciPy, which knows by the name of the argument that it gets more than the parameters."""

    def callback(intermediate_result: Any) -> None:
        if after(intermediate_result.x, float(intermediate_result.fun)):
            raise StopIteration

    return callback
