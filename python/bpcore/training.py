"""Gradient descent over mini-batches, with what a training run needs besides."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import arrays, slots
from .arrays import Array, Floats
from .network import Network
from .optimizers import Adam, GradientDescent, Optimizer

#: How long the backend goes on before it looks whether there is a signal, such as Ctrl-C.
SECONDS_UNINTERRUPTED = 0.1

Stop = Literal["epochs", "patience", "callback", "interrupted"]


@dataclass
class History:
    """What happened in a training run.

    Attributes
    ----------
    cost : list of float
        For each whole epoch, the cost of its rows, each batch taken before its step, penalty included.
    validation_cost : list of float
        For each epoch, the cost of the validation data after it, without penalty; empty without such data.
    learning_rate : list of float
        For each epoch, the rate of its last step; empty if the optimizer does not tell.
    best_epoch : int or None
        With early stopping, the epoch (from 1) of the best cost. Its parameters were restored, unless Ctrl-C came.
    stopped : {"epochs", "patience", "callback", "interrupted"}
        What ended the run.
    seconds : float
        How long it took.
    """

    cost: list[float] = field(default_factory=list)
    validation_cost: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    stopped: Stop = "epochs"
    seconds: float = 0.0

    @property
    def epochs(self) -> int:
        """How many whole epochs were run."""
        return len(self.cost)


def train(
    net: Network,
    params: Any,
    X: npt.ArrayLike,
    Y: npt.ArrayLike,
    *,
    optimizer: Optimizer | None = None,
    epochs: int = 100,
    batch_size: int | None = 32,
    shuffle: bool = True,
    seed: int | np.random.Generator | None = 0,
    l2: float = 0.0,
    sample_weight: npt.ArrayLike | None = None,
    validation_data: tuple[Any, ...] | None = None,
    patience: int | None = None,
    tolerance: float = 0.0,
    callback: Callable[[int, History], object] | None = None,
    progress: bool = False,
    threads: int | None = None,
) -> History:
    """Train a network, changing ``params`` in place.

    Parameters
    ----------
    net : Network
    params : ndarray of shape (n_parameters,)
        Of the network's dtype, C-contiguous and writable; changed in place. Whatever gives its memory as an array by
        the buffer protocol, ``__array__`` or DLPack will do, such as a PyTorch tensor on the CPU without grad.
    X, Y, l2, sample_weight, threads
        As in :meth:`Network.cost_and_gradient`. The weighted sums of a batch are divided by its number of rows times
        the mean weight of *all* rows, not by the batch's own weights: so on average over the shuffles a step follows
        the weighted cost of the whole data, whatever the batch size. (Without shuffling, a last batch of fewer rows
        counts as much as the others.) A batch of no weight makes a step by the penalty and the optimizer's state alone.
    optimizer : GradientDescent, Adam or the like, default ``Adam()``
        It goes on from the steps it has taken. Its ``learning_rate`` may be a schedule: a function of the step.
    epochs : int, default 100
        Passes over the data at most.
    batch_size : int or None, default 32
        Rows of a step; None takes all of them.
    shuffle : bool, default True
        Whether the rows are put into a new order for each epoch.
    seed : int, Generator or None, default 0
        Of the order. The same seed gives the same order on every backend.
    validation_data : tuple (X, Y) or (X, Y, sample_weight), optional
        Its cost is computed after each epoch.
    patience : int, optional
        Stop early: when the cost (of the validation data, if any) has not become less than the best one, by more than
        ``tolerance``, for that many epochs. The best parameters are restored, also when the epochs run out.
    tolerance : float, default 0
        By how much a cost must be less to count as better.
    callback : callable, optional
        Called as ``callback(epoch, history)`` after each epoch, from 1; a true result ends the run.
    progress : bool, default False
        Show a progress bar on standard error; needs the package tqdm.
    threads : int, optional

    Returns
    -------
    history : History
        Also after Ctrl-C (``history.stopped == "interrupted"``): ``params`` are those of the last whole step then.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong; nothing is changed then.
    FloatingPointError
        At the first cost that is not finite. ``params`` are the last ones whose cost was finite.
    ImportError
        If ``progress`` is asked for without tqdm.
    """
    if not isinstance(net, Network):
        raise TypeError(f"net is a {type(net).__name__}, but a Network is wanted")
    params = _check_params(net, params)
    X = arrays.matrix("X", X, net.sizes[0])
    weights, total = arrays.sample_weights(sample_weight, len(X), net.dtype)
    Y = arrays.targets(Y, len(X), net.sizes[-1], net.loss, weights)
    if not total > 0:
        raise ValueError("the sum of sample_weight is 0" if len(X) else "X has no rows")
    if weights is not None:
        weights = arrays.native(weights, net.dtype)
    for name, array in (("X", X), ("Y", Y), ("sample_weight", weights)):
        if array is not None and arrays.overlap(params, array):
            raise ValueError(f"params shares memory with {name}")
    epochs = arrays.integer("epochs", epochs, 1)
    batch_size = len(X) if batch_size is None else arrays.integer("batch_size", batch_size, 1)
    l2 = arrays.number("l2", l2)
    tolerance = arrays.number("tolerance", tolerance)
    patience = None if patience is None else arrays.integer("patience", patience, 1)
    if threads is not None:
        arrays.integer("threads", threads, 1)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is {callback!r}, but a callable is wanted")
    optimizer = Adam() if optimizer is None else optimizer
    if isinstance(optimizer, type) or not callable(getattr(optimizer, "step", None)):
        raise TypeError(f"optimizer is {optimizer!r}, but GradientDescent, Adam or the like is wanted")
    validation = _validation(net, params, validation_data)
    try:
        generator = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(f"seed is {seed!r}: {error}") from None
    bar = _bar(epochs) if progress else None

    run = _Run(net, params, optimizer, l2, total / len(X), threads)
    history = History()
    best_cost, best_params = np.inf, params.copy()
    start = time.perf_counter()
    try:
        for epoch in range(1, epochs + 1):
            # All rows at once need no order, and are not copied.
            order = generator.permutation(len(X)) if shuffle and batch_size < len(X) else None
            history.cost.append(run.epoch(epoch, X, Y, weights, order, batch_size))
            if (rate := getattr(optimizer, "last_learning_rate", None)) is not None:
                history.learning_rate.append(float(rate))
            cost = history.cost[-1]
            if validation is not None:
                Xv, Yv, wv = validation
                cost = net.cost(params, Xv, Yv, 0.0, wv, threads)
                history.validation_cost.append(cost)
                if not np.isfinite(cost):
                    raise FloatingPointError(f"the cost of the validation data is {cost} after epoch {epoch}")
            if patience is not None:
                if cost < best_cost - tolerance or history.best_epoch is None:
                    best_cost, history.best_epoch = cost, epoch
                    best_params[...] = params
                elif epoch - history.best_epoch >= patience:
                    history.stopped = "patience"
            if bar is not None:
                bar.set_postfix_str(f"cost {cost:.4g}", refresh=False)
                bar.update()
            if callback is not None and callback(epoch, history) and history.stopped == "epochs":
                history.stopped = "callback"
            if history.stopped != "epochs":
                break
    except KeyboardInterrupt:
        run.undo_half_a_step()
        history.stopped = "interrupted"
    finally:
        if bar is not None:
            bar.close()
        history.seconds = time.perf_counter() - start
    if history.best_epoch is not None and history.stopped != "interrupted":
        params[...] = best_params
    return history


class _Run:
    """Steps over batches; it knows the last parameters whose cost was finite."""

    def __init__(
        self,
        net: Network,
        params: Floats,
        optimizer: Optimizer,
        l2: float,
        mean_weight: float,
        threads: int | None,
    ) -> None:
        self.net, self.params, self.optimizer = net, params, optimizer
        self.l2, self.mean_weight, self.threads = l2, mean_weight, threads
        self.grad = np.empty_like(params)
        self.finite = params.copy()
        self.before = params.copy()
        self.stepping = False

    def epoch(
        self,
        epoch: int,
        X: Array,
        Y: Array,
        weights: Array | None,
        order: npt.NDArray[np.intp] | None,
        batch_size: int,
    ) -> float:
        """One step for each batch; the mean of their costs, by their rows."""
        if self._in_core(X, Y, batch_size):
            return self._epoch_in_core(epoch, X, Y, weights, order, batch_size)
        costs = 0.0
        for step, first in enumerate(range(0, len(X), batch_size), 1):
            last = min(first + batch_size, len(X))
            rows: Any = slice(first, last) if order is None else order[first:last]
            w = None if weights is None else weights[rows]
            cost = self._cost_and_gradient(X[rows], Y[rows], w)
            if not np.isfinite(cost):
                self._diverged(f"the cost is {cost} at epoch {epoch}, step {step}")
            self.before[...] = self.params
            if np.isfinite(self.before).all():  # an activation may hide from the cost that they are not
                self.finite[...] = self.before
            self.stepping = True
            self.optimizer.step(self.params, self.grad)
            self.stepping = False
            costs += (last - first) * cost
        if not np.isfinite(self.params).all():
            self._diverged(f"the parameters are not finite after epoch {epoch}")
        return costs / len(X)

    def _cost_and_gradient(self, X: Array, Y: Array, weights: Array | None) -> float:
        """The cost of a batch, its gradient in ``self.grad``; both are means by the mean weight of all rows."""
        net, params, grad = self.net, self.params, self.grad
        if weights is None:
            return net.cost_and_gradient(params, X, Y, self.l2, None, grad, self.threads)[0]
        losses, sums = slots.add_up(net, params, X, Y, weights, self.threads, grad)
        total = len(X) * self.mean_weight
        net._core.finish(net._plan, params, sums, total, self.l2, grad)
        return net._core.cost(net._plan, params, losses, total, self.l2)

    def _in_core(self, X: Array, Y: Array, batch_size: int) -> bool:
        """Whether the backend can take the steps itself: our own optimizers, rows as it wants them, small batches."""
        labels = np.dtype(np.int64) if Y.ndim == 1 else self.net.dtype
        return (
            type(self.optimizer) in (GradientDescent, Adam)
            and "step" not in vars(self.optimizer)  # somebody's own, as for clipping
            and batch_size <= self.net._plan.slot * self.net._plan.together
            and all(a.flags.c_contiguous and a.flags.aligned for a in (X, Y))
            and (X.dtype, Y.dtype) == (self.net.dtype, labels)
        )

    def _epoch_in_core(
        self,
        epoch: int,
        X: Array,
        Y: Array,
        weights: Array | None,
        order: npt.NDArray[np.intp] | None,
        batch_size: int,
    ) -> float:
        """The same, with the loop in the backend, which comes back for signals and for each rate of a schedule."""
        optimizer: Any = self.optimizer
        costs, first = 0.0, 0
        order = None if order is None else order.astype(np.int64, copy=False)
        while first < len(X):
            scheduled = callable(optimizer.learning_rate)
            rate = optimizer._start(self.params)
            first, cost, summed = self.net._core.steps(
                self.net._plan,
                self.params,
                X,
                Y,
                weights,
                self.mean_weight,
                order,
                first,
                batch_size,
                self.l2,
                optimizer._rule,
                optimizer._state,
                optimizer,
                rate,
                self.finite,
                1 if scheduled else len(X),
                SECONDS_UNINTERRUPTED,
            )
            if not np.isfinite(cost):
                self._diverged(f"the cost is {cost} at epoch {epoch}, step {first // batch_size + 1}")
            costs += summed
        if not np.isfinite(self.params).all():
            self._diverged(f"the parameters are not finite after epoch {epoch}")
        return costs / len(X)

    def undo_half_a_step(self) -> None:
        """After an interrupt in the middle of an optimizer's step: the parameters of the last whole one."""
        if self.stepping:
            self.params[...] = self.before

    def _diverged(self, what: str) -> None:
        self.params[...] = self.finite
        raise FloatingPointError(
            f"{what}; params are the last ones whose cost was finite. A smaller learning rate or scaled inputs may "
            f"help; NaN or infinity in X or Y would show in the first step"
        )


