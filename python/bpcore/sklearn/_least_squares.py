"""Levenberg-Marquardt for the squared error of a small network: rows in blocks, a dense matrix of the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

from bpcore._validation import Floats
from bpcore.network import Network

from ._epochs import Rows

#: Numbers of a block of the Jacobian.
BLOCK = 1 << 20
#: Parameters at most: the matrix then has 1 GiB.
MAX_PARAMETERS = 11_585


class LeastSquares:
    """Half the squares of the residuals, weighted, and of the weights times ``alpha``; gradient and matrix J^T J."""

    def __init__(self, net: Network, rows: Rows, alpha: float, weights_mask: Floats, threads: int | None) -> None:
        self.net, self.threads = net, threads
        self.X = rows.X if isinstance(rows.X, np.ndarray) else rows.X.toarray()
        self.Y = rows.Y.astype(np.float64)
        weights = np.ones(len(rows)) if rows.sample_weight is None else rows.sample_weight.astype(np.float64)
        self.root = np.sqrt(weights)[:, None]
        self.decay = alpha * weights_mask.astype(np.float64)

    def _residuals(self, x: Floats) -> Floats:
        return self.root * (self.net.forward(x.astype(self.net.dtype), self.X, threads=self.threads) - self.Y)

    def cost(self, x: Floats) -> float:
        """The sum itself."""
        r = self._residuals(x).ravel()
        return 0.5 * float(r @ r + self.decay @ (x * x))

    def gradient_and_matrix(self, x: Floats) -> tuple[Floats, Floats]:
        """The gradient, and the Gauss-Newton matrix, whose upper triangle is the sum over blocks of rows."""
        params, r = x.astype(self.net.dtype), self._residuals(x)
        n, k = len(x), self.Y.shape[1]
        gradient, matrix = self.decay * x, np.diag(self.decay)
        size = max(BLOCK // (n * k), 1)
        for first in range(0, len(self.X), size):
            block = slice(first, first + size)
            J = self.net.jacobian(params, self.X[block], threads=self.threads).astype(np.float64, copy=False)
            J *= self.root[block][:, :, None]
            J = J.reshape(-1, n)
            gradient += r[block].ravel() @ J
            matrix += J.T @ J
        return gradient, matrix


def minimize(
    problem: LeastSquares, x: Floats, max_iter: int, precision: float, after: Callable[[int, Floats, float], Any]
) -> tuple[Floats, float, int, bool]:
    """Levenberg-Marquardt with Nielsen's damping, until a step gains less than ``precision`` of the sum.

    ``after`` is called with the number of the iteration, the parameters and the sum; a true result ends it. Returns the
    parameters, the sum, the number of iterations (evaluations of the sum), and whether it is done.

    References
    ----------
    K. Madsen, H. B. Nielsen and O. Tingleff (2004), Methods for non-linear least squares problems, algorithm 3.16.
    """
    cost = problem.cost(x)
    if not np.isfinite(cost):
        return x, cost, 0, False
    gradient, matrix = problem.gradient_and_matrix(x)
    damping, growth = 1e-3 * float(np.max(np.diag(matrix))) or 1.0, 2.0
    for iteration in range(1, max_iter + 1):
        damped = matrix + damping * np.eye(len(x))
        try:
            step = scipy.linalg.solve(damped, -gradient, assume_a="pos", overwrite_a=True)
        except (scipy.linalg.LinAlgError, ValueError):  # singular to rounding, or not finite
            step = None
        if step is not None:
            predicted = 0.5 * float(step @ (damping * step - gradient))
            if predicted <= precision * cost * 1e-3:
                return x, cost, iteration, True
            reached = problem.cost(x + step)
            gain = (cost - reached) / predicted
        if step is None or not gain > 0:
            damping, growth = damping * growth, 2 * growth
            if not np.isfinite(damping):
                return x, cost, iteration, True
            if after(iteration, x, cost):
                return x, cost, iteration, True
            continue
        done = max(cost - reached, predicted) <= precision * cost
        x, cost = x + step, reached
        if after(iteration, x, cost) or done:
            return x, cost, iteration, True
        gradient, matrix = problem.gradient_and_matrix(x)
        damping, growth = damping * max(1 / 3, 1 - (2 * gain - 1) ** 3), 2.0
    return x, cost, max_iter, False
