"""Training: gradient descent over mini-batches, with validation, early stopping, a callback and Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import _chunks, _validation
from ._validation import Array, Batch, Floats
from .fallback import Batches, Update
from .network import Network
from .optimizers import Adam, GradientDescent, Optimizer

#: How long the backend computes before it returns to look for a signal, such as Ctrl-C.
SECONDS_UNINTERRUPTED = 0.1

#: Bytes of the copies up to which data of another dtype or layout are converted once, before the first epoch: more than
#: data that train in minutes have, and less than what a machine that trains can spare.
MAX_CONVERTED_BYTES = 1 << 28

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
        For each epoch, the rate of its last step; empty if the optimizer has no ``last_learning_rate``.
    best_epoch : int or None
        With early stopping, the epoch (from 1) of the best cost. Its parameters were restored, unless Ctrl-C came.
    stopped : {"epochs", "patience", "callback", "interrupted"}
        What ended the run.
    seconds : float
        Wall-clock time of the run.

    Examples
    --------
    >>> net = bpcore.Network([2, 1])
    >>> history = bpcore.train(net, np.zeros(3), np.ones((4, 2)), np.ones(4), epochs=3)
    >>> history.stopped, history.epochs, history.cost[0]
    ('epochs', 3, 0.5)
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
        Of the network's dtype, C-contiguous and writable; changed in place. Any object that exposes its memory as an
        array (buffer protocol, ``__array__`` or DLPack) is accepted, such as a PyTorch tensor on the CPU without grad.
    X, Y, l2, sample_weight, threads
        As in :meth:`Network.cost_and_gradient`, with the same bits for every dtype and layout of the same numbers. If
        X, Y or sample_weight are not C-contiguous, native and of the network's dtype (int64 for labels), they are
        converted once, before the first epoch, and what a callback changes in them later has no effect. Where the
        copies would be more than 256 MB, or of a memory map of 64 MB and more, some batches at a time are converted, in
        each epoch. The weighted sums of a batch are divided by its number of rows times
        the mean weight of *all* rows, not by the batch's own weights: on average over the shuffles a step follows the
        weighted cost of the whole data, at any batch size. (Without shuffling, a last batch of fewer rows counts as
        much as the others.) In a batch of weight 0 only the penalty and the optimizer's state make a step.
    optimizer : GradientDescent, Adam or an object with their methods, default ``Adam()``
        It continues from the steps it has taken. Its ``learning_rate`` may be a schedule: a function of the step.
    epochs : int, default 100
        Maximum number of passes over the data.
    batch_size : int or None, default 32
        Rows per step; None: all rows.
    shuffle : bool, default True
        Whether each epoch takes the rows in a new random order.
    seed : int, Generator or None, default 0
        Random seed for that order, which is the same on every backend.
    validation_data : tuple (X, Y) or (X, Y, sample_weight), optional
        Its cost is computed after each epoch.
    patience : int, optional
        Stop early: when the cost (of the validation data, if any) has not become less than the best one, by more than
        ``tolerance``, for that many epochs. The best parameters are restored, also when the epochs run out.
    tolerance : float, default 0
        By how much a cost must be less than the best one to count as better.
    callback : callable, optional
        Called as ``callback(epoch, history)`` after each epoch, counted from 1; a true result ends the run.
    progress : bool, default False
        Show a progress bar on standard error; needs the package tqdm.
    threads : int, optional

    Returns
    -------
    history : History
        Also after Ctrl-C: ``history.stopped`` is ``"interrupted"``, and ``params`` are those of the last whole step.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong; nothing is changed then.
    FloatingPointError
        At the first cost that is not finite. ``params`` are the last ones whose cost was finite.
    ImportError
        If ``progress`` is true and tqdm is not installed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> Y = X[:, :1] * X[:, 1:]
    >>> net = bpcore.Network([2, 16, 1], hidden="tanh")
    >>> params = net.initialize(seed=0)
    >>> history = bpcore.train(net, params, X, Y, optimizer=bpcore.Adam(0.01), epochs=100)
    >>> net.cost(params, X, Y) < 0.1 * history.cost[0]
    True
    """
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Network, got {type(net).__name__}")
    params = _check_params(net, params)
    batch, total = _validation.check_batch(net, X, Y, sample_weight)
    m = len(batch.X)
    _validation.check_rows(batch, total)
    for name, array in zip(batch._fields, batch):
        if isinstance(array, np.ndarray) and _validation.overlap(params, array):
            raise ValueError(f"params must not share memory with {name}")
    epochs = _validation.check_int("epochs", epochs, 1)
    batch_size = m if batch_size is None else _validation.check_int("batch_size", batch_size, 1)
    l2 = _validation.check_scalar("l2", l2)
    tolerance = _validation.check_scalar("tolerance", tolerance)
    for name, flag in (("shuffle", shuffle), ("progress", progress)):
        if not isinstance(flag, (bool, np.bool_)):
            raise TypeError(f"{name} must be True or False, got {flag!r}")
    patience = None if patience is None else _validation.check_int("patience", patience, 1)
    if threads is not None:
        _validation.check_int("threads", threads, 1)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, got {callback!r}")
    optimizer = Adam() if optimizer is None else optimizer
    if isinstance(optimizer, type) or not callable(getattr(optimizer, "step", None)):
        raise TypeError(f"optimizer must be GradientDescent, Adam or have a method step, got {optimizer!r}")
    validation = _check_validation_data(net, params, validation_data)
    generator = _validation.check_generator(seed)
    bar = progress_bar(epochs) if progress else None

    trainer = _Trainer(net, params, optimizer, l2, total / m, threads)
    history = History()
    best_cost, best_params = np.inf, params.copy()
    start = time.perf_counter()
    batch = _converted(batch, net.dtype)
    try:
        for epoch in range(1, epochs + 1):
            # All rows at once need no order, and are not copied.
            order = generator.permutation(m) if shuffle and batch_size < m else None
            history.cost.append(trainer.epoch(epoch, batch, order, batch_size))
            if (rate := getattr(optimizer, "last_learning_rate", None)) is not None:
                history.learning_rate.append(float(rate))
            cost = history.cost[-1]
            if validation is not None:
                Xv, Yv, wv = validation[:3]
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
        trainer.rollback_step()
        history.stopped = "interrupted"
    finally:
        if bar is not None:
            bar.close()
        history.seconds = time.perf_counter() - start
    if history.best_epoch is not None and history.stopped != "interrupted":
        params[...] = best_params
    return history


