# One stub for all compiled modules: their interface is that of fallback.py.
from typing import Any

import numpy as np
import numpy.typing as npt

from ._validation import Array, Floats
from .fallback import Kept as Kept
from .fallback import Plan as Plan
from .fallback import accumulate as accumulate
from .fallback import adam_step as adam_step
from .fallback import backward as backward
from .fallback import cost as cost
from .fallback import deltas as deltas
from .fallback import finish as finish
from .fallback import forward as forward
from .fallback import forward_population as forward_population
from .fallback import gradient_descent_step as gradient_descent_step
from .fallback import gradient_norms as gradient_norms
from .fallback import input_jacobian as input_jacobian
from .fallback import jacobian as jacobian
from .fallback import jvp as jvp
from .fallback import loss as loss
from .fallback import population_costs as population_costs
from .fallback import row_gradients as row_gradients
from .fallback import total_weight as total_weight
from .fallback import trace as trace
from .fallback import train_batches as train_batches
from .fallback import try_backward as try_backward
from .fallback import try_cost as try_cost
from .fallback import try_cost_and_gradient as try_cost_and_gradient
from .fallback import try_forward as try_forward
from .fallback import try_step as try_step
from .fallback import try_trace as try_trace

FLUSHES_SUBNORMALS: bool
INSTRUCTION_SETS: dict[str, tuple[int, int]]

def cpu_features() -> list[str]: ...
def cache_bytes() -> tuple[tuple[int, int], tuple[int, int]]: ...
def workspace_layout(
    sizes: tuple[int, ...],
    activations: tuple[str, ...],
    loss: str,
    dtype: np.dtype[Any],
    instruction_set: str,
    guard: int = 0,
    l2_bytes: int = 0,
) -> dict[str, Any]: ...
def check_layouts(
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    third: npt.NDArray[np.int64],
    dtype: np.dtype[Any],
    instruction_set: str,
    guard: int = 0,
    l2_bytes: int = 0,
) -> int: ...
def elementary(name: str, x: Array, out: Floats) -> None: ...
def fma_loop(repeats: int, is_float32: bool) -> float: ...
