"""The exact gradient of a dense feed-forward network, on a CPU, for training code of your own.

>>> import bpcore, numpy as np
>>> net = bpcore.Network([2, 8, 1], hidden="tanh", loss="binary_cross_entropy")
>>> params = net.initialize(seed=0)
>>> X, Y = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
>>> cost, grad = net.cost_and_gradient(params, X, Y)
"""

from typing import TYPE_CHECKING

from ._dispatch import available_backends as available_backends
from ._dispatch import name as backend
from .accumulator import Accumulator as Accumulator
from .architecture import Layer as Layer
from .fallback import Head as Head
from .network import Network as Network
from .optimizers import Adam as Adam
from .optimizers import GradientDescent as GradientDescent
from .trace import Trace as Trace

if TYPE_CHECKING:
    from .gradient_check import check_gradient as check_gradient
    from .model import Model as Model
    from .model import ModelFileError as ModelFileError
    from .model import load as load
    from .model import save as save
    from .training import History as History
    from .training import train as train

__version__ = "0.1.0"

__all__ = [
    "Accumulator",
    "Adam",
    "GradientDescent",
    "Head",
    "History",
    "Layer",
    "Model",
    "ModelFileError",
    "Network",
    "Trace",
    "available_backends",
    "backend",
    "check_gradient",
    "get_include",
    "load",
    "save",
    "train",
]


def get_include() -> str:
    """The folder of ``bpcore.h``, for ``include_dirs`` of an extension that uses the table of C functions.

    Returns
    -------
    folder : str

    Examples
    --------
    >>> import os
    >>> os.listdir(bpcore.get_include())
    ['bpcore.h']
    """
    from os.path import dirname, join

    return join(dirname(__file__), "include")


#: Imported on first use, so that programs that need only the gradient start faster.
_LATER = {
    "check_gradient": "gradient_check",
    "History": "training",
    "train": "training",
    "Model": "model",
    "ModelFileError": "model",
    "load": "model",
    "save": "model",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
