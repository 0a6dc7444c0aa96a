"""Optimizers: the steps of gradient descent, in place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _dispatch, _validation
from ._validation import Floats

#: A learning rate, or a function that gives it for each step, counted from 0.
LearningRate: TypeAlias = float | Callable[[int], float]


class Optimizer(Protocol):
    """What :func:`bpcore.train` needs of an optimizer: any object with this method."""

    def step(self, params: Floats, grad: Floats) -> None:
        """Change ``params`` in place."""


class _BaseOptimizer:
    """What the optimizers share: a learning rate, a count of steps, and state that belongs to one vector's shape.

    Attributes
    ----------
    learning_rate : float or callable
    steps : int
        Steps taken.
    last_learning_rate : float or None
        The rate of the last step.
    """

    learning_rate: LearningRate
    steps: int

    def __init__(self, learning_rate: LearningRate) -> None:
        if not callable(learning_rate):
            learning_rate = _validation.check_scalar("learning_rate", learning_rate)
        self.learning_rate = learning_rate
        self.reset()

    def reset(self) -> None:
        """Start anew: no steps taken, no velocity, no moments."""
        self.steps = 0
        self.last_learning_rate: float | None = None
        self._state: tuple[Floats, ...] = ()

    def __copy__(self) -> Self:
        return copy.deepcopy(self)  # a shallow copy would share the state that a step changes

    @property
    def current_learning_rate(self) -> float:
        """The rate of the step to come."""
        rate = self.learning_rate
        return _validation.check_scalar("learning_rate", rate(self.steps) if callable(rate) else rate)

    def _replace_state(self, params: Floats, replaced: Callable[[Floats], Floats]) -> None:
        """Put other vectors in the place of the state, if there is any, which must be that of ``params``."""
        for state in self._state:
            if state.shape != params.shape:
                raise ValueError(f"optimizer must have state of the shape of params, {params.shape}, got {state.shape}")
        self._state = tuple(replaced(state) for state in self._state)

    #: How many vectors of state there are, and what else the update takes beside the learning rate.
    _n_state: int
    _hyperparameters: tuple[Any, ...]

    def _try_step(self, params: object, grad: object) -> bool:
        """Whether the backend took the step at once: not the first, nor one whose arguments need a closer look."""
        rate: Any = self.learning_rate
        taken: bool = _dispatch.core.try_step(params, grad, self._state, self._hyperparameters, rate, self.steps + 1)
        if taken:
            self.last_learning_rate = rate
        return taken

    def _prepare(self, params: object, grad: object) -> tuple[Floats, Floats, float]:
        """Check both vectors, make the state on the first step; both as the backends take them, and the rate.

        Nothing is changed before all is checked.
        """
        params = _validation.view("params", params)
        if params.dtype not in (np.dtype("float32"), np.dtype("float64")):
            raise TypeError(f"params must have dtype float32 or float64, got {params.dtype}")
        if params.ndim != 1:
            raise ValueError(f"params must be a flat vector, got shape {params.shape}")
        _validation.check_writable("params", params)
        given = _validation.real_array("grad", grad)
        if given.shape != params.shape:
            raise ValueError(f"grad must have the shape of params, {params.shape}, got {given.shape}")
        if _validation.overlap(params, given):
            raise ValueError("grad must not share memory with params")
        return params, _validation.as_contiguous(given, params.dtype), self._start(params)

    def _start(self, params: Floats) -> float:
        """Make the state on the first step, check it on any other; the rate of the step."""
        rate = self.current_learning_rate
        if not self._state:
            self._state = tuple(_validation.aligned_zeros_like(params) for _ in range(self._n_state))
        for state in self._state:
            if state.shape != params.shape or state.dtype != params.dtype:
                raise ValueError(
                    f"params must have shape {state.shape} and dtype {state.dtype}, as in the steps before, got "
                    f"{params.shape} and {params.dtype}; reset() forgets those"
                )
        self.last_learning_rate = rate
        return rate


class GradientDescent(_BaseOptimizer):
    """Gradient descent: ``v = momentum * v + g``, ``p -= learning_rate * v``, PyTorch's convention.

    With ``nesterov``, ``p -= learning_rate * (g + momentum * v)``.

    Parameters
    ----------
    learning_rate : float or callable
        Not negative. A callable is a schedule: called with the number of steps taken, it returns the rate.
    momentum : float, default 0
        From 0 to 1.
    nesterov : bool, default False
        Needs a momentum.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    References
    ----------
    I. Sutskever et al. (2013), PMLR 28(3):1139-1147.

    Examples
    --------
    >>> params = np.array([1.0, 2.0])
    >>> optimizer = bpcore.GradientDescent(0.5, momentum=0.9)
    >>> optimizer.step(params, np.array([1.0, 1.0]))
    >>> params
    array([0.5, 1.5])
    >>> optimizer.steps
    1
    """

    def __init__(self, learning_rate: LearningRate, momentum: float = 0.0, nesterov: bool = False) -> None:
        momentum = _validation.check_scalar("momentum", momentum, high=1.0)
        if not isinstance(nesterov, (bool, np.bool_)):
            raise TypeError(f"nesterov must be True or False, got {nesterov!r}")
        if nesterov and not momentum:
            raise ValueError("momentum must be > 0 with nesterov, got 0")
        self._n_state, self._hyperparameters = (1 if momentum else 0), (momentum, bool(nesterov))
        super().__init__(learning_rate)

    @property
    def momentum(self) -> float:
        """The momentum; fixed, as the velocity belongs to it."""
        momentum: float = self._hyperparameters[0]
        return momentum

    @property
    def nesterov(self) -> bool:
        """Whether the momentum is Nesterov's; fixed, too."""
        nesterov: bool = self._hyperparameters[1]
        return nesterov

    def __repr__(self) -> str:
        return f"GradientDescent({self.learning_rate!r}, momentum={self.momentum}, nesterov={self.nesterov})"

    def step(self, params: Any, grad: npt.ArrayLike) -> None:
        """Take one step, in place.

        Parameters
        ----------
        params : ndarray of shape (n,), float32 or float64
            Changed in place, never copied: C-contiguous and writable. Any object that exposes its memory as an array
            (buffer protocol, ``__array__`` or DLPack) is accepted, such as a PyTorch tensor on the CPU without grad.
        grad : array_like of shape (n,)
            Read in place if it is an array or such an object; another real dtype or layout is copied. Not changed.

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong, or its shape differs from that of the steps before; nothing is changed then.
        """
        if not self._try_step(params, grad):
            params, grad, rate = self._prepare(params, grad)
            velocity = self._state[0] if self._state else None
            _dispatch.core.gradient_descent_step(params, grad, velocity, rate, *self._hyperparameters)
        self.steps += 1


