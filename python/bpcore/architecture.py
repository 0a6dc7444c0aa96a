"""The architecture of a dense feed-forward network, and its parameters as one flat vector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from . import _chunks, _dispatch, _validation, fallback
from ._validation import Floats
from .fallback import Head

#: Activations that any layer may have; "softmax" and "exp" are for the output layer alone.
ACTIVATIONS = ("identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "silu", "gelu")
OUTPUTS = (*ACTIVATIONS, "softmax", "exp")

#: Each loss with its canonical output activation, the one for which delta is ``a - y`` (or nearly that).
CANONICAL_OUTPUT = {loss: output for loss, (_, output) in fallback.LOSSES.items()}
#: These are computed from the logits of their canonical output, so that they stay finite, and take no other.
FROM_LOGITS = ("binary_cross_entropy", "cross_entropy", "poisson", "gamma", "tweedie", "focal")

#: What a network with several heads has as its loss and its output.
SEVERAL = "heads"

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
        "heads",
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
    heads: tuple[Head, ...]
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
        loss: str | Sequence[Any] = "squared_error",
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
        given = {"delta": delta, "quantile": quantile, "power": power, "gamma": gamma}
        heads = _heads(loss, sizes[-1], {**given, "label_smoothing": label_smoothing, "output": output}, dtype)
        several = len(heads) > 1 or heads[0].weight != 1
        last: fallback.Activation = tuple((head.output, head.n_outputs) for head in heads)
        if not several:
            last = heads[0].output
        offsets = [0]
        for n_in, n_out in zip(sizes, sizes[1:]):
            offsets += [offsets[-1] + n_out * n_in, offsets[-1] + n_out * n_in + n_out]
        # The packed parameters and the rows of a tile must be addressable; memory ends long before.
        if 2 * offsets[-1] + 2048 * sum(sizes) > np.iinfo(np.intp).max // 16:
            raise ValueError(f"sizes must fit into memory, got {list(sizes)} with {offsets[-1]} parameters")
        put = object.__setattr__
        put(self, "sizes", sizes)
        put(self, "hidden", hidden)
        put(self, "loss", SEVERAL if several else heads[0].loss)
        put(self, "output", SEVERAL if several else heads[0].output)
        put(self, "heads", heads)
        put(self, "dtype", _float_dtype(dtype))
        put(self, "n_parameters", offsets[-1])
        put(self, "_offsets", tuple(offsets))
        put(self, "_core", _dispatch.core)
        put(self, "loss_parameter", None if several else heads[0].parameter)
        put(self, "_n_targets", sum(head.n_targets for head in heads))
        losses = heads if several else heads[0].loss
        put(self, "_plan", _dispatch.core.Plan(sizes, (*hidden, last), losses, self.dtype, self.loss_parameter))
        put(self, "_small", (_chunks.serial_rows(self._plan), 1))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Network is immutable: {name} cannot be set; make a new one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Network is immutable: {name} cannot be deleted")

    def _key(self) -> tuple[tuple[int, ...], tuple[str, ...], tuple[Head, ...], str]:
        return self.sizes, self.hidden, self.heads, self.dtype.name

    def _arguments(self) -> dict[str, Any]:
        """Those that make this network beside its sizes, but for what is as usual."""
        first = {"hidden": list(self.hidden)}
        if self.loss == SEVERAL:
            return {**first, "loss": [_head_argument(head) for head in self.heads], "dtype": self.dtype.name}
        rest = {"loss": self.loss, "output": self.output, "dtype": self.dtype.name}
        return {**first, **rest, **_options(self.loss, self.loss_parameter)}

    def _resized(self, sizes: Sequence[int], dtype: str | None = None) -> Self:
        """The same with other sizes, whose further outputs are the last head's, or another dtype."""
        arguments = self._arguments()
        if self.loss == SEVERAL:
            name, count, *options = arguments["loss"][-1]
            arguments["loss"][-1] = name, count + sizes[-1] - self.sizes[-1], *options
        return type(self)(sizes, **arguments | ({} if dtype is None else {"dtype": dtype}))

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (type(self), self.sizes, self._arguments())

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Architecture) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        arguments = self._arguments()
        if len(set(self.hidden)) == 1:
            arguments["hidden"] = self.hidden[0]
        return f"Network({list(self.sizes)}, {', '.join(f'{name}={value!r}' for name, value in arguments.items())})"

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
        *below, last = self.layers(params)
        blocks = [(layer.weights, activation) for layer, activation in zip(below, self.hidden)]
        first = 0
        for head in self.heads:
            blocks.append((last.weights[first : first + head.n_outputs], head.output))
            first += head.n_outputs
        for weights, activation in blocks:
            n_out, n_in = weights.shape
            if activation in RECTIFIERS:
                weights[...] = generator.normal(0.0, np.sqrt(2 / n_in), (n_out, n_in))
            else:
                limit = np.sqrt(6 / (n_in + n_out))
                weights[...] = generator.uniform(-limit, limit, (n_out, n_in))
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


def _remake(kind: type[Architecture], sizes: tuple[int, ...], arguments: dict[str, Any]) -> Architecture:
    """For pickles."""
    return kind(sizes, **arguments)


