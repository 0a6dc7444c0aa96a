# Generated from bpcore.h by src/bpcore/bindings/generate_capi.py.

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from .architecture import Architecture

ABI_VERSION: int
_C_API: object

def functions() -> Mapping[str, Callable[..., Any]]: ...

class Plan:
    @property
    def network(self) -> Architecture: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def n_parameters(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def workspace(self) -> int: ...
    @property
    def functions(self) -> Mapping[str, Callable[..., Any]]: ...
    def __init__(self, network: Architecture) -> None: ...
    def new_workspace(self) -> npt.NDArray[np.uint8]: ...

class Activation(IntEnum):
    IDENTITY = 0
    SIGMOID = 1
    TANH = 2
    RELU = 3
    LEAKY_RELU = 4
    ELU = 5
    SOFTPLUS = 6
    SILU = 7
    GELU = 8
    SOFTMAX = 9
    EXP = 10

class Loss(IntEnum):
    SQUARED_ERROR = 0
    BINARY_CROSS_ENTROPY = 1
    CROSS_ENTROPY = 2
    HUBER = 3
    ABSOLUTE_ERROR = 4
    POISSON = 5
    QUANTILE = 6
    GAUSSIAN_NLL = 7
    GAMMA = 8
    TWEEDIE = 9
    FOCAL = 10
    HINGE = 11
    SQUARED_HINGE = 12
