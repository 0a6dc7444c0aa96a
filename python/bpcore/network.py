"""What a dense feed-forward network computes for given parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt

from . import _chunks, _population, _validation
from ._validation import Floats
from .accumulator import Accumulator
from .architecture import Architecture
from .optimizers import Adam, GradientDescent
from .trace import Trace, backward, begin, try_backward


class Network(Architecture):
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
    loss : str or sequence of tuple, default "squared_error"
        The loss of a row is the sum over its outputs a, with targets y:

        - squared_error: ``1/2 (a - y)^2``
        - binary_cross_entropy: ``-y log a - (1 - y) log(1 - a)``, y in [0, 1], output sigmoid
        - cross_entropy: ``-y log a``, y a row of probabilities (not renormalised) or an integer label, output softmax;
          with ``label_smoothing`` s and n classes ``(1 - s) y + s/n`` in place of y
        - huber: ``1/2 (a - y)^2`` where ``|a - y| <= delta``, else ``delta (|a - y| - delta/2)``
        - absolute_error: ``|a - y|``
        - quantile: ``quantile (y - a)`` where ``y > a``, else ``(1 - quantile) (a - y)``, the pinball loss
        - poisson: ``exp(z) - y z``, y >= 0, output ``exp``; it overflows where exp does, as it must
        - gamma: ``z + y exp(-z)``, y > 0, output ``exp``: half the deviance of the gamma distribution
        - tweedie: ``exp((2 - p) z) / (2 - p) + y exp((1 - p) z) / (p - 1)``, y >= 0, for the ``power`` p, output
          ``exp``: half the deviance of a compound Poisson-gamma distribution. These three leave out what depends on y
          alone
        - gaussian_nll: ``1/2 (s + (y - a)^2 exp(-s))``, for k targets of a row and 2 k outputs: k means a, then k
          logarithms s of variances; ``1/2 log(2 pi)`` is left out. Y and weights of outputs have shape (m, k)
        - focal: binary_cross_entropy with ``(1 - a)^gamma`` before ``log a`` and ``a^gamma`` before ``log(1 - a)``,
          output sigmoid (T.-Y. Lin et al. 2017, arXiv:1708.02002)
        - hinge, squared_hinge: ``max(0, 1 - y a)`` and its square, y from -1 to 1: classes are -1 and 1, not 0 and 1

        Those with the output sigmoid, softmax or exp are computed from the logits z. They stay finite for every finite
        z, but for poisson, gamma and tweedie where exp overflows; so does gaussian_nll.

        A network with several heads has a loss for each block of outputs: ``[("cross_entropy", 3), ("squared_error",
        2)]`` for 3 outputs and 2 more. A third item may have options: ``("huber", 2, {"delta": 0.5, "output": "tanh",
        "weight": 0.1})``. The loss of a row is the sum over the heads, each times its ``weight`` (> 0, default 1). Y
        and weights of outputs have the columns of the first head's targets, then those of the next; the targets of a
        cross_entropy are probabilities there, not labels (``np.eye(3)[labels]``).
    output : str, optional
        Activation of the output layer: any of the above, softmax or exp. By default the canonical one of the loss,
        which is the identity for those that name none; these take any other too. That of a head is among its options.
    dtype : "float64" or "float32", default "float64"
        Of parameters, inputs, outputs and gradients alike.
    delta, quantile, power, gamma, label_smoothing : float, optional
        The parameter of huber (> 0, default 1), quantile (between 0 and 1, default 0.5), tweedie (between 1 and 2,
        default 1.5), focal (>= 0, default 2) and cross_entropy (from 0 to less than 1, default 0).

    Attributes
    ----------
    sizes, hidden, loss, output, dtype
        As above; ``hidden`` is a tuple with an activation for each hidden layer. ``loss`` and ``output`` are "heads" if
        there are several, or one with a weight; one of weight 1 is the same as its name.
    loss_parameter : float or None
        The parameter of the loss, if it has one and is no list of heads.
    heads : tuple of Head
        Each block of outputs, or all of them as one: named tuples ``(loss, n_outputs, output, parameter, weight)``,
        which ``loss`` takes, too.
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

    __slots__ = ()

    # --------------------------------------------------------------------------------------- more inputs, more outputs

    def grow(
        self,
        params: npt.ArrayLike,
        inputs: int | None = None,
        outputs: int | None = None,
        seed: int | np.random.Generator | None = None,
        optimizer: GradientDescent | Adam | None = None,
    ) -> tuple[Self, Floats]:
        """A network with more inputs or outputs, and its parameters: for features and classes that appear later.

        New inputs and outputs come after the old ones, and the old weights and biases keep their values. The weights of
        new inputs are 0, so that the network remains the same function of the old inputs. The weights and biases of new
        outputs are 0, too: a new class has logit 0 for every input, and the logits of the old ones stay as they are.
        Zeros do not keep them from learning, as the gradient of the weights of an output is its own delta times the
        activations below it. Only an output of relu, whose derivative at 0 is 0, needs a ``seed``.

        Parameters
        ----------
        params : array_like of shape (n_parameters,)
            Not changed. Other vectors of this shape, such as the state of an optimizer of your own, grow in the same
            way.
        inputs, outputs : int, optional
            Numbers of inputs and outputs of the new network, not smaller than they are; by default as they are. One of
            the two must be given. Of several heads the last one grows. Those of gaussian_nll, which are in halves, get
            no new outputs.
        seed : int or Generator, optional
            Draws the weights of the new outputs as :meth:`initialize` does; by default they are 0.
        optimizer : GradientDescent or Adam, optional
            Changed in place, to go on with the new parameters: its velocity or moments grow by zeros, and its number of
            steps stays. It must have taken its steps with parameters of this shape, or none. As the number of steps is
            that of all parameters, Adam's first steps of new weights are longer, up to 7 times the learning rate with
            the default betas: it does not correct their moments for the start at 0 any more.

        Returns
        -------
        network : Network
        params : ndarray of shape (network.n_parameters,)

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind, shape or value; the message names it, and nothing is changed.

        Examples
        --------
        >>> net = bpcore.Network([2, 1])
        >>> params, adam = np.array([3.0, 4.0, 0.5]), bpcore.Adam()
        >>> net, params = net.grow(params, inputs=3, outputs=2, optimizer=adam)
        >>> net.sizes
        (3, 2)
        >>> net.layers(params)[0]
        Layer(weights=array([[3., 4., 0.],
               [0., 0., 0.]]), bias=array([0.5, 0. ]))
        """
        old = _validation.check_vector("params", params, self.n_parameters, self.dtype)
        if inputs is None and outputs is None:
            raise ValueError("inputs or outputs must be given, got neither")
        sizes = list(self.sizes)
        for i, name, number in ((0, "inputs", inputs), (-1, "outputs", outputs)):
            if number is not None:
                sizes[i] = _validation.check_int(name, number, sizes[i])
        n_outputs = self.sizes[-1]
        if self.heads[-1].loss == "gaussian_nll" and sizes[-1] != n_outputs:
            must = f"outputs must stay {n_outputs} for gaussian_nll, whose second half are logarithms of variances"
            raise ValueError(f"{must}, got {sizes[-1]}")
        if optimizer is not None and not isinstance(optimizer, (GradientDescent, Adam)):
            raise TypeError(f"optimizer must be a GradientDescent or an Adam, got {optimizer!r}")
        larger = self._resized(sizes)
        grown = self._copy_into(larger, old, np.zeros(larger.n_parameters, self.dtype))
        if seed is not None:
            n_out, n_in = self.sizes[-1], self.sizes[-2]
            drawn = larger.layers(larger.initialize(seed))[-1].weights
            larger.layers(grown)[-1].weights[n_out:, :n_in] = drawn[n_out:, :n_in]
        if optimizer is not None:

            def replaced(state: Floats) -> Floats:
                zeros = _validation.aligned_zeros_like(grown.astype(state.dtype, copy=False))
                return self._copy_into(larger, state, zeros)

            optimizer._replace_state(old, replaced)
        return larger, grown

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
        params : array_like of shape (n_parameters,) or (K, n_parameters)
            An array, or an object with the buffer protocol, ``__array__`` or DLPack in the CPU's memory (a PyTorch
            tensor, ``array.array``, an Arrow array), which is read in place. Another real dtype or layout is copied;
            so is a list. The rows of a matrix are the parameters of K networks (a population, an ensemble); it is
            converted some networks at a time.
        X : array_like of shape (m, n_inputs), or (K, m, n_inputs) for K networks
            One example a row, of any of these kinds. If dtype or layout differ from the network's, rows are converted
            block by block, never all at once (except lists). Without the axis K the rows are for all networks.
        out : ndarray, or another of these kinds, of the shape of the result, optional
            Filled in place, never copied, and returned itself. It must be C-contiguous, writable and of the network's
            dtype, and share no memory with the inputs.
        threads : int, optional
            Maximum number of threads, which the call starts and joins. By default the CPUs that this process may use,
            or fewer if ``BPCORE_NUM_THREADS`` or ``OMP_NUM_THREADS`` says so; never more than the CPUs. Fewer are used
            where the work is small. The result has the same bits for any number. Of K networks each thread computes the
            next ones, with the bits of K calls.

        Returns
        -------
        A : ndarray of shape (m, n_outputs), or (K, m, n_outputs) for K networks

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind, shape or layout; the message names it.

        Examples
        --------
        >>> net = bpcore.Network([2, 3, 1])
        >>> net.forward(net.initialize(seed=0), np.zeros((5, 2))).shape
        (5, 1)
        >>> population = np.stack([net.initialize(seed=k) for k in range(100)])
        >>> net.forward(population, np.zeros((5, 2))).shape
        (100, 5, 1)
        """
        if threads is None or (type(threads) is int and threads > 0):
            direct = self._core.try_forward(self._plan, params, X, out, self._small)
            if direct is None and (large := self._large(1, threads, params, X)) is not None:
                direct = self._core.try_forward(self._plan, params, X, out, large)
            if direct is not None:
                return direct  # type: ignore[no-any-return]
        params = _validation.real_array("params", params)
        if params.ndim == 2:
            return _population.forward(self, params, X, out, threads)
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
        self, params: object, X: object, Y: object, l2: object, *how: object
    ) -> tuple[Floats, _validation.Batch, float, float]:
        """Checked parameters and rows to learn from, what sums are divided by, which is positive, and l2."""
        checked = _validation.check_vector("params", params, self.n_parameters, self.dtype)
        penalty = _validation.check_scalar("l2", l2)
        batch, total = _validation.check_batch(self, X, Y, *how)
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
        signed: bool = False,
    ) -> Any:
        """The cost J, or those of K networks; other arguments and errors are those of :meth:`cost_and_gradient`.

        Parameters
        ----------
        params : array_like of shape (n_parameters,) or (K, n_parameters)
            As in :meth:`forward`: the rows of a matrix are the parameters of K networks.
        X : array_like of shape (m, n_inputs), or (K, m, n_inputs) for K networks
            As in :meth:`forward`.
        Y : array_like
            Targets, as in :meth:`cost_and_gradient`. If X is of shape ``(K, m, n_inputs)``, they may have the first
            axis, too: ``(K, m, n_outputs)``; ``(K, m)`` where there is one output; for cross_entropy ``(K, m)`` labels,
            which all integers with two axes are then. Otherwise they are for all networks.
        l2, sample_weight, threads, signed
            As in :meth:`cost_and_gradient`, for all networks.

        Returns
        -------
        J : float, or ndarray of shape (K,) and dtype float64

        Examples
        --------
        >>> net = bpcore.Network([2, 1])
        >>> net.cost(np.zeros(3), np.ones((4, 2)), np.ones(4))
        0.5
        >>> net.cost(np.zeros((2, 3)), np.ones((4, 2)), np.ones(4))
        array([0.5, 0.5])
        """
        if threads is None or (type(threads) is int and threads > 0):
            given = X, Y, sample_weight, 0.0, signed
            direct = self._core.try_cost(self._plan, params, given, l2, self._small)
            if direct is None and (large := self._large(1, threads, params, X, Y, sample_weight)) is not None:
                direct = self._core.try_cost(self._plan, params, given, l2, large)
            if direct is not None:
                return direct
        params = _validation.real_array("params", params)
        if params.ndim == 2:
            return _population.costs(self, params, (X, Y, sample_weight, signed), l2, threads)
        params, batch, total, l2 = self._check_call(params, X, Y, l2, sample_weight, signed)
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
        signed: bool = False,
        clip_norm: float | None = None,
    ) -> tuple[float, Floats]:
        """The cost and its exact gradient, by backpropagation.

        ``J = (sum of w_i loss_i) / (sum of w_i) + l2/2 * sum(W^2)``, and for each layer
        ``D = Delta / (sum of w_i) + l2 * W`` for the weights and ``Delta / (sum of w_i)`` for the bias, where Delta
        is the sum of ``w_i delta^T a`` over the rows. Biases are not penalised.

        It fits ``scipy.optimize.minimize(net.cost_and_gradient, params, args=(X, Y), jac=True)``.

        Parameters
        ----------
        params, X, threads
            As in :meth:`forward`, of one network.
        Y : array_like of shape (m, n_outputs)
            Targets; ``(m,)`` where there is one output. For cross_entropy also integer labels of shape ``(m,)``,
            which count from 0.
        l2 : float, default 0
            Weight of the penalty, not negative. This is the lambda of ``D = 1/m Delta + lambda Theta``; Ng's
            exercises write ``lambda/(2m)`` for the penalty, so that their lambda is ``m`` times this one.
        sample_weight : array_like of shape (m,) or (m, n_outputs), optional
            Finite, not negative, not all zero; 1 by default. They and Y are converted block by block, as X is. What
            has weight 0 is left out, whatever it is, NaN included. Those of shape (m, n_outputs) weigh the loss of
            each output: the sums are divided by their mean over the outputs, added up over the rows, so that equal
            weights in a row are the weight of that row. Those of a cross-entropy weigh the classes, ``-w y log a``.
        out : ndarray or the like, of shape (n_parameters,), optional
            Filled with the gradient and returned, as in :meth:`forward`.
        signed : bool, default False
            Weights may be negative, as the advantages of REINFORCE, and may add up to 0: the sums are divided by the
            number of rows instead.
        clip_norm : float, optional
            The gradient of each row, with its weight, is scaled down to at most this Euclidean norm before it is
            added, as for differential privacy (M. Abadi et al. 2016, arXiv:1607.00133). The cost is not clipped, nor
            is the penalty. No gradient of a row is made: the deltas go down twice, which takes a third to a half more
            time.

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
        clips = type(clip_norm) is float and _validation.LEAST_CLIP_NORM <= clip_norm < np.inf
        if (threads is None or (type(threads) is int and threads > 0)) and (clips or clip_norm is None):
            given = X, Y, sample_weight, clip_norm or 0.0, signed
            direct = self._core.try_cost_and_gradient(self._plan, params, given, l2, out, self._small)
            if direct is None and (large := self._large(3, threads, params, X, Y, sample_weight)) is not None:
                direct = self._core.try_cost_and_gradient(self._plan, params, given, l2, out, large)
            if direct is not None:
                return direct  # type: ignore[no-any-return]
        params, batch, total, l2 = self._check_call(params, X, Y, l2, sample_weight, signed, clip_norm)
        filled = _validation.check_out(out, params.shape, self.dtype, params, *batch.arrays)
        losses, sums = _chunks.sum_gradients(self._core, self._plan, params, batch, threads, filled)
        self._core.finish(self._plan, params, sums, total, l2, filled)
        return float(self._core.cost(self._plan, params, losses, total, l2)), filled if out is None else out

    @overload
    def backward(
        self,
        params: npt.ArrayLike,
        X: npt.ArrayLike,
        output_gradient: npt.ArrayLike,
        input_gradient: Literal[False] = False,
        logits: bool = False,
        out: Any = None,
        threads: int | None = None,
    ) -> Floats: ...
    @overload
    def backward(
        self,
        params: npt.ArrayLike,
        X: npt.ArrayLike,
        output_gradient: npt.ArrayLike,
        input_gradient: Literal[True],
        logits: bool = False,
        out: Any = None,
        threads: int | None = None,
    ) -> tuple[Floats, Floats]: ...
    def backward(
        self,
        params: npt.ArrayLike,
        X: npt.ArrayLike,
        output_gradient: npt.ArrayLike,
        input_gradient: bool = False,
        logits: bool = False,
        out: Any = None,
        threads: int | None = None,
    ) -> Floats | tuple[Floats, Floats]:
        """The gradient of a loss of your own, from its gradient with respect to the outputs, in one pass.

        Forward and back tile by tile: nothing is kept, so that the memory does not grow with the rows. Where the loss
        needs the outputs first, :meth:`trace` keeps the forward pass.

        Parameters
        ----------
        params, X, threads
            As in :meth:`forward`.
        output_gradient : array_like of shape (m, n_outputs)
            ``dLoss/da(L)``, with respect to the activations of the output layer. Mind its own error: if a sigmoid or
            tanh output is saturated, ``1 - a`` has few digits. For entries up to 2 the derivative of the activation is
            exact; for larger ones it is that of the rounded ``a``, so that the error of a loss with a pole, such as
            ``1 / (1 - a)``, cancels. Either way the error of delta is at most a rounding error of
            ``output_gradient``.
        input_gradient : bool, default False
            Whether to return ``dLoss/dX`` as well.
        logits : bool, default False
            ``output_gradient`` is ``dLoss/dz(L)``, with respect to the logits, which loses no digits.
        out : ndarray or the like, of shape (n_parameters,), optional
            Filled with the gradient and returned, as in :meth:`forward`.

        Returns
        -------
        grad : ndarray of shape (n_parameters,)
            ``dLoss/dparams``, summed over the rows: there is no ``1/m``, and no penalty.
        dX : ndarray of shape (m, n_inputs)
            Only if ``input_gradient``.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind, shape or layout; the message names it.

        Examples
        --------
        >>> net = bpcore.Network([2, 1])
        >>> net.backward(np.array([3.0, 4.0, 0.0]), np.ones((2, 2)), np.ones((2, 1)), input_gradient=True)
        (array([2., 2., 2.]), array([[3., 4.],
               [3., 4.]]))
        """
        given = X, output_gradient, logits, input_gradient, None, 0
        direct = try_backward(self, params, given, out, threads)
        if direct is not None:
            return direct
        params = _validation.check_vector("params", params, self.n_parameters, self.dtype)
        start = begin(self, _validation.check_matrix("X", X, self.sizes[0]), output_gradient, logits)
        return backward(self, params, start, input_gradient, out, threads)

    def trace(self, params: npt.ArrayLike, X: npt.ArrayLike, threads: int | None = None) -> Trace:
        """A forward pass that keeps the activations of all layers, for backpropagation from a loss of your own.

        Unlike other calls it needs memory in proportion to the rows.

        Parameters
        ----------
        params, X, threads
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
        return Trace(self, params, X, threads)

    # ------------------------------------------------------------------------------------- derivatives row by row

    def jvp(
        self,
        params: npt.ArrayLike,
        X: npt.ArrayLike,
        d_params: npt.ArrayLike | None = None,
        d_X: npt.ArrayLike | None = None,
        threads: int | None = None,
    ) -> tuple[Floats, Floats]:
        """The outputs and their derivative along a direction: a Jacobian-vector product, in forward mode.

        ``dz(l+1) = da(l) W^T + a(l) dW^T + db`` and ``da = g'(z) dz``. At a kink of an activation the derivative is the
        one that the gradient has.

        Parameters
        ----------
        params, X, threads
            As in :meth:`forward`.
        d_params : array_like of shape (n_parameters,), optional
            The direction of the parameters, by default none.
        d_X : array_like of shape (m, n_inputs), optional
            The direction of each row, by default none. One of the two must be given.

        Returns
        -------
        A : ndarray of shape (m, n_outputs)
            What :meth:`forward` returns.
        dA : ndarray of shape (m, n_outputs)
            ``d/dt`` of the outputs at ``params + t d_params`` and ``X + t d_X``, at t = 0. It is a first derivative:
            there is none of it with respect to the parameters.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind or shape, or no direction is given; the message names it.

        Examples
        --------
        >>> net = bpcore.Network([2, 1])
        >>> net.jvp(np.array([3.0, 4.0, 0.0]), np.ones((1, 2)), d_X=np.array([[1.0, 0.0]]))
        (array([[7.]]), array([[3.]]))
        """
        params = _validation.check_vector("params", params, self.n_parameters, self.dtype)
        X = _validation.check_matrix("X", X, self.sizes[0])
        if d_params is None and d_X is None:
            raise ValueError("d_params or d_X must be given, got neither")
        if d_params is not None:
            d_params = _validation.check_vector("d_params", d_params, self.n_parameters, self.dtype)
        sources = [X]
        if d_X is not None:
            sources.append(_validation.check_matrix("d_X", d_X, self.sizes[0]))
            if len(sources[1]) != len(X):
                raise ValueError(f"d_X has {len(sources[1])} rows, but X has {len(X)}")
        A, dA = (np.empty((len(X), self.sizes[-1]), self.dtype) for _ in range(2))
        for r, (x, *d) in _chunks.row_blocks(self._plan, sources, self.dtype):
            used = _chunks.n_threads(self._plan, len(x), threads, 3)
            directions = d_params, d[0] if d else None
            out = A[r.start : r.stop], dA[r.start : r.stop]
            self._core.jvp(self._plan, params, x, directions, out, used)
        return A, dA

    def jacobian(self, params: npt.ArrayLike, X: npt.ArrayLike, out: Any = None, threads: int | None = None) -> Floats:
        """The derivative of every output by every parameter, for each row.

        Parameters
        ----------
        params, X, threads
            As in :meth:`forward`.
        out : ndarray or the like, of shape (m, n_outputs, n_parameters), optional
            Filled and returned, as in :meth:`forward`.

        Returns
        -------
        J : ndarray of shape (m, n_outputs, n_parameters)
            Of the activations of the output layer. ``J.reshape(-1, n_parameters)`` is the matrix that
            ``scipy.optimize.least_squares`` takes for the residuals ``(net.forward(params, X) - Y).ravel()``.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind, shape or layout; the message names it.

        Examples
        --------
        >>> net = bpcore.Network([2, 1])
        >>> net.jacobian(np.array([3.0, 4.0, 0.0]), np.array([[5.0, 6.0]]))
        array([[[5., 6., 1.]]])
        """
        return self._jacobian(self._core.jacobian, params, X, self.n_parameters, out, threads)

    def input_jacobian(
        self, params: npt.ArrayLike, X: npt.ArrayLike, out: Any = None, threads: int | None = None
    ) -> Floats:
        """The derivative of every output by every input, for each row.

        Parameters
        ----------
        params, X, threads
            As in :meth:`forward`.
        out : ndarray or the like, of shape (m, n_outputs, n_inputs), optional
            Filled and returned, as in :meth:`forward`.

        Returns
        -------
        Jx : ndarray of shape (m, n_outputs, n_inputs)

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind, shape or layout; the message names it.

        Examples
        --------
        >>> net = bpcore.Network([2, 1])
        >>> net.input_jacobian(np.array([3.0, 4.0, 0.0]), np.array([[5.0, 6.0]]))
        array([[[3., 4.]]])
        """
        return self._jacobian(self._core.input_jacobian, params, X, self.sizes[0], out, threads)

    def _jacobian(
        self, function: Callable[..., None], params: Any, X: Any, columns: int, out: Any, threads: int | None
    ) -> Floats:
        params = _validation.check_vector("params", params, self.n_parameters, self.dtype)
        X = _validation.check_matrix("X", X, self.sizes[0])
        n_outputs = self.sizes[-1]
        filled = _validation.check_out(out, (len(X), n_outputs, columns), self.dtype, params, X)
        for r, (x,) in _chunks.row_blocks(self._plan, [X], self.dtype):
            used = _chunks.n_threads(self._plan, len(x), threads, 1 + 2 * n_outputs)
            function(self._plan, params, x, filled[r.start : r.stop].reshape(-1), used)
        return filled if out is None else out

    def gradient_norms(
        self, params: npt.ArrayLike, X: npt.ArrayLike, Y: npt.ArrayLike, threads: int | None = None
    ) -> Floats:
        """The norm of each row's own gradient, which is not made for it.

        The gradient of a layer's weights for one row is an outer product, so that its norm is that of delta times that
        of the activations: ``norm^2 = sum over layers of |delta|^2 (|a|^2 + 1)``.

        Parameters
        ----------
        params, X, Y, threads
            As in :meth:`cost_and_gradient`.

        Returns
        -------
        norms : ndarray of shape (m,)
            The Euclidean norm of ``dloss/dparams`` of each row, without weights and penalty. Squares are added in
            float64: of a float64 network norms beyond 1e154 are infinite, and those below 1e-154 lose digits.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind, shape or value; the message names it.

        Examples
        --------
        >>> bpcore.Network([2, 1]).gradient_norms(np.zeros(3), np.ones((2, 2)), np.array([1.0, 2.0]))
        array([1.73205081, 3.46410162])
        """
        return self._of_rows(self._core.gradient_norms, params, X, Y, None, threads)

    def per_row_gradients(
        self,
        params: npt.ArrayLike,
        X: npt.ArrayLike,
        Y: npt.ArrayLike,
        out: Any = None,
        threads: int | None = None,
    ) -> Floats:
        """The gradient of the loss of each row by itself.

        Parameters
        ----------
        params, X, Y, threads
            As in :meth:`cost_and_gradient`.
        out : ndarray or the like, of shape (m, n_parameters), optional
            Filled and returned, as in :meth:`forward`.

        Returns
        -------
        G : ndarray of shape (m, n_parameters)
            ``dloss/dparams`` of each row, without weights and penalty; their mean is the gradient of the cost.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind, shape or value; the message names it.

        Examples
        --------
        >>> bpcore.Network([2, 1]).per_row_gradients(np.zeros(3), np.ones((2, 2)), np.array([1.0, 2.0]))
        array([[-1., -1., -1.],
               [-2., -2., -2.]])
        """
        return self._of_rows(self._core.row_gradients, params, X, Y, out, threads)

    def _of_rows(
        self, function: Callable[..., None], params: Any, X: Any, Y: Any, out: Any, threads: int | None
    ) -> Floats:
        """The norm of each row's gradient, or the gradient."""
        params = _validation.check_vector("params", params, self.n_parameters, self.dtype)
        batch, _ = _validation.check_batch(self, X, Y)
        norms = function == self._core.gradient_norms
        shape = (len(batch.X),) if norms else (len(batch.X), self.n_parameters)
        filled = _validation.check_out(out, shape, self.dtype, params, *batch.arrays)
        for r in _chunks.batch_blocks(self._plan, batch, self.dtype):
            used = _chunks.n_threads(self._plan, r.stop - r.start, threads, 2 if norms else 3)
            block = batch.block(r.start, r.stop, self.dtype)
            function(self._plan, params, block, filled[r.start : r.stop].reshape(-1), used)
            _chunks.drop_batch_pages(batch, r)
        return filled if out is None else out

    def accumulator(self, buffer: Any = None) -> Accumulator:
        """An :class:`Accumulator` for this network, empty unless its memory is given.

        Parameters
        ----------
        buffer : ndarray of float64, shape (3 + n_parameters,), or the like, optional
            Used in place, with the sums that are in it, as in :class:`Accumulator`.

        Returns
        -------
        accumulator : Accumulator

        Raises
        ------
        TypeError, ValueError
            As in :class:`Accumulator`.

        Examples
        --------
        >>> bpcore.Network([2, 1]).accumulator().rows
        0
        """
        return Accumulator(self, buffer)