def _options(loss: str, parameter: float | None) -> dict[str, float]:
    """The parameter of a loss by its name, if it has one that is not the usual one."""
    name, usual = fallback.LOSS_PARAMETERS.get(loss, ("", None))
    return {} if parameter == usual or parameter is None else {name: parameter}


def _head_argument(head: Head) -> tuple[Any, ...]:
    """What makes a head, as short as it can be."""
    options: dict[str, Any] = _options(head.loss, head.parameter)
    if head.output != CANONICAL_OUTPUT.get(head.loss):
        options["output"] = head.output
    if head.weight != 1:
        options["weight"] = head.weight
    return (head.loss, head.n_outputs, options) if options else (head.loss, head.n_outputs)


def _heads(
    loss: str | Sequence[Any], n_outputs: int, options: dict[str, Any], dtype: npt.DTypeLike
) -> tuple[Head, ...]:
    """The heads of a network: one if ``loss`` is a name, and else those that it lists."""
    if isinstance(loss, str):
        return (_head("", loss, n_outputs, options, dtype),)
    if isinstance(loss, NOT_SEQUENCES) or not isinstance(loss, Iterable):
        raise TypeError(f"loss must be a name or a sequence of heads, got {loss!r}")
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} must be given to the head that it is of where loss lists several, got {value!r}")
    heads = []
    for i, given in enumerate(loss):
        name = f"loss[{i}]"
        if isinstance(given, Head):
            given = _head_argument(given)
        if isinstance(given, NOT_SEQUENCES) or not isinstance(given, Sequence) or len(given) not in (2, 3):
            raise TypeError(
                f"{name} must be a loss and its outputs, as in ('huber', 2), and maybe a dict of options, got {given!r}"
            )
        own = dict(given[2]) if len(given) == 3 and isinstance(given[2], Mapping) else {}
        if len(given) == 3 and not isinstance(given[2], Mapping):
            raise TypeError(f"{name}[2] must be a dict of options, got {given[2]!r}")
        unknown = own.keys() - options.keys() - {"weight"}
        if unknown:
            known = ", ".join((*options, "weight"))
            raise ValueError(f"{name}[2] must have options among {known}, got {min(unknown, key=str)!r}")
        count = _validation.check_int(f"{name}[1]", given[1], 1)
        heads.append(_head(f"{name}: ", given[0], count, {**options, **own}, dtype))
    total = sum(head.n_outputs for head in heads)
    if total != n_outputs:
        raise ValueError(f"loss must be for all {n_outputs} outputs of the network, got heads with {total}")
    return tuple(heads)


def _head(where: str, loss: object, n_outputs: int, options: dict[str, Any], dtype: npt.DTypeLike) -> Head:
    """One head; ``options``: the activation, the parameter of the loss and its weight, None or missing if as usual."""
    name = _one_of(f"{where}loss", loss, CANONICAL_OUTPUT)
    given = options["output"]
    output = _one_of(f"{where}output", CANONICAL_OUTPUT[name] if given is None else given, OUTPUTS)
    if name in FROM_LOGITS and output != CANONICAL_OUTPUT[name]:
        raise ValueError(
            f"{where}output must be {CANONICAL_OUTPUT[name]!r} for {name}, which is computed from its logits, "
            f"got {output!r}; losses whose canonical output is the identity take any output"
        )
    parameters = {key: value for key, value in options.items() if key not in ("output", "weight")}
    parameter = _loss_parameter(where, name, parameters)
    limits = np.finfo(_float_dtype(dtype))
    if parameter and not float(limits.tiny) <= parameter <= float(limits.max):
        raise ValueError(
            f"{where}{fallback.LOSS_PARAMETERS[name][0]} must be in the range of {limits.dtype}, got {parameter!r}"
        )
    if name == "gaussian_nll" and n_outputs % 2:
        raise ValueError(f"{where}gaussian_nll needs two outputs for each target, got {n_outputs} outputs")
    weight = _validation.check_scalar(f"{where}weight", options.get("weight", 1.0), strict=True)
    if not float(limits.tiny) <= weight <= float(limits.max):
        raise ValueError(f"{where}weight must be in the range of {limits.dtype}, got {weight!r}")
    return Head(name, n_outputs, output, parameter, weight)


def _loss_parameter(where: str, loss: str, given: dict[str, float | None]) -> float | None:
    """The parameter of a loss, which is named by the keyword that gives it; None for those without."""
    name, value = fallback.LOSS_PARAMETERS.get(loss, ("", None))
    for other in given:
        if other != name and given[other] is not None:
            takes = next(loss for loss, (known, _) in fallback.LOSS_PARAMETERS.items() if known == other)
            raise ValueError(f"{where}{other} is a parameter of {takes}, not of {loss}, got {given[other]!r}")
    chosen = given.get(name)
    if chosen is None:
        return value
    name = where + name
    if loss == "huber":
        return _validation.check_scalar(name, chosen, strict=True)
    if loss == "focal":
        return _validation.check_scalar(name, chosen)
    if loss == "cross_entropy":
        return _validation.check_scalar(name, chosen, high=1.0, below=True)
    low, high = (1.0, 2.0) if loss == "tweedie" else (0.0, 1.0)
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
