"""The losses of the estimators: how the network names them, what scikit-learn reports, and where training begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import xlogy

from bpcore._validation import Array, Floats


@dataclass(frozen=True)
class RegressionLoss:
    """A loss of :class:`MLPRegressor`."""

    #: Of the network's output layer, and as scikit-learn calls it.
    output: str = "identity"
    #: The estimator's parameter that belongs to it, of the same name in :class:`bpcore.Network`.
    option: str | None = None
    #: The least target, and whether it is allowed itself.
    low: float = -np.inf
    strict: bool = False
    #: What the network leaves out, as it depends on the targets (and the loss's parameter) alone.
    constant: Callable[[Any, Any], Any] | None = None
    #: Whether scikit-learn reports the mean over the outputs, and not their sum.
    mean_over_outputs: bool = True
    #: The bias of the outputs that is the best constant for targets, weights and parameter; None: drawn, as theirs.
    start: Callable[[Any, Any, Any], Any] | None = None


def _log_mean(y: Any, weights: Any, _: Any) -> Any:
    mean = np.average(y, axis=0, weights=weights)
    return np.log(np.where(mean > 0, mean, 1))


def _median(y: Any, weights: Any, _: Any) -> Any:
    return _quantile(y, weights, 0.5)


def _quantile(y: Any, weights: Any, quantile: Any) -> Any:
    """NumPy's; with weights, the least target that has at least this part of the weight at or below it."""
    if weights is None:
        return np.quantile(y, quantile, axis=0)
    order = np.argsort(y, axis=0)
    below = np.cumsum(weights[order], axis=0)
    first = np.argmax(below >= quantile * below[-1], axis=0)
    return np.take_along_axis(y, np.take_along_axis(order, first[None], axis=0), axis=0)[0]


REGRESSION: dict[str, RegressionLoss] = {
    "squared_error": RegressionLoss(),
    "poisson": RegressionLoss("exp", low=0.0, constant=lambda y, _: xlogy(y, y) - y, mean_over_outputs=False),
    "huber": RegressionLoss(option="delta", start=_median),
    "absolute_error": RegressionLoss(start=_median),
    "quantile": RegressionLoss(option="quantile", start=_quantile),
    "gamma": RegressionLoss(
        "exp", low=0.0, strict=True, constant=lambda y, _: -np.log(y) - 1, mean_over_outputs=False, start=_log_mean
    ),
    "tweedie": RegressionLoss(
        "exp",
        "power",
        low=0.0,
        constant=lambda y, p: y ** (2 - p) / ((1 - p) * (2 - p)),
        mean_over_outputs=False,
        start=_log_mean,
    ),
}


def reported(
    loss: RegressionLoss, n_outputs: int, parameter: float | None
) -> Callable[[float, Array, Floats | None], float] | None:
    """How the reported loss of a batch follows from the network's; None if it is the same."""
    scale = 1 / n_outputs if loss.mean_over_outputs else 1.0
    constant = loss.constant
    if constant is None:
        return None if scale == 1 else lambda mean, Y, weights: mean * scale
    return lambda mean, Y, weights: (
        mean * scale + float(np.average(constant(Y, parameter), axis=0, weights=weights).sum())
    )
