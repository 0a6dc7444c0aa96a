"""The estimators: what scikit-learn's have, from their parameters and attributes to warm starts, and what theirs lack."""

from __future__ import annotations

import math
import warnings
from typing import Any, Self

import numpy as np
import scipy.optimize
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, get_scorer, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state, column_or_1d, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import _validation
from .._validation import Array, Floats
from ..architecture import ACTIVATIONS
from ..network import Network
from ..training import _bar
from ._epochs import SCHEDULES, Epochs, Penalties, Rows, _Adam, _Descent
from ._losses import REGRESSION, reported

#: Entries of the Jacobian with which ``solver="lm"`` solves its least-squares problems: 1 GiB of float64.
MAX_JACOBIAN = 1 << 27
#: Rows of a sparse matrix that are made dense at a time, in bytes.
DENSE_BYTES = 1 << 22
STOCHASTIC = ("sgd", "adam")
#: Their name of an activation, and ours.
NAMES = {"logistic": "sigmoid"}


def _check_choice(name: str, value: object, choices: tuple[str, ...], more: str = "") -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}{more}, got {value!r}")


class _BaseMLP(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: parameters, fitting and the attributes of it.

    The weights are one flat vector, ``_flat``, which the network computes with; ``coefs_`` and ``intercepts_`` are views
    of it. After pickling, or where a user has put arrays of their own in their place, it is made again from them.
    """

    _losses: tuple[str, ...]

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
        if self.batch_size != "auto":
            integer("batch_size", self.batch_size, 1)
        _check_choice("solver", self.solver, (*STOCHASTIC, "lbfgs", "lm"))
        if not callable(self.learning_rate):
            theirs = ("constant", "invscaling", "adaptive")
            _check_choice("learning_rate", self.learning_rate, (*theirs, *SCHEDULES, "plateau"), " or a function")
        _check_choice("loss", self.loss, self._losses)
        if self.dtype is not None and np.dtype(self.dtype) not in (np.dtype("float32"), np.dtype("float64")):
            raise ValueError(f"dtype must be None, float32 or float64, got {self.dtype!r}")
        if self.callbacks is not None:
            callbacks = self.callbacks if isinstance(self.callbacks, (list, tuple)) else [self.callbacks]
            for callback in callbacks:
                if not callable(callback):
                    raise TypeError(f"callbacks must be functions of the estimator, got {callback!r}")
        if self.solver not in STOCHASTIC:
            for name in ("l1", "weight_decay", "clip_norm", "early_stopping"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs solver='adam' or 'sgd', got solver={self.solver!r}")
        if self.solver == "lm" and self.loss != "squared_error":
            raise ValueError(f"solver='lm' needs loss='squared_error' (it solves least squares), got {self.loss!r}")
        self._hidden_sizes()
        self._hidden_activations()

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(not isinstance(size, (int, np.integer)) or size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

    def _hidden_activations(self) -> list[str]:
        """The activation of each hidden layer, by our names."""
        n_hidden = len(self._hidden_sizes())
        given = [self.activation] * n_hidden if isinstance(self.activation, str) else self.activation
        known = ("logistic", *ACTIVATIONS)
        for name in [self.activation] if isinstance(self.activation, str) else given:
            _check_choice("activation", name, known, ", or a list with one for each hidden layer")
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
        """The flat vector of ``coefs_`` and ``intercepts_``; if ``keep``, they become views of it where they are not."""
        arrays = [*self.coefs_, *self.intercepts_]
        views = self.__dict__.get("_views")
        if views is not None and len(views) == len(arrays) and all(a is b for a, b in zip(arrays, views)):
            flat: Floats = self._flat
            return flat
        net = self._net
        flat = np.empty(net.n_parameters, net.dtype)
        layers = net.layers(flat)
        for layer, coef, intercept in zip(layers, self.coefs_, self.intercepts_):
            layer.weights[...] = np.transpose(coef)
            layer.bias[...] = intercept
        if keep:
            self.coefs_ = [layer.weights.T for layer in layers]
            self.intercepts_ = [layer.bias for layer in layers]
            self._flat, self._views = flat, [*self.coefs_, *self.intercepts_]
        return flat

    def _initialize(self, n_features: int, dtype: Any, y: Array) -> None:
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
        self._start_outputs(y)
        self._parameters(keep=True)
        if self.solver in STOCHASTIC:
            self.loss_curve_: list[float] = []
            self._no_improvement_count = 0
            self.best_loss_ = None if self.early_stopping else np.inf
            self.validation_scores_: list[float] | None = [] if self.early_stopping else None
            self.best_validation_score_ = -np.inf if self.early_stopping else None

    def _start_outputs(self, y: Array) -> None:
        """Where the loss is one that scikit-learn lacks, the outputs may begin at a constant."""

    # ------------------------------------------------------------------------------------------------------- fitting

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool = False, **more: Any) -> Self:
        self._check_parameters()
        if self.n_members > 1:
            return self._fit_members(X, y, sample_weight, incremental, **more)
        self.__dict__.pop("estimators_", None)
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y = self._validate(X, y, incremental, reset=first)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        weights = self._class_weights(y, weights)
        if weights is not None and not weights.sum() > 0:
            raise ValueError("sample_weight must have a sum > 0, got 0: Weights sum to zero, can't be normalized")
        targets = self._targets(y)
        self._random_state = check_random_state(self.random_state)
        dtype = X.dtype if self.dtype is None else np.dtype(self.dtype)
        if first:
            self._initialize(X.shape[1], dtype, targets)
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
                f"the layers must be those of the fit before, {sizes}, got {list(net.sizes)}; warm_start=False begins anew"
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
        schedule, total, first = SCHEDULES[self.learning_rate], self.max_iter * steps_per_epoch, self._optimizer.steps
        return lambda step: self.learning_rate_init * schedule(min((step - first) / total, 1.0))

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
        bar = _bar(1 if incremental else self.max_iter) if self.progress else None
        try:
            self._run(epochs, held, incremental, bar)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        finally:
            if bar is not None:
                bar.close()
        if epochs.diverged:
            warnings.warn(
                "The loss was not finite in some steps, which went on. Smaller inputs, targets or learning_rate_init, or "
                "clip_norm, may help.",
                ConvergenceWarning,
                stacklevel=4,
            )
        if self.early_stopping:
            self._flat[...] = self._best

    def _run(self, epochs: Epochs, held: Any, incremental: bool, bar: Any) -> None:
        """Epochs until nothing gets better, the number of them is reached, or a callback says so."""
        m = len(epochs.rows)
        order = np.arange(m) if self.shuffle else None
        scored = None if held is None else self._scored()
        if held is not None:
            self._best = self._flat.copy()
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
            self._count_improvement(scored, held)
            if bar is not None:
                bar.set_postfix_str(f"loss {self.loss_:.4g}", refresh=False)
                bar.update()
            if self.solver == "sgd" and self.learning_rate == "invscaling":
                self._optimizer.set_learning_rate(self.learning_rate_init / (self.t_ + 1) ** self.power_t)
            if self._no_improvement_count > self.n_iter_no_change:
                if self._stops():
                    break
                self._no_improvement_count = 0
            if self._called_back() or incremental:
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
            self._best[...] = self._flat

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

    def _called_back(self) -> bool:
        """Call the callbacks; whether one of them asks to stop."""
        if self.callbacks is None:
            return False
        callbacks = self.callbacks if isinstance(self.callbacks, (list, tuple)) else [self.callbacks]
        return any([bool(callback(self)) for callback in callbacks])

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
        scorer = get_scorer(self.scoring) if isinstance(self.scoring, str) else self.scoring
        if weights is None:
            return float(scorer(scored, X, y))
        return float(scorer(scored, X, y, sample_weight=weights))

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
        return float(reported_loss(cost - penalty, rows.Y, rows.sample_weight)) + penalty

    def _fit_lbfgs(self, rows: Rows) -> None:
        cost_and_gradient, total = self._objective(rows)
        bar = _bar(self.max_iter) if self.progress else None
        self.n_iter_ = 0

        def after(intermediate_result: Any) -> None:
            self.n_iter_ += 1
            self._flat[...] = intermediate_result.x
            self.loss_ = self._loss_of_fit(float(intermediate_result.fun), rows, total)
            if self.verbose:
                print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
            if bar is not None:
                bar.set_postfix_str(f"loss {self.loss_:.4g}", refresh=False)
                bar.update()
            if self._called_back():
                raise StopIteration

        watched = bool(self.verbose or self.progress or self.callbacks is not None)
        try:
            result = scipy.optimize.minimize(
                cost_and_gradient, self._flat.astype(np.float64), method="L-BFGS-B", jac=True,
                callback=after if watched else None,
                options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
            )  # fmt: skip
        finally:
            if bar is not None:
                bar.close()
        stopped = watched and result.status == 99
        self._finish(result, rows, total, converged=result.status == 0 or stopped)

    def _finish(self, result: Any, rows: Rows, total: float, converged: bool) -> None:
        self._flat[...] = result.x
        self.n_iter_ = int(min(result.get("nit", result.nfev), self.max_iter))
        self.loss_ = self._loss_of_fit(float(result.fun), rows, total)
        if not converged:
            warnings.warn(
                f"{self.solver} failed to converge after {self.n_iter_} iteration(s) (status={result.status}):\n"
                f"{result.message}\nIncrease max_iter or scale the data.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _fit_lm(self, rows: Rows) -> None:
        """Levenberg-Marquardt by SciPy, on the residuals of all rows and outputs and on the weights times root alpha."""
        net, mask = self._net, self._weights_mask()
        m, k, n = len(rows), self.n_outputs_, net.n_parameters
        if m * k * n > MAX_JACOBIAN:
            raise ValueError(
                f"solver='lm' is for small data: its Jacobian of {m} rows x {k} outputs x {n} parameters is more than "
                f"{MAX_JACOBIAN} numbers; take solver='lbfgs' or 'adam'"
            )
        X = rows.X if isinstance(rows.X, np.ndarray) else rows.X.toarray()
        total = float(m) if rows.sample_weight is None else float(rows.sample_weight.sum())
        root = np.ones((m, 1)) if rows.sample_weight is None else np.sqrt(rows.sample_weight.astype(float))[:, None]
        decay = math.sqrt(self.alpha) * mask.astype(float)
        penalised = np.flatnonzero(decay)

        def residuals(x: Any) -> Any:
            outputs = net.forward(x.astype(net.dtype), X, threads=self.threads)
            return np.concatenate([(root * (outputs - rows.Y)).ravel(), (decay * x)[penalised]])

        def jacobian(x: Any) -> Any:
            J = np.zeros((m * k + len(penalised), n))
            of_outputs = net.jacobian(x.astype(net.dtype), X, threads=self.threads)
            np.multiply(root[:, :, None], of_outputs, out=J[: m * k].reshape(m, k, n))
            J[m * k + np.arange(len(penalised)), penalised] = decay[penalised]
            return J

        precision = 1e-4 * self.tol or None
        result = scipy.optimize.least_squares(
            residuals, self._flat.astype(np.float64), jacobian, method="trf" if m * k + len(penalised) < n else "lm",
            max_nfev=self.max_iter, ftol=precision, xtol=precision or 1e-15, gtol=precision,
        )  # fmt: skip
        result.fun = result.cost / total
        self._finish(result, rows, total, converged=result.status > 0)

    # ---------------------------------------------------------------------------------------------------- ensembles

    def _fit_members(self, X: Any, y: Any, sample_weight: Any, incremental: bool, **more: Any) -> Self:
        """Fit ``n_members`` networks that differ in the numbers they draw."""
        goes_on = (self.warm_start or incremental) and len(getattr(self, "estimators_", ())) == self.n_members
        if goes_on:
            members = self.estimators_
        else:
            random_state = check_random_state(self.random_state)
            seeds = random_state.randint(np.iinfo(np.int32).max, size=self.n_members)
            members = [clone(self).set_params(n_members=1, random_state=int(seed)) for seed in seeds]
        for name in ("coefs_", "intercepts_", "_net", "_views", "_flat", "_optimizer"):
            self.__dict__.pop(name, None)
        for member in members:
            if incremental:
                member._fit(X, y, sample_weight, incremental=True, **more)
            else:
                member._fit(X, y, sample_weight, **more)
        self.estimators_ = members
        first = members[0]
        for name in ("n_features_in_", "feature_names_in_", "n_outputs_", "n_layers_", "out_activation_", "classes_",
                     "_label_binarizer", "t_"):  # fmt: skip
            self.__dict__.pop(name, None)
            if hasattr(first, name):
                setattr(self, name, getattr(first, name))
        self.n_iter_ = max(member.n_iter_ for member in members)
        self.loss_ = float(np.mean([member.loss_ for member in members]))
        return self

    # -------------------------------------------------------------------------------------------------- predictions

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coefs_") or hasattr(self, "estimators_")

    def _validated_inputs(self, X: Any) -> Any:
        check_is_fitted(self)
        with _Explained(X):
            return validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)

    def _forward(self, X: Any, logits: bool = False) -> Floats:
        """The outputs of checked rows; the mean of the members'."""
        if hasattr(self, "estimators_"):
            return np.mean([member._forward(X, logits) for member in self.estimators_], axis=0)
        net = self._fitted_network()
        if logits and net.output != "identity":
            net = Network(net.sizes, hidden=net.hidden, dtype=net.dtype)
        params = self._parameters()
        if isinstance(X, np.ndarray):
            return net.forward(params, X, threads=self.threads)
        X = X.tocsr()
        size = max(DENSE_BYTES // (X.shape[1] * net.dtype.itemsize), 1)
        blocks = [X[first : first + size].toarray() for first in range(0, X.shape[0], size)]
        return np.concatenate([net.forward(params, block, threads=self.threads) for block in blocks])

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


class _Explained:
    """Adds to scikit-learn's errors about data the row and the column, and the cure."""

    def __init__(self, X: Any, y: Any = None) -> None:
        self.X, self.y = X, y

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if not isinstance(error, (ValueError, TypeError)):
            return
        place = self._place(str(error))
        if place:
            raise type(error)(f"{error}\n{place}") from error

    def _place(self, message: str) -> str:
        if message.startswith("Input X contains"):
            return _not_finite("X", self.X)
        if message.startswith("Input y contains"):
            return _not_finite("y", self.y)
        if "could not convert string to float" in message or "invalid literal" in message:
            return _text("X", self.X) or _text("y", self.y)
        return ""


def _names(name: str, data: Any) -> Any:
    columns = getattr(data, "columns", None)
    return [f"{name}, column {column!r}" for column in columns] if columns is not None else None


def _not_finite(name: str, data: Any) -> str:
    """Where the first number that is missing or infinite is."""
    try:
        if hasattr(data, "tocoo"):
            entries = data.tocoo()
            bad = int(np.flatnonzero(~np.isfinite(entries.data))[0])
            row, column = int(entries.row[bad]), int(entries.col[bad])
        else:
            array = np.asarray(data, dtype=float)
            row, *rest = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
            column = rest[0] if rest else -1
    except (TypeError, ValueError, IndexError):
        return ""
    names = _names(name, data)
    place = names[column] if names else f"{name}, column {column}" if column >= 0 else name
    cure = "fill or leave out such rows, for example with sklearn.impute.SimpleImputer"
    return f"The first is in {place}, row {row}; {cure}."


def _text(name: str, data: Any) -> str:
    """The first column that is not of numbers."""
    array = np.asarray(data, dtype=object)
    array = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
    for column in range(array.shape[1]):
        for row, value in enumerate(array[:, column]):
            try:
                float(value)
            except (TypeError, ValueError):
                names = _names(name, data)
                place = names[column] if names else f"{name}, column {column}"
                cure = "encode it, for example with sklearn.preprocessing.OneHotEncoder"
                return f"The first is in {place}, row {row}; {cure}."
    return ""


class MLPClassifier(ClassifierMixin, _BaseMLP):  # type: ignore[misc]
    """scikit-learn's ``MLPClassifier``, computed by this package: the same results, sooner, and more to choose from.

    With the parameters that scikit-learn has, ``fit`` draws the same numbers and takes the same steps as its namesake.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default (100,)
        Units of each hidden layer; ``()`` for none.
    activation : str or sequence of str, default "relu"
        Of the hidden layers: identity, logistic, tanh, relu, as in scikit-learn, or leaky_relu, elu, softplus, silu, gelu;
        one name for all, or a sequence with one for each.
    solver : {"adam", "sgd", "lbfgs"}, default "adam"
        lbfgs is SciPy's L-BFGS-B on all rows at once.
    alpha : float, default 0.0001
        Weight of the penalty ``alpha/2`` times the squares of the weights, which is divided by the rows of the batch (the
        sum of their weights).
    batch_size : int or "auto", default "auto"
        Rows of a mini-batch; auto: 200, or all if they are fewer.
    learning_rate : str or callable, default "constant"
        With sgd also invscaling (``learning_rate_init / (t + 1)^power_t`` after an epoch, t rows seen) and adaptive (a
        fifth of it whenever ``n_iter_no_change`` epochs in turn were no better, until 1e-6), which scikit-learn has.
        With sgd and adam alike: cosine (to 0), one_cycle (up from 1/25 in the first 0.3 of the steps, then down), step (a
        tenth of it after each third), each over ``max_iter`` epochs; plateau, which is adaptive for both; or a function
        of the step, counted from 0, that returns the rate.
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
        Hold out ``validation_fraction`` of the rows, stop when their score is no better for ``n_iter_no_change`` epochs,
        and return to the best weights.
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
    class_weight : dict, "balanced" or None, default None
        Weights of classes, by which sample weights are multiplied; balanced: by the inverse of their numbers of rows.
    l1 : float, default 0.0
        Weight of the penalty of the weights' absolute values, divided as ``alpha`` is. After each step the weights are
        brought nearer to 0 by ``rate * l1``, divided likewise: some become exactly 0. For sgd and adam.
    weight_decay : float, default 0.0
        Before each step, the weights are multiplied by ``1 - rate * weight_decay`` (with adam this is AdamW). Biases are
        not. For sgd and adam.
    clip_norm : float or None, default None
        Gradients of a step that are longer than this are scaled down to it. For sgd and adam.
    scoring : str, callable or None, default None
        What early stopping scores by, as in ``cross_val_score``; None: accuracy.
    callbacks : callable or list of callable, default None
        Called with the estimator after each epoch; training ends if one returns a true value.
    progress : bool, default False
        Show a progress bar; needs the package tqdm.
    dtype : {None, "float32", "float64"}, default None
        Of the whole computation; None: that of X if it is one of these, otherwise float64, as in scikit-learn.
    n_members : int, default 1
        Train so many networks, which begin with other weights; predictions are their means.
    threads : int or None, default None
        At most so many threads; None: those of the machine, or of OMP_NUM_THREADS if fewer. Results do not depend on it.

    Attributes
    ----------
    classes_ : ndarray, or a list of them
    coefs_, intercepts_ : list of ndarray
        Weights, of shape ``(n_in, n_out)``, and biases of each layer, which may be changed in place.
    loss_, best_loss_ : float
        The loss of the last epoch, and the least one; ``best_loss_`` is None with early stopping.
    loss_curve_ : list of float
        Of each epoch (not with lbfgs).
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
        The networks, if ``n_members`` is more than 1; weights, records and ``t_`` are theirs then.

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
    >>> model = MLPClassifier((16,), solver="lbfgs", alpha=0.1, random_state=0).fit(X, y)
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
        if self.solver == "lm":
            raise ValueError("solver='lm' solves least squares, which the losses of a classifier are not; take 'lbfgs'")
        weight = self.class_weight
        if weight is not None and weight != "balanced" and not isinstance(weight, (dict, list)):
            raise TypeError(f"class_weight must be a dict, 'balanced' or None, got {weight!r}")

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
        with _Explained(X, y):
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
        if self.warm_start:
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
        by_class = compute_sample_weight(self.class_weight, y)
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

    @available_if(lambda self: _has_steps(self))
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
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool = False, classes: Any = None) -> Self:
        if not incremental or self.n_members > 1:
            more = {} if classes is None else {"classes": classes}
            return super()._fit(X, y, sample_weight, incremental, **(more if self.n_members > 1 else {}))
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
        return super()._fit(X, y, sample_weight, incremental=True)

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
        X = self._validated_inputs(X)
        if hasattr(self, "estimators_"):
            each = np.stack([member._log_probabilities(X) for member in self.estimators_])
            log_mean: Floats = np.logaddexp.reduce(each, axis=0) - math.log(len(each))
            return log_mean
        return self._log_probabilities(X)

    def _log_probabilities(self, X: Any) -> Floats:
        if self.out_activation_ == "logistic" and self.n_outputs_ > 1:
            # Labels whose probabilities are both rounded to 1 shall be equal here, too.
            with np.errstate(divide="ignore"):
                return np.log(self._forward(X))
        z = self._forward(X, logits=True)
        if self.out_activation_ == "softmax":
            z -= z.max(axis=1, keepdims=True)
            return z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        log_probabilities: Floats = -np.logaddexp(0, np.concatenate([z, -z], axis=1))
        return log_probabilities

    def decision_function(self, X: Any) -> Floats:
        """The logits: for two classes that of the second, positive where it is predicted; scikit-learn's has none.

        Parameters
        ----------
        X : array_like, frame or sparse matrix of shape (m, n_features)

        Returns
        -------
        logits : ndarray of shape (m,) for two classes, else (m, n_outputs)
            With ``n_members`` > 1 the means of theirs.
        """
        logits = self._forward(self._validated_inputs(X), logits=True)
        return logits.ravel() if logits.shape[1] == 1 else logits

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, _BaseMLP):  # type: ignore[misc]
    """scikit-learn's ``MLPRegressor``, computed by this package: the same results, sooner, and more to choose from.

    Parameters
    ----------
    loss : str, default "squared_error"
        squared_error and poisson, as in scikit-learn, or huber, absolute_error, quantile, gamma, tweedie, as in
        :class:`bpcore.Network`. With those that scikit-learn lacks, the outputs begin at the best constant: the median,
        the quantile, the mean.
    solver : {"adam", "sgd", "lbfgs", "lm"}, default "adam"
        lm: Levenberg-Marquardt by ``scipy.optimize.least_squares``, for squared_error and small data: up to 2^27 rows
        times outputs times parameters. ``max_iter`` are its evaluations, ``1e-4 * tol`` its tolerances.
    delta, quantile, power : float, default 1.0, 0.5 and 1.5
        The parameters of huber (> 0), quantile (between 0 and 1) and tweedie (between 1 and 2).
    hidden_layer_sizes, activation, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, shuffle, \
random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, validation_fraction, beta_1, beta_2, \
epsilon, n_iter_no_change, max_fun, l1, weight_decay, clip_norm, scoring, callbacks, progress, dtype, n_members, threads
        As in :class:`MLPClassifier`; ``scoring`` is R2 by default.

    Attributes
    ----------
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_, n_iter_, n_layers_, \
n_outputs_, n_features_in_, t_, out_activation_, feature_names_in_, estimators_
        As in :class:`MLPClassifier`. As in scikit-learn, losses are means over the outputs, but for poisson (and gamma and
        tweedie), which are sums; what is minimised is always the sum.

    Raises
    ------
    TypeError, ValueError
        In ``fit``, if a parameter is of the wrong kind or out of range, or the data are; the message names it.

    Examples
    --------
    >>> from bpcore.sklearn import MLPRegressor
    >>> x = np.linspace(0, 3, 50)[:, None]
    >>> model = MLPRegressor(hidden_layer_sizes=8, activation="tanh", solver="lm", alpha=1e-6, random_state=0)
    >>> model.fit(x, np.sin(2 * x[:, 0])).score(x, np.sin(2 * x[:, 0])) > 0.999
    True
    """

    _losses = tuple(REGRESSION)
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
        return reported(REGRESSION[self.loss], self.n_outputs_)

    def _validate(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        with _Explained(X, y):
            X, y = validate_data(
                self, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=True,
                dtype=(np.float64, np.float32), reset=reset,
            )  # fmt: skip
        if hasattr(y, "toarray"):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        loss = REGRESSION[self.loss]
        wrong = np.argwhere(y <= loss.low if loss.strict else y < loss.low)
        if len(wrong):
            place, must = tuple(wrong[0]), f"{'>' if loss.strict else '>='} {loss.low:g}"
            raise ValueError(f"y must be {must} for loss={self.loss!r}, got {y[place]} in row {place[0]}")
        return X, y

    def _class_weights(self, y: Array, weights: Any) -> Any:
        return weights

    def _targets(self, y: Array) -> Array:
        """A matrix."""
        targets = y.reshape(len(y), -1)
        output = REGRESSION[self.loss].output
        self.n_outputs_, self.out_activation_ = targets.shape[1], output
        return targets

    def _start_outputs(self, y: Array) -> None:
        loss = REGRESSION[self.loss]
        if loss.start is not None:
            self.intercepts_[-1][...] = loss.start(y, getattr(self, loss.option or "", None))

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

    @available_if(lambda self: _has_steps(self))
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
        return self._fit(X, y, sample_weight, incremental=True)

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


def _has_steps(estimator: Any) -> bool:
    if estimator.solver not in STOCHASTIC:
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True


def _members(estimator: Any) -> Any:
    if not hasattr(estimator, "estimators_"):
        raise ValueError("return_std=True needs several networks: fit with n_members > 1")
    return estimator.estimators_
