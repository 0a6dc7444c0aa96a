"""The architecture of a dense feed-forward network, and its parameters as one flat vector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _chunks, _dispatch, _validation, fallback
from ._validation import Floats

#: Activations that any layer may have; "softmax" and "exp" are for the output layer alone.
ACTIVATIONS = ("identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "silu", "gelu")
OUTPUTS = (*ACTIVATIONS, "softmax", "exp")

#: Each loss with its canonical output activation, the one for which delta is ``a - y`` (or nearly that).
CANONICAL_OUTPUT = {loss: output for loss, (_, output) in fallback.LOSSES.items()}
#: These are computed from the logits of their canonical output, so that they stay finite, and take no other.
FROM_LOGITS = ("binary_cross_entropy", "cross_entropy", "poisson", "gamma", "tweedie", "focal")

#: He initialization suits these, Glorot the others.
RECTIFIERS = ("relu", "leaky_relu", "elu", "softplus", "silu", "gelu")


#: Iterable, but no sequences of sizes or names.
NOT_SEQUENCES = (str, bytes, bytearray, set, frozenset, dict)


class Layer(NamedTuple):
    """The parameters (or the gradient) of one layer, as views into the flat vector.

    Attributes
    ----------
    weights : ndarray of shape (n_out, n_in)
    bias : ndarray of shape (n_out,)

    Examples
    --------
    >>> net = bpcore.Network([2, 3, 1])
    >>> weights, bias = net.layers(net.initialize(seed=0))[0]
    >>> weights.shape, bias.shape
    ((3, 2), (3,))
    """

    weights: Floats
    bias: Floats


class Architecture:
    """A :class:`bpcore.Network` without what it computes: what all that is computed of a network needs."""

    __slots__ = (
        "__weakref__",
        "_core",
        "_n_targets",
        "_offsets",
        "_plan",
        "_small",
        "dtype",
        "hidden",
        "loss",
        "loss_parameter",
        "n_parameters",
        "output",
        "sizes",
    )

    sizes: tuple[int, ...]
    hidden: tuple[str, ...]
    loss: str
    loss_parameter: float | None
    output: str
    dtype: np.dtype[Any]
    n_parameters: int
    _n_targets: int  # of a row
    _offsets: tuple[int, ...]  # where each layer's weights and bias begin in the flat vector, and its end
    _core: ModuleType
    _plan: _dispatch.Plan
    _small: tuple[int, int]  # maximum rows of a call that needs no thread but the calling one; and that is 1

    def __init__(
        self,
        sizes: Sequence[int],
        hidden: str | Sequence[str] | None = "relu",
        loss: str = "squared_error",
        output: str | None = None,
        dtype: npt.DTypeLike = "float64",
        *,
        delta: float | None = None,
        quantile: float | None = None,
        power: float | None = None,
        gamma: float | None = None,
        label_smoothing: float | None = None,
    ) -> None:
        if hasattr(self, "sizes"):
            raise AttributeError("a Network is immutable: make a new one")
        sizes = _sizes(sizes)
        hidden = _hidden(hidden, len(sizes) - 2)
        loss = _one_of("loss", loss, CANONICAL_OUTPUT)
        output = _one_of("output", CANONICAL_OUTPUT[loss] if output is None else output, OUTPUTS)
        if loss in FROM_LOGITS and output != CANONICAL_OUTPUT[loss]:
            raise ValueError(
                f"output must be {CANONICAL_OUTPUT[loss]!r} for {loss}, which is computed from its logits, "
                f"got {output!r}; losses whose canonical output is the identity take any output"
            )
        given = {"delta": delta, "quantile": quantile, "power": power, "gamma": gamma}
        parameter = _loss_parameter(loss, {**given, "label_smoothing": label_smoothing})
        if loss == "gaussian_nll" and sizes[-1] % 2:
            raise ValueError(f"gaussian_nll needs two outputs for each target, got {sizes[-1]} outputs")
        activations = (*hidden, output)
        offsets = [0]
        for n_in, n_out in zip(sizes, sizes[1:]):
            offsets += [offsets[-1] + n_out * n_in, offsets[-1] + n_out * n_in + n_out]
        # The packed parameters and the rows of a tile must be addressable; memory ends long before.
        if 2 * offsets[-1] + 2048 * sum(sizes) > np.iinfo(np.intp).max // 16:
            raise ValueError(f"sizes must fit into memory, got {list(sizes)} with {offsets[-1]} parameters")
        put = object.__setattr__
        put(self, "sizes", sizes)
        put(self, "hidden", hidden)
        put(self, "loss", loss)
        put(self, "output", output)
        put(self, "dtype", _float_dtype(dtype))
        put(self, "n_parameters", offsets[-1])
        put(self, "_offsets", tuple(offsets))
        put(self, "_core", _dispatch.core)
        put(self, "loss_parameter", parameter)
        limits = np.finfo(self.dtype)
        if parameter and not float(limits.tiny) <= parameter <= float(limits.max):
            name = fallback.LOSS_PARAMETERS[loss][0]
            raise ValueError(f"{name} must be in the range of {self.dtype}, got {parameter!r}")
        put(self, "_n_targets", sizes[-1] // 2 if loss == "gaussian_nll" else sizes[-1])
        put(self, "_plan", _dispatch.core.Plan(sizes, activations, loss, self.dtype, parameter))
        put(self, "_small", (_chunks.serial_rows(self._plan), 1))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Network is immutable: {name} cannot be set; make a new one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Network is immutable: {name} cannot be deleted")

    def _key(self) -> tuple[tuple[int, ...], tuple[str, ...], str, str, str]:
        return self.sizes, self.hidden, self.loss, self.output, self.dtype.name

    def _options(self) -> dict[str, float]:
        """The parameter of the loss by its name, if it has one that is not the usual one."""
        name, usual = fallback.LOSS_PARAMETERS.get(self.loss, ("", None))
        return {} if self.loss_parameter == usual or self.loss_parameter is None else {name: self.loss_parameter}

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (type(self), self._key(), self._options())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Architecture):
            return NotImplemented
        return (self._key(), self.loss_parameter) == (other._key(), other.loss_parameter)

    def __hash__(self) -> int:
        return hash((self._key(), self.loss_parameter))

    def __repr__(self) -> str:
        hidden = repr(self.hidden[0]) if len(set(self.hidden)) == 1 else repr(list(self.hidden))
        return (
            f"Network({list(self.sizes)}, hidden={hidden}, loss={self.loss!r}, "
            f"output={self.output!r}, dtype={self.dtype.name!r}"
            + "".join(f", {name}={value!r}" for name, value in self._options().items())
            + ")"
        )

    def _large(
        self, passes: int, threads: int | None, params: object, X: object, *others: object
    ) -> tuple[int, int] | None:
        """Rows and threads of a call that is no small one, if the backend may be given its arrays unchecked."""
        if not isinstance(X, np.ndarray) or X.ndim != 2 or getattr(params, "ndim", 1) != 1:
            return None
        if any(isinstance(a, np.ndarray) and not _validation.is_read_in_place(a, a.dtype) for a in (X, *others)):
            return None  # to be copied, or a large memory map, whose pages are to be dropped
        return len(X), _chunks.n_threads(self._plan, len(X), threads, passes)

    # ------------------------------------------------------------------------------------------------- parameters

    def layers(self, params: Any) -> list[Layer]:
        """The weights and the bias of each layer, as views into ``params`` (or into a gradient).

        Parameters
        ----------
        params : ndarray of shape (n_parameters,), or an object that exposes its memory as one
            Of any dtype. Writing into a view writes into it.

        Raises
        ------
        TypeError, ValueError
            If ``params`` is not an array, or has another shape.

        Examples
        --------
        >>> net = bpcore.Network([2, 3, 1])
        >>> params = net.initialize(seed=0)
        >>> net.layers(params)[-1].bias[0] = 0.5
        >>> params[-1]
        np.float64(0.5)
        """
        params = _validation.view("params", params)
        if params.shape != (self.n_parameters,):
            raise ValueError(f"params must have shape ({self.n_parameters},), got {params.shape}")
        parts = [params[i:j] for i, j in zip(self._offsets, self._offsets[1:])]
        return [
            Layer(weights.reshape(n_out, n_in), bias)
            for weights, bias, n_in, n_out in zip(parts[::2], parts[1::2], self.sizes, self.sizes[1:])
        ]

    def initialize(self, seed: int | np.random.Generator | None = None) -> Floats:
        """New parameters: random weights, zero biases.

        Weights before a rectifier (relu, leaky_relu, elu, softplus, silu, gelu) are drawn from He's normal
        distribution, of variance ``2 / n_in``; the others from Glorot's uniform one, within
        ``+-sqrt(6 / (n_in + n_out))``. The same seed gives the same bits on every backend.

        Parameters
        ----------
        seed : int, Generator or None
            As ``numpy.random.default_rng`` takes it; None draws from the operating system.

        Returns
        -------
        params : ndarray of shape (n_parameters,)

        References
        ----------
        X. Glorot and Y. Bengio (2010), AISTATS 9:249-256. K. He et al. (2015), arXiv:1502.01852.

        Examples
        --------
        >>> bpcore.Network([2, 3, 1]).initialize(seed=0).shape
        (13,)
        """
        generator = _validation.check_generator(seed)
        params = np.zeros(self.n_parameters, self.dtype)
        for layer, activation in zip(self.layers(params), (*self.hidden, self.output)):
            n_out, n_in = layer.weights.shape
            if activation in RECTIFIERS:
                layer.weights[...] = generator.normal(0.0, np.sqrt(2 / n_in), (n_out, n_in))
            else:
                limit = np.sqrt(6 / (n_in + n_out))
                layer.weights[...] = generator.uniform(-limit, limit, (n_out, n_in))
        return params

    def to_thetas(self, params: npt.ArrayLike) -> list[Floats]:
        """The parameters as Ng's matrices Theta, each of shape ``(n_out, 1 + n_in)`` with the bias in column 0.

        Parameters
        ----------
        params : array_like of shape (n_parameters,)
            Parameters, or a gradient.

        Returns
        -------
        thetas : list of ndarray
            Copies, one for each layer.

        Raises
        ------
        TypeError, ValueError
            If ``params`` is of the wrong kind or shape.

        Examples
        --------
        >>> net = bpcore.Network([2, 3, 1])
        >>> [theta.shape for theta in net.to_thetas(net.initialize(seed=0))]
        [(3, 3), (1, 4)]
        """
        flat = _validation.check_vector("params", params, self.n_parameters, self.dtype)
        return [np.column_stack([layer.bias, layer.weights]) for layer in self.layers(flat)]

    def from_thetas(self, thetas: Sequence[npt.ArrayLike]) -> Floats:
        """Parameters from Ng's matrices Theta: the inverse of :meth:`to_thetas`.

        Parameters
        ----------
        thetas : sequence of array_like
            One for each layer, of shape ``(n_out, 1 + n_in)`` with the bias in column 0.

        Returns
        -------
        params : ndarray of shape (n_parameters,)

        Raises
        ------
        TypeError, ValueError
            If there are not as many matrices as layers, or one is of the wrong kind or shape.

        Examples
        --------
        >>> bpcore.Network([2, 1]).from_thetas([[[0.5, 1.0, 2.0]]])
        array([1. , 2. , 0.5])
        """
        try:
            count = len(thetas)
        except TypeError:
            raise TypeError(f"thetas must be a sequence of matrices, got {thetas!r}") from None
        if count != len(self.sizes) - 1:
            raise ValueError(f"thetas must be {len(self.sizes) - 1} matrices, one for each layer, got {count}")
        params = np.empty(self.n_parameters, self.dtype)
        for i, (layer, given) in enumerate(zip(self.layers(params), thetas)):
            n_out, n_in = layer.weights.shape
            theta = _validation.real_array(f"thetas[{i}]", given)
            if theta.shape != (n_out, 1 + n_in):
                raise ValueError(f"thetas[{i}] must have shape ({n_out}, {1 + n_in}), got {theta.shape}")
            layer.bias[...], layer.weights[...] = theta[:, 0], theta[:, 1:]
        return params

    def _copy_into(self, larger: Architecture, vector: Floats, zeros: Floats) -> Floats:
        """Fill ``zeros``, a flat vector of a network with more inputs or outputs, with the entries of one of this."""
        for old, new in zip(self.layers(vector), larger.layers(zeros)):
            n_out, n_in = old.weights.shape
            new.weights[:n_out, :n_in], new.bias[:n_out] = old
        return zeros


def _remake(kind: type[Architecture], key: tuple[Any, ...], options: dict[str, float]) -> Architecture:
    """For pickles."""
    arguments: Any = options
    return kind(*key, **arguments)


def _loss_parameter(loss: str, given: dict[str, float | None]) -> float | None:
    """The parameter of a loss, which is named by the keyword that gives it; None for those without."""
    name, value = fallback.LOSS_PARAMETERS.get(loss, ("", None))
    for other in given:
        if other != name and given[other] is not None:
            takes = next(loss for loss, (known, _) in fallback.LOSS_PARAMETERS.items() if known == other)
            raise ValueError(f"{other} is a parameter of {takes}, not of {loss}, got {given[other]!r}")
    chosen = given.get(name)
    if chosen is None:
        return value
    if name == "delta":
        return _validation.check_scalar(name, chosen, strict=True)
    if name == "gamma":
        return _validation.check_scalar(name, chosen)
    if name == "label_smoothing":
        return _validation.check_scalar(name, chosen, high=1.0, below=True)
    low, high = (1.0, 2.0) if name == "power" else (0.0, 1.0)
    return _validation.check_scalar(name, chosen, low, high, strict=True, below=True)


def _one_of(name: str, value: object, known: Iterable[str]) -> str:
    """The value as a plain string, if it is one of those that are known."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a name, got {value!r}")
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return str(value)


