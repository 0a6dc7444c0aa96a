"""Gradient descent as scikit-learn takes it: optimizers, schedules of the learning rate, epochs of mini-batches.

The steps are those of its ``sgd`` and ``adam`` to the last term: ``alpha`` divided by the rows of the batch (or by the
sum of their weights), Adam's epsilon beside the root of the uncorrected mean, velocities that keep the rates they were
made with. Schedules that scikit-learn lacks change the rate of the whole velocity, as in PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from bpcore import _chunks, _validation
from bpcore._validation import Array, Batch, Floats
from bpcore.fallback import Batches, Update
from bpcore.network import Network
from bpcore.optimizers import Adam, GradientDescent
from bpcore.training import SECONDS_UNINTERRUPTED

Order: TypeAlias = npt.NDArray[np.int64]


class _Descent(GradientDescent):
    """Gradient descent whose velocity keeps the learning rates that it was made with, as scikit-learn's does.

    Its velocity is the sum of steps, ``v = momentum * v - rate * g``; ours is that of gradients. The two differ where
    the rate changes, so the velocity is scaled by the ratio of the rates then.
    """

    def set_learning_rate(self, rate: float) -> None:
        """Go on with another constant rate."""
        if rate != self.learning_rate:
            ratio = float(self.learning_rate) / rate  # type: ignore[arg-type]
            for velocity in self._state:
                velocity *= ratio
            self.learning_rate = rate


class _Adam(Adam):
    """Adam with the epsilon of scikit-learn and Keras, beside the root of the mean before its correction.

    ``rate sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + epsilon)``: the same as an epsilon of
    ``epsilon / sqrt(1 - beta2^t)`` in the paper's algorithm 1, step by step.
    """

    _given: tuple[float, float, float]

    @property
    def _hyperparameters(self) -> tuple[float, float, float]:
        beta1, beta2, epsilon = self._given
        return beta1, beta2, epsilon / math.sqrt(1 - beta2 ** (self.steps + 1))

    @_hyperparameters.setter
    def _hyperparameters(self, given: tuple[float, float, float]) -> None:
        self._given = given

    def set_learning_rate(self, rate: float) -> None:
        """Go on with another constant rate."""
        self.learning_rate = rate


#: The rate by that of the start, for the part of the steps that is done, from 0 to 1.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    # L. N. Smith and N. Topin (2019), with PyTorch's constants: up from 1/25 in 0.3 of the steps, down to 1e-4/25.
    "one_cycle": lambda done: (
        _between(1 / 25, 1.0, done / 0.3) if done < 0.3 else _between(1.0, 1e-4 / 25, (done - 0.3) / 0.7)
    ),
    "step": lambda done: 0.1 ** min(int(3 * done), 2),
}


def _between(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


@dataclass
class Rows:
    """What is learned from: features, targets as the network takes them, weights."""

    X: Any  # (m, n) array, C-contiguous and of the network's dtype, or a sparse matrix in rows
    Y: Array
    sample_weight: Floats | None

    def __len__(self) -> int:
        return int(self.X.shape[0])

    def batch(self, rows: Any) -> tuple[Floats, Array, Floats | None]:
        """Some of them, dense."""
        X = self.X[rows]
        weights = None if self.sample_weight is None else self.sample_weight[rows]
        return (X if isinstance(X, np.ndarray) else X.toarray()), self.Y[rows], weights


@dataclass
class Penalties:
    """What is added to the gradient of the data, and done to it."""

    alpha: float = 0.0
    l1: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = None


class Epochs:
    """Passes over the rows, each a step for each mini-batch, that change ``params`` in place.

    Parameters
    ----------
    net, params, optimizer, rows, batch_size, penalties, threads
    weights_mask : ndarray of shape (n_parameters,)
        1 for weights, 0 for biases.
    loss_of : callable
        The loss that is reported, from the mean over the rows of what the network minimises: ``loss_of(mean, Y,
        weights)``; None if it is the same.
    rate_at : callable, optional
        The learning rate of a step, from its number.
    """

    def __init__(
        self,
        net: Network,
        params: Floats,
        optimizer: _Descent | _Adam,
        rows: Rows,
        batch_size: int,
        penalties: Penalties,
        weights_mask: Floats,
        loss_of: Callable[[float, Array, Floats | None], float] | None = None,
        rate_at: Callable[[int], float] | None = None,
        threads: int | None = None,
    ) -> None:
        self.net, self.params, self.optimizer, self.rows, self.batch_size = net, params, optimizer, rows, batch_size
        self.penalties, self.weights_mask, self.loss_of, self.rate_at = penalties, weights_mask, loss_of, rate_at
        self.threads = threads
        self.grad, self.last_finite_params = np.empty_like(params), params.copy()
        self.diverged = False  # whether a cost was not finite
        plain = not (penalties.l1 or penalties.weight_decay or penalties.clip_norm)
        self.in_core = (
            plain and isinstance(rows.X, np.ndarray) and batch_size <= (net._plan.chunk_rows * net._plan.group_size)
        )
        self.block, self.m, self.started = tuple(Batch(rows.X, rows.Y, rows.sample_weight)), len(rows), False
        self.n_threads = _chunks.n_threads(net._plan, batch_size, threads)
        # Where nothing changes from step to step, the backend takes them all in one call.
        one_by_one = isinstance(optimizer, Adam) or rows.sample_weight is not None or loss_of is not None or rate_at
        self.max_steps = 1 if one_by_one else self.m

    def run(self, order: Order | None) -> float:
        """One epoch: the mean of the batches' losses by their rows, each before its step."""
        m, first, total = self.m, 0, 0.0
        while first < m:
            if self.rate_at is not None:
                rate = self.rate_at(self.optimizer.steps)
                self.optimizer.learning_rate = _validation.check_scalar("learning_rate", rate)
            if self.in_core:
                first, total = self._steps_in_core(order, first, total)
            else:
                n = min(self.batch_size, m - first)
                total += n * self._step(order, first, n)
                first += n
        return total / m

    def _steps_in_core(self, order: Order | None, first: int, total: float) -> tuple[int, float]:
        """Steps of as many batches as the backend takes in one call; where the next begins, and the sum of losses."""
        m, net, optimizer = self.m, self.net, self.optimizer
        n = min(self.batch_size, m - first)
        weights: Floats | None = None
        mean_weight = 1.0
        if self.rows.sample_weight is not None:
            weights = self._take(self.rows.sample_weight, order, first, n)
            mean_weight = float(weights.mean())
            if not mean_weight > 0:
                return first + n, total  # a batch of weight 0 makes no step
        penalty = 0.0 if self.loss_of is None else self._penalty(n * mean_weight)
        # The short batch at the end has an alpha of its own, and so a call.
        steps = min((m - first) // self.batch_size or 1, self.max_steps)
        if not self.started:
            optimizer._start(self.params)  # makes the state
            self.started = True
        batches = Batches(order, first, self.batch_size, steps, SECONDS_UNINTERRUPTED, self.n_threads, total)
        rate: Any = optimizer.learning_rate
        update = Update(optimizer, optimizer._hyperparameters, optimizer._state, rate, self.last_finite_params)
        l2 = self.penalties.alpha / (n * mean_weight)
        last, cost, costs = net._core.train_batches(
            net._plan, self.params, self.block, batches, mean_weight, l2, update
        )
        if self.loss_of is not None and last > first:
            loss = self.loss_of(cost - penalty, self._take(self.rows.Y, order, first, n), weights) + penalty
            costs = total + n * loss
        if not math.isfinite(cost):  # the backend does not take such a step, but scikit-learn goes on
            n = min(self.batch_size, m - last)
            return last + n, costs + n * self._step(order, last, n)
        return last, costs

    @staticmethod
    def _take(array: Any, order: Order | None, first: int, n: int) -> Any:
        return array[first : first + n] if order is None else array.take(order[first : first + n], axis=0)

    def _penalty(self, total: float) -> float:
        """The part of the network's cost that is no loss, where it has to be known."""
        if self.loss_of is None:
            return 0.0
        with np.errstate(all="ignore"):
            weights = self.params * self.weights_mask
            return 0.5 * self.penalties.alpha * float(weights @ weights) / total

    def _step(self, order: Order | None, first: int, n: int) -> float:
        """One step, by the calls that everyone has; the loss before it."""
        net, params, optimizer, penalties = self.net, self.params, self.optimizer, self.penalties
        X, Y, weights = self.rows.batch(slice(first, first + n) if order is None else order[first : first + n])
        total = float(n) if weights is None else float(weights.sum())
        if not total > 0:
            return 0.0
        penalty = self._penalty(total)
        with np.errstate(all="ignore"):
            l2 = penalties.alpha / total
            loss, grad = net.cost_and_gradient(params, X, Y, l2, weights, self.grad, threads=self.threads)
            self.diverged |= not math.isfinite(loss)
            if self.loss_of is not None:
                loss = self.loss_of(loss - penalty, Y, weights) + penalty
            if penalties.l1:
                loss += penalties.l1 / total * float(np.abs(params * self.weights_mask).sum())
            if penalties.clip_norm and (norm := float(np.linalg.norm(grad))) > penalties.clip_norm:
                grad *= penalties.clip_norm / norm
            if penalties.weight_decay:
                params *= 1 - optimizer.current_learning_rate * penalties.weight_decay * self.weights_mask
            optimizer.step(params, grad)
            if penalties.l1:
                self._shrink(optimizer.current_learning_rate * penalties.l1 / total)
        return loss

    def _shrink(self, by: float) -> None:
        """Bring the weights nearer to 0 by so much, and no further: the proximal step of the L1 penalty."""
        self.params[...] = np.sign(self.params) * np.maximum(np.abs(self.params) - by * self.weights_mask, 0)