class Adam(_BaseOptimizer):
    """Adam: steps scaled by running means of the gradient and of its square, both corrected for their start at 0.

    Parameters
    ----------
    learning_rate : float or callable, default 1e-3
        As in :class:`GradientDescent`.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the two means, from 0 to less than 1.
    epsilon : float, default 1e-8
        Added to the root, outside it, as in the paper and in PyTorch.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    References
    ----------
    D. P. Kingma and J. Ba (2015), arXiv:1412.6980, algorithm 1.

    Examples
    --------
    >>> params = np.array([1.0, 2.0])
    >>> bpcore.Adam(0.1).step(params, np.array([3.0, -5.0]))
    >>> params.round(6)
    array([0.9, 2.1])
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        beta1 = _validation.check_scalar("beta1", beta1, high=1.0, below=True)
        beta2 = _validation.check_scalar("beta2", beta2, high=1.0, below=True)
        self._n_state, self._hyperparameters = 2, (beta1, beta2, _validation.check_scalar("epsilon", epsilon))
        super().__init__(learning_rate)

    @property
    def beta1(self) -> float:
        """Decay of the mean; fixed, like the other two."""
        beta1: float = self._hyperparameters[0]
        return beta1

    @property
    def beta2(self) -> float:
        """Decay of the mean of the squares."""
        beta2: float = self._hyperparameters[1]
        return beta2

    @property
    def epsilon(self) -> float:
        """What is added to the root."""
        epsilon: float = self._hyperparameters[2]
        return epsilon

    def __repr__(self) -> str:
        return f"Adam({self.learning_rate!r}, beta1={self.beta1}, beta2={self.beta2}, epsilon={self.epsilon})"

    def step(self, params: Any, grad: npt.ArrayLike) -> None:
        """Take one step, in place; see :meth:`GradientDescent.step`."""
        if not self._try_step(params, grad):
            params, grad, rate = self._prepare(params, grad)
            _dispatch.core.adam_step(params, grad, self._state, self._hyperparameters, rate, self.steps + 1)
        self.steps += 1