def _sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(sizes, NOT_SEQUENCES) or not isinstance(sizes, Iterable) or np.ndim(sizes) == 0:
        raise TypeError(f"sizes must be a sequence of integers, got {sizes!r}")
    checked = tuple(_validation.check_int(f"sizes[{i}]", size, 1) for i, size in enumerate(sizes))
    if len(checked) < 2:
        raise ValueError(f"sizes must have at least two entries, inputs and outputs, got {list(checked)}")
    return checked


def _hidden(hidden: str | Sequence[str] | None, count: int) -> tuple[str, ...]:
    """One activation for each of ``count`` hidden layers."""
    if isinstance(hidden, str):
        return (_one_of("hidden", hidden, ACTIVATIONS),) * count
    names = () if hidden is None else hidden
    if isinstance(names, NOT_SEQUENCES) or not isinstance(names, Iterable):
        raise TypeError(f"hidden must be a name or a sequence of names, got {hidden!r}")
    names = tuple(_one_of(f"hidden[{i}]", name, ACTIVATIONS) for i, name in enumerate(names))
    if len(names) != count:
        s = "" if count == 1 else "s"
        raise ValueError(f"hidden must name {count} activation{s}, one for each hidden layer, got {len(names)}")
    return names


def _float_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    try:
        checked = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}") from None
    if dtype is None or checked.name not in ("float32", "float64"):
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
    return np.dtype(checked.name)  # NumPy's one native object: an array of an equal other one would be copied
