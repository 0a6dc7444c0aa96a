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
    #: What the network leaves out, as it depends on the targets alone.
    constant: Callable[[Any], Any] | None = None
    #: Whether scikit-learn reports the mean over the outputs, and not their sum.
    mean_over_outputs: bool = True
    #: The best constant prediction of targets, with which the bias of the outputs begins; None: drawn, as theirs.
    start: Callable[[Any, float | None], Any] | None = None


def _log_mean(y: Any, _: float | None) -> Any:
    mean = y.mean(axis=0)
    return np.log(np.where(mean > 0, mean, 1))


def _median(y: Any, _: float | None) -> Any:
    return np.median(y, axis=0)


def _quantile(y: Any, quantile: float | None) -> Any:
    return np.quantile(y, quantile, axis=0)  # type: ignore[arg-type]


REGRESSION: dict[str, RegressionLoss] = {
    "squared_error": RegressionLoss(),
    "poisson": RegressionLoss("exp", low=0.0, constant=lambda y: xlogy(y, y) - y, mean_over_outputs=False),
    "huber": RegressionLoss(option="delta", start=_median),
    "absolute_error": RegressionLoss(start=_median),
    "quantile": RegressionLoss(option="quantile", start=_quantile),
    "gamma": RegressionLoss(
        "exp", low=0.0, strict=True, constant=lambda y: -np.log(y) - 1, mean_over_outputs=False, start=_log_mean
    ),
    "tweedie": RegressionLoss("exp", "power", 0.0, mean_over_outputs=False, start=_log_mean),
}


def reported(loss: RegressionLoss, n_outputs: int) -> Callable[[float, Array, Floats | None], float] | None:
    """How the reported loss of a batch follows from the network's; None if it is the same."""
    scale = 1 / n_outputs if loss.mean_over_outputs else 1.0
    constant = loss.constant
    if constant is None:
        return None if scale == 1 else lambda mean, Y, weights: mean * scale
    return lambda mean, Y, weights: mean * scale + float(np.average(constant(Y), axis=0, weights=weights).sum())
