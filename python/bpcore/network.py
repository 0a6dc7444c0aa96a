"""The architecture of a dense feed-forward network, and what it computes for given parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any, Literal, NamedTuple, TypeVar, overload

import numpy as np
import numpy.typing as npt

from . import _chunks, _dispatch, _validation, fallback
from ._validation import Floats
from .accumulator import Accumulator

Result = TypeVar("Result")

#: Activations that any layer may have; "softmax" and "exp" are for the output layer alone.
ACTIVATIONS = ("identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "silu", "gelu")
OUTPUTS = (*ACTIVATIONS, "softmax", "exp")

#: Each loss with its canonical output activation, the one for which delta is ``a - y`` (or nearly that).
CANONICAL_OUTPUT = {loss: output for loss, (_, output) in fallback.LOSSES.items()}
#: These are computed from the logits of their canonical output, so that they stay finite, and take no other.
FROM_LOGITS = ("binary_cross_entropy", "cross_entropy", "poisson")

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


class Network:
    """A dense feed-forward network: an architecture without parameters.

    It is immutable, hashable and picklable, holds no parameters and no state of a computation, and may be used by any
    number of threads at a time. Parameters are one flat vector, which the caller owns: for each layer its weights,
    row by row, then its bias.

    Parameters
    ----------
    sizes : sequence of int
        Units of each layer, inputs first: ``[64, 128, 10]``.
    hidden : str or sequence of str, default "relu"
        Activation of the hidden layers, one name for all or one for each: identity, sigmoid, tanh, relu, leaky_relu
        (derivative 0.01), elu (alpha 1), softplus, silu, gelu (exact, by the error function). Without hidden layers it
        may be a name or empty.
    loss : str, default "squared_error"
        The loss of a row is the sum over its outputs a, with targets y:

        - squared_error: ``1/2 (a - y)^2``
        - binary_cross_entropy: ``-y log a - (1 - y) log(1 - a)``, y in [0, 1], output sigmoid
        - cross_entropy: ``-y log a``, y a row of probabilities (not renormalised) or an integer label, output softmax
        - huber: ``1/2 (a - y)^2`` where ``|a - y| <= 1``, else ``|a - y| - 1/2``
        - absolute_error: ``|a - y|``
        - poisson: ``exp(z) - y z``, output ``exp``; it overflows where exp does, as it must
    output : str, optional
        Activation of the output layer: any of the above, softmax or exp. By default the canonical one of the loss:
        identity for squared_error, huber and absolute_error, which take any other too.
    dtype : "float64" or "float32", default "float64"
        Of parameters, inputs, outputs and gradients alike.

    Attributes
    ----------
    sizes, hidden, loss, output, dtype
        As above; ``hidden`` is a tuple with an activation for each hidden layer.
    n_parameters : int
        Weights and biases of all layers.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, or is not the name of an activation or loss.

    Examples
    --------
    >>> net = bpcore.Network([2, 3, 1], hidden="tanh")
    >>> net.n_parameters
    13
    >>> net
    Network([2, 3, 1], hidden='tanh', loss='squared_error', output='identity', dtype='float64')
    """

    __slots__ = (
        "__weakref__",
        "_core",
        "_offsets",
        "_plan",
        "_small",
        "dtype",
        "hidden",
        "loss",
        "n_parameters",
        "output",
        "sizes",
    )

    sizes: tuple[int, ...]
    hidden: tuple[str, ...]
    loss: str
    output: str
    dtype: np.dtype[Any]
    n_parameters: int
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
                f"got {output!r}; squared_error, huber and absolute_error take any output"
            )
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
        put(self, "_plan", _dispatch.core.Plan(sizes, activations, loss, self.dtype))
        put(self, "_small", (_chunks.serial_rows(self._plan), 1))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Network is immutable: {name} cannot be set; make a new one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Network is immutable: {name} cannot be deleted")

    def _key(self) -> tuple[tuple[int, ...], tuple[str, ...], str, str, str]:
        return self.sizes, self.hidden, self.loss, self.output, self.dtype.name

    def __reduce__(self) -> tuple[type[Network], tuple[object, ...]]:
        return type(self), self._key()

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Network) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        hidden = repr(self.hidden[0]) if len(set(self.hidden)) == 1 else repr(list(self.hidden))
        return (
            f"Network({list(self.sizes)}, hidden={hidden}, loss={self.loss!r}, "
            f"output={self.output!r}, dtype={self.dtype.name!r})"
        )

    def _large(self, passes: int, threads: int | None, X: object, *others: object) -> tuple[int, int] | None:
        """Rows and threads of a call that is no small one, if the backend may be given its arrays unchecked."""
        if not isinstance(X, np.ndarray) or X.ndim != 2:
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

    # ------------------------------------------------------------------------------------------------ computation

    def forward(
        self,
        params: npt.ArrayLike,
        X: npt.ArrayLike,
        out: Any = None,
        threads: int | None = None,
    ) -> Floats:
        """The activations of the output layer: ``a(1) = x``, ``z(l+1) = W(l) a(l) + b(l)``, ``a(l+1) = g(z(l+1))``.

        Parameters
        ----------
        params : array_like of shape (n_parameters,)
            An array, or an object with the buffer protocol, ``__array__`` or DLPack in the CPU's memory (a PyTorch
            tensor, ``array.array``, an Arrow array), which is read in place. Another real dtype or layout is copied;
            so is a list.
        X : array_like of shape (m, n_inputs)
            One example a row, of any of these kinds. If dtype or layout differ from the network's, rows are converted
            block by block, never all at once (except lists).
        out : ndarray, or another of these kinds, of shape (m, n_outputs), optional
            Filled in place, never copied, and returned itself. It must be C-contiguous, writable and of the network's
            dtype, and share no memory with the inputs.
        threads : int, optional
            Maximum number of threads, which the call starts and joins. By default the CPUs that this process may use.
            Fewer are used where the work is small. The result has the same bits for any number.

        Returns
        -------
        A : ndarray of shape (m, n_outputs)

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind, shape or layout; the message names it.

        Examples
        --------
        >>> net = bpcore.Network([2, 3, 1])
        >>> net.forward(net.initialize(seed=0), np.zeros((5, 2))).shape
        (5, 1)
        """
        if threads is None or (type(threads) is int and threads > 0):
            direct = self._core.try_forward(self._plan, params, X, out, self._small)
            if direct is None and (large := self._large(1, threads, X)) is not None:
                direct = self._core.try_forward(self._plan, params, X, out, large)
            if direct is not None:
                return direct  # type: ignore[no-any-return]
        params = _validation.check_vector("params", params, self.n_parameters, self.dtype)
        X = _validation.check_matrix("X", X, self.sizes[0])
        filled = _validation.check_out(out, (len(X), self.sizes[-1]), self.dtype, params, X)
        row_bytes = self.sizes[0] * self.dtype.itemsize
        for r in _chunks.blocks(self._plan, len(X), row_bytes, _validation.is_read_in_place(X, self.dtype)):
            rows = _validation.rows(X, r.start, r.stop, self.dtype)
            used = _chunks.n_threads(self._plan, r.stop - r.start, threads, 1)
            self._core.forward(self._plan, params, rows, filled[r.start : r.stop], used)
            _validation.drop_pages(X, r.start, r.stop)
        return filled if out is None else out

    def _check_call(
        self, params: object, X: object, Y: object, l2: object, sample_weight: object
    ) -> tuple[Floats, _validation.Batch, float, float]:
        """Checked parameters and rows to learn from, the sum of the weights, which is positive, and l2."""
        checked = _validation.check_vector("params", params, self.n_parameters, self.dtype)
        penalty = _validation.check_scalar("l2", l2)
        batch, total = _validation.check_batch(X, Y, sample_weight, self.sizes, self.loss, self.dtype)
        _validation.check_rows(batch, total)
        return checked, batch, total, penalty

    def cost(
        self,
        params: npt.ArrayLike,
        X: npt.ArrayLike,
        Y: npt.ArrayLike,
        l2: float = 0.0,
        sample_weight: npt.ArrayLike | None = None,
        threads: int | None = None,
    ) -> float:
        """The cost J; arguments and errors are those of :meth:`cost_and_gradient`.

        Returns
        -------
        J : float

        Examples
        --------
        >>> bpcore.Network([2, 1]).cost(np.zeros(3), np.ones((4, 2)), np.ones(4))
        0.5
        """
        params, batch, total, l2 = self._check_call(params, X, Y, l2, sample_weight)
        losses = _chunks.sum_losses(self._core, self._plan, params, batch, threads)
        return float(self._core.cost(self._plan, params, losses, total, l2))

    def cost_and_gradient(
        self,
        params: npt.ArrayLike,
        X: npt.ArrayLike,
        Y: npt.ArrayLike,
        l2: float = 0.0,
        sample_weight: npt.ArrayLike | None = None,
        out: Any = None,
        threads: int | None = None,
    ) -> tuple[float, Floats]:
        """The cost and its exact gradient, by backpropagation.

        ``J = (sum of w_i loss_i) / (sum of w_i) + l2/2 * sum(W^2)``, and for each layer
        ``D = Delta / (sum of w_i) + l2 * W`` for the weights and ``Delta / (sum of w_i)`` for the bias, where Delta
        is the sum of ``w_i delta^T a`` over the rows. Biases are not penalised.

        It fits ``scipy.optimize.minimize(net.cost_and_gradient, params, args=(X, Y), jac=True)``.

        Parameters
        ----------
        params, X, threads
            As in :meth:`forward`.
        Y : array_like of shape (m, n_outputs)
            Targets; ``(m,)`` where there is one output. For cross_entropy also integer labels of shape ``(m,)``,
            which count from 0.
        l2 : float, default 0
            Weight of the penalty, not negative. This is the lambda of ``D = 1/m Delta + lambda Theta``; Ng's
            exercises write ``lambda/(2m)`` for the penalty, so that their lambda is ``m`` times this one.
        sample_weight : array_like of shape (m,), optional
            Finite, not negative, not all zero; 1 by default. They and Y are converted block by block, as X is.
        out : ndarray or the like, of shape (n_parameters,), optional
            Filled with the gradient and returned, as in :meth:`forward`.

        Returns
        -------
        J : float
        grad : ndarray of shape (n_parameters,)

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind, shape or value; the message names it, and no array is changed.

        Examples
        --------
        >>> net = bpcore.Network([2, 1])
        >>> cost, grad = net.cost_and_gradient(np.zeros(3), np.ones((4, 2)), np.ones(4))
        >>> cost, grad
        (0.5, array([-1., -1., -1.]))
        """
        if sample_weight is None and (threads is None or (type(threads) is int and threads > 0)):
            direct = self._core.try_cost_and_gradient(self._plan, params, X, Y, l2, out, self._small)
            if direct is None and (large := self._large(3, threads, X, Y)) is not None:
                direct = self._core.try_cost_and_gradient(self._plan, params, X, Y, l2, out, large)
            if direct is not None:
                return direct  # type: ignore[no-any-return]
        params, batch, total, l2 = self._check_call(params, X, Y, l2, sample_weight)
        filled = _validation.check_out(out, params.shape, self.dtype, params, *batch)
        losses, sums = _chunks.sum_gradients(self._core, self._plan, params, batch, threads, filled)
        self._core.finish(self._plan, params, sums, total, l2, filled)
        return float(self._core.cost(self._plan, params, losses, total, l2)), filled if out is None else out

    def trace(self, params: npt.ArrayLike, X: npt.ArrayLike) -> Trace:
        """A forward pass that keeps the activations of all layers, for backpropagation from a loss of your own.

        Unlike all other calls it needs memory in proportion to the rows.

        Parameters
        ----------
        params, X
            As in :meth:`forward`. Copies ``params``; keeps a reference to ``X``.

        Returns
        -------
        trace : Trace

        Raises
        ------
        TypeError, ValueError
            As in :meth:`forward`.

        Examples
        --------
        >>> net = bpcore.Network([2, 3, 1])
        >>> trace = net.trace(net.initialize(seed=0), np.ones((5, 2)))
        >>> [a.shape for a in trace.activations]
        [(5, 2), (5, 3), (5, 1)]
        """
        return Trace(self, params, X)

    def accumulator(self) -> Accumulator:
        """An empty :class:`Accumulator` for this network.

        Examples
        --------
        >>> bpcore.Network([2, 1]).accumulator().rows
        0
        """
        return Accumulator(self)


class Trace:
    """A forward pass with the activations of every layer; made by :meth:`Network.trace`.

    Attributes
    ----------
    network : Network
    params : ndarray of shape (n_parameters,)
        A read-only copy of the parameters of the pass.
    activations : list of ndarray
        ``[X, a(2), ..., a(L)]``, each of shape ``(m, units of the layer)``. All but ``X`` are read-only.

    Examples
    --------
    >>> net = bpcore.Network([2, 1])
    >>> trace = bpcore.Trace(net, np.zeros(3), np.ones((4, 2)))
    >>> trace.activations[-1].shape
    (4, 1)
    """

    __slots__ = ("_derivatives", "activations", "network", "params")

    network: Network
    params: Floats
    activations: list[Floats]

    def __init__(self, network: Network, params: npt.ArrayLike, X: npt.ArrayLike) -> None:
        if not isinstance(network, Network):
            raise TypeError(f"network must be a Network, got {network!r}")
        net = self.network = network
        self.params = _validation.check_vector("params", params, net.n_parameters, net.dtype).copy()
        self.params.flags.writeable = False
        X = _validation.as_contiguous(_validation.check_matrix("X", X, net.sizes[0]), net.dtype)
        empty = [np.empty((len(X), n), net.dtype) for n in net.sizes[1:]]
        kept = [activation in fallback.ACTIVATIONS_WITH_DERIVATIVE for activation in (*net.hidden, net.output)]
        self.activations = [X, *empty]
        self._derivatives = [np.empty_like(a) if keep else None for a, keep in zip(empty, kept)]
        for r in _chunks.chunk_ranges(net._plan, len(X), 1):
            net._core.trace(net._plan, self.params, *self._block(r.start, r.stop))
        for activation in empty:
            activation.flags.writeable = False

    def __reduce__(self) -> tuple[type[Trace], tuple[object, ...]]:
        return Trace, (self.network, self.params, self.activations[0])

    def _block(self, start: int, stop: int) -> tuple[Floats, list[Floats], list[Floats | None]]:
        X, *activations = (a[start:stop] for a in self.activations)
        derivatives = [None if derivative is None else derivative[start:stop] for derivative in self._derivatives]
        return X, activations, derivatives

    @overload
    def backward(self, output_gradient: npt.ArrayLike, input_gradient: Literal[False] = False) -> Floats: ...
    @overload
    def backward(self, output_gradient: npt.ArrayLike, input_gradient: Literal[True]) -> tuple[Floats, Floats]: ...
    def backward(self, output_gradient: npt.ArrayLike, input_gradient: bool = False) -> Floats | tuple[Floats, Floats]:
        """Backpropagate a gradient with respect to the outputs.

        Parameters
        ----------
        output_gradient : array_like of shape (m, n_outputs)
            ``dLoss/da(L)``, with respect to the activations of the output layer, not to its logits. Mind its own
            error: if a sigmoid or tanh output is saturated, ``1 - a`` has few digits. For entries up to 2 the
            derivative of the activation is exact; for larger ones it is that of the rounded ``a``, so that the error
            of a loss with a pole, such as ``1 / (1 - a)``, cancels. Either way the error of delta is at most a
            rounding error of ``output_gradient``.
        input_gradient : bool, default False
            Whether to return ``dLoss/dX`` as well.

        Returns
        -------
        grad : ndarray of shape (n_parameters,)
            ``dLoss/dparams``, summed over the rows: there is no ``1/m``, and no penalty.
        dX : ndarray of shape (m, n_inputs)
            Only if ``input_gradient``.

        Raises
        ------
        TypeError, ValueError
            If ``output_gradient`` is of the wrong kind or shape.

        Examples
        --------
        >>> trace = bpcore.Network([2, 1]).trace(np.array([3.0, 4.0, 0.0]), np.ones((2, 2)))
        >>> trace.backward(np.ones((2, 1)), input_gradient=True)
        (array([2., 2., 2.]), array([[3., 4.],
               [3., 4.]]))
        """
        net = self.network
        if not isinstance(input_gradient, (bool, np.bool_)):
            raise TypeError(f"input_gradient must be True or False, got {input_gradient!r}")
        dA = _validation.check_matrix("output_gradient", output_gradient, net.sizes[-1], "gives")
        m = len(self.activations[0])
        if len(dA) != m:
            raise ValueError(f"output_gradient has {len(dA)} rows, but the trace has {m}")
        dX = np.empty((m, net.sizes[0]), net.dtype) if input_gradient else None
        total = np.zeros(net.n_parameters)
        sums = np.empty(net.n_parameters, net.dtype)
        for _, _, start, stop in _chunks.chunk_ranges(net._plan, m, 1):
            X, activations, derivatives = self._block(start, stop)
            net._core.backward(
                net._plan,
                self.params,
                [X, *activations],
                derivatives,
                _validation.rows(dA, start, stop, net.dtype),
                sums,
                None if dX is None else dX[start:stop],
            )
            total += sums
        with np.errstate(over="ignore"):
            grad = total.astype(net.dtype)
        return grad if dX is None else (grad, dX)


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
