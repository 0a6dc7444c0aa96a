"""Types of a compiled core; :mod:`bpcore.fallback` says what each function does."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import Array, Floats

class Plan:
    def __init__(
        self, sizes: tuple[int, ...], activations: tuple[str, ...], loss: str, dtype: np.dtype[Any]
    ) -> None: ...
    @property
    def slot(self) -> int: ...
    @property
    def together(self) -> int: ...

INSTRUCTION_SETS: dict[str, tuple[int, int]]

def cpu_features() -> list[str]: ...
def workspace_layout(
    sizes: tuple[int, ...],
    activations: tuple[str, ...],
    loss: str,
    dtype: np.dtype[Any],
    instruction_set: str,
    guard: int = 0,
) -> dict[str, Any]: ...
def check_layouts(
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    third: npt.NDArray[np.int64],
    dtype: np.dtype[Any],
    instruction_set: str,
    guard: int = 0,
) -> int: ...
def cancel(cancelled: bytearray) -> None: ...
def forward(plan: Plan, params: Floats, X: Floats, out: Floats, told: bytearray | None = None) -> None: ...
def trace(plan: Plan, params: Floats, X: Floats, activations: list[Floats], slopes: list[Floats | None]) -> None: ...
def backward(
    plan: Plan,
    params: Floats,
    activations: list[Floats],
    slopes: list[Floats | None],
    output_gradient: Floats,
    sums: Floats,
    input_gradient: Floats | None,
) -> None: ...
def accumulate(
    plan: Plan,
    params: Floats,
    X: Floats,
    Y: Array,
    sample_weight: Floats | None,
    sums: Floats,
    told: bytearray | None = None,
    cut: tuple[int, int, int, int] | None = None,
) -> float: ...
def loss(
    plan: Plan, params: Floats, X: Floats, Y: Array, sample_weight: Floats | None, told: bytearray | None = None
) -> float: ...
def finish(plan: Plan, params: Floats, sums: Floats, weight: float, l2: float, out: Floats) -> None: ...
def cost(plan: Plan, params: Floats, losses: float, weight: float, l2: float) -> float: ...
def cost_and_gradient(
    plan: Plan, params: object, X: object, Y: object, l2: object, out: object, most: int
) -> tuple[float, Floats] | None: ...
def forward_directly(plan: Plan, params: object, X: object, out: object, most: int) -> Floats | None: ...
def steps(
    plan: Any,
    params: Floats,
    X: Floats,
    Y: Array,
    sample_weight: Floats | None,
    mean_weight: float,
    order: Array | None,
    first: int,
    batch_size: int,
    l2: float,
    rule: tuple[Any, ...],
    state: Sequence[Floats],
    optimizer: Any,
    rate: float,
    finite: Floats,
    limit: int,
    seconds: float,
) -> tuple[int, float, float]: ...
def gradient_descent_step(
    params: Floats,
    grad: Floats,
    velocity: Floats | None,
    learning_rate: float,
    momentum: float,
    nesterov: bool,
) -> None: ...
def adam_step(
    params: Floats,
    grad: Floats,
    mean: Floats,
    square: Floats,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    step: int,
) -> None: ...
def fma_loop(repeats: int, single: bool) -> float: ...