class _Trainer:
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
        self.last_finite_params = params.copy()
        self.before = params.copy()
        self.stepping = False

    def epoch(
        self,
        epoch: int,
        batch: Batch,
        order: npt.NDArray[np.intp] | None,
        batch_size: int,
    ) -> float:
        """One step for each batch; the mean of their costs, by their rows."""
        if self._in_core(batch_size):
            return self._epoch_in_core(epoch, batch, order, batch_size)
        X, Y, weights, _ = batch
        costs = 0.0
        for step, first in enumerate(range(0, len(X), batch_size), 1):
            last = min(first + batch_size, len(X))
            rows: Any = slice(first, last) if order is None else order[first:last]
            w = None if weights is None else weights[rows]
            cost = self._cost_and_gradient(Batch(X[rows], Y[rows], w))
            if not np.isfinite(cost):
                self._diverged(f"the cost is {cost} at epoch {epoch}, step {step}")
            self.before[...] = self.params
            if np.isfinite(self.before).all():  # an activation may hide from the cost that they are not
                self.last_finite_params[...] = self.before
            self.stepping = True
            self.optimizer.step(self.params, self.grad)
            self.stepping = False
            costs += (last - first) * cost
        if not np.isfinite(self.params).all():
            self._diverged(f"the parameters are not finite after epoch {epoch}")
        return costs / len(X)

    def _cost_and_gradient(self, batch: Batch) -> float:
        """The cost of a batch, its gradient in ``self.grad``; both are means by the mean weight of all rows."""
        net, params, grad = self.net, self.params, self.grad
        if batch.sample_weight is None:
            return net.cost_and_gradient(params, batch.X, batch.Y, self.l2, None, grad, self.threads)[0]
        losses, sums = _chunks.sum_gradients(net._core, net._plan, params, batch, self.threads, grad)
        total = len(batch.X) * self.mean_weight
        net._core.finish(net._plan, params, sums, total, self.l2, grad)
        return float(net._core.cost(net._plan, params, losses, total, self.l2))

    def _in_core(self, batch_size: int) -> bool:
        """Whether the backend can take the steps: our own optimizers, and batches that it adds up in one dtype."""
        return (
            type(self.optimizer) in (GradientDescent, Adam)
            and "step" not in vars(self.optimizer)  # replaced by the caller, to clip gradients for example
            and batch_size <= self.net._plan.chunk_rows * self.net._plan.group_size
        )

    def _blocks(
        self, batch: Batch, order: npt.NDArray[np.intp] | None, batch_size: int
    ) -> Iterator[tuple[Batch, npt.NDArray[np.int64] | None]]:
        """Rows as the backend takes them, and their order: all of them, or those of several batches after the other."""
        dtype = self.net.dtype
        if _is_native(batch, dtype):
            yield batch, None if order is None else order.astype(np.int64, copy=False)
            return
        row_bytes = sum(array[:1].size * of_core.itemsize for array, of_core in zip(batch.arrays, batch.dtypes(dtype)))
        size = max(_chunks.BLOCK_BYTES // row_bytes // batch_size, 1) * batch_size
        for first in range(0, len(batch.X), size):
            rows: Any = slice(first, first + size) if order is None else order[first : first + size]
            X, Y, weights, _ = batch
            part = Batch(_gather(X, rows), _gather(Y, rows), None if weights is None else _gather(weights, rows))
            yield Batch(*part.block(0, size, dtype)), None

    def _epoch_in_core(
        self,
        epoch: int,
        batch: Batch,
        order: npt.NDArray[np.intp] | None,
        batch_size: int,
    ) -> float:
        """The same, with the loop in the backend, which returns for signals and for each rate of a schedule."""
        m = len(batch.X)
        optimizer: Any = self.optimizer
        costs, done = 0.0, 0
        threads = _chunks.n_threads(self.net._plan, batch_size, self.threads)
        for block, order_of_block in self._blocks(batch, order, batch_size):
            first = 0
            while first < len(block.X):
                steps = 1 if callable(optimizer.learning_rate) else m
                rate = optimizer._start(self.params)
                batches = Batches(order_of_block, first, batch_size, steps, SECONDS_UNINTERRUPTED, threads, costs)
                update = Update(optimizer, optimizer._hyperparameters, optimizer._state, rate, self.last_finite_params)
                first, cost, costs = self.net._core.train_batches(
                    self.net._plan, self.params, tuple(block), batches, self.mean_weight, self.l2, update
                )
                if not np.isfinite(cost):
                    self._diverged(f"the cost is {cost} at epoch {epoch}, step {(done + first) // batch_size + 1}")
            done += first
        if not np.isfinite(self.params).all():
            self._diverged(f"the parameters are not finite after epoch {epoch}")
        return costs / m

    def rollback_step(self) -> None:
        """After an interrupt in the middle of an optimizer's step: the parameters of the last whole one."""
        if self.stepping:
            self.params[...] = self.before

    def _diverged(self, what: str) -> None:
        self.params[...] = self.last_finite_params
        raise FloatingPointError(
            f"{what}; params are the last ones whose cost was finite. A smaller learning rate or scaled inputs may "
            f"help; NaN or infinity in X or Y would show in the first step"
        )


def _gather(array: Array, rows: Any) -> Array:
    """``array[rows]``; short rows in any order are sooner there by `take`, which copies other layouts as a whole."""
    native = _validation.is_native(array, array.dtype.newbyteorder("="))
    gathered: Array = array.take(rows, axis=0) if native and not isinstance(rows, slice) else array[rows]
    return gathered


def _is_native(batch: Batch, dtype: np.dtype[Any]) -> bool:
    return all(_validation.is_native(*pair) for pair in zip(batch.arrays, batch.dtypes(dtype)))


def _converted(batch: Batch, dtype: np.dtype[Any]) -> Batch:
    """The rows as the backend takes them, copied where they must be; as they came if the copies would be too large."""
    pairs = zip(batch.arrays, batch.dtypes(dtype))
    others = [(array, of_core) for array, of_core in pairs if not _validation.is_native(array, of_core)]
    size = sum(array.size * of_core.itemsize for array, of_core in others)
    if size > MAX_CONVERTED_BYTES or any(_validation.is_large_map(array) for array, _ in others):
        return batch
    return Batch(*batch.block(0, len(batch.X), dtype))


def _check_params(net: Network, given: object) -> Floats:
    params = _validation.view("params", given)
    if params.dtype != net.dtype:
        raise ValueError(f"params must have the network's dtype, {net.dtype}, got {params.dtype}")
    if params.shape != (net.n_parameters,):
        raise ValueError(f"params must have shape ({net.n_parameters},), got {params.shape}")
    _validation.check_writable("params", params)
    return params


def _check_validation_data(net: Network, params: Floats, data: tuple[Any, ...] | None) -> Batch | None:
    if data is None:
        return None
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        came = f"{len(data)} items" if isinstance(data, (tuple, list)) else type(data).__name__
        raise TypeError(f"validation_data must be a tuple (X, Y) or (X, Y, sample_weight), got {came}")
    try:
        weights = data[2] if len(data) == 3 else None
        batch, total = _validation.check_batch(net, data[0], data[1], weights)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation_data: {error}") from None
    if not total > 0:
        raise ValueError("validation_data must have a row of a weight > 0, got none")
    if any(_validation.overlap(params, array) for array in batch.arrays):
        raise ValueError("params must not share memory with validation_data")
    return batch


def progress_bar(epochs: int) -> Any:
    """tqdm's, on standard error."""
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError("progress=True needs the package tqdm: pip install 'bpcore[progress]'") from None
    return tqdm(total=epochs, unit="epoch")