def _check_params(net: Network, given: object) -> Floats:
    params = arrays.view("params", given)
    if params.dtype != net.dtype:
        raise ValueError(f"params has dtype {params.dtype}, but the network's is {net.dtype}")
    if params.shape != (net.n_parameters,):
        raise ValueError(f"params has shape {params.shape}, but the network takes ({net.n_parameters},)")
    arrays.writable("params", params)
    return params


def _validation(net: Network, params: Floats, data: tuple[Any, ...] | None) -> tuple[Array, Array, Array | None] | None:
    if data is None:
        return None
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise TypeError("validation_data is not a tuple (X, Y) or (X, Y, sample_weight)")
    try:
        X = arrays.matrix("X", data[0], net.sizes[0])
        weights, total = arrays.sample_weights(data[2] if len(data) == 3 else None, len(X), net.dtype)
        Y = arrays.targets(data[1], len(X), net.sizes[-1], net.loss, weights)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation_data: {error}") from None
    if not total > 0:
        raise ValueError("validation_data has no rows of any weight")
    for array in (X, Y, weights):
        if array is not None and arrays.overlap(params, array):
            raise ValueError("params shares memory with validation_data")
    return X, Y, weights


def _bar(epochs: int) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError("progress=True needs the package tqdm: pip install 'bpcore[progress]'") from None
    return tqdm(total=epochs, unit="epoch")
