"""The same work as other packages do it, each written as someone who knows the package would write it.

A peer is a class with these members; the package is imported when the peer is made, not before:

- ``Peer(threads)``: raises ImportError where the package is not installed;
- ``version``: of the package;
- ``gradient(cell, params, X, Y)``: a call without arguments that computes the mean cost and its gradient, or None
  where the package has no such network. All that can be prepared is: inputs are in the package's own arrays;
- ``cost_and_layers(result)``: the cost, and weights and bias of each layer's gradient as NumPy arrays, from the
  result of such a call;
- ``training(cell, params, X, Y, batch_size, shuffle)``: a call that trains for one epoch with Adam, from these
  parameters each time, or None;
- ``layers(result)``: weights and bias of each layer as NumPy arrays, from the result of such a call;
- ``adam_agreement``: where its Adam is another one, how near its parameters must come to the reference's;
- ``population(cell, params, X, Y)``: a call that computes cost and gradient of many networks, one per row of params, on
  the same examples, or None; a peer may lack it;
- ``costs_and_gradients(result)``: costs of shape (networks,) and gradients of shape (networks, n_params);
- ``exact``: False where results may be less exact than the agreement demands, which is then reported, and the cell is
  not timed; a difference in any other peer's result ends the program.

Arrays are of the dtype of the cell, weights of shape (n_out, n_in), examples in rows, labels int64.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8  # Adam's, with the values that every package has by default


def split(params, sizes):
    """Weights and bias of each layer: views into the flat vector."""
    layers, start = [], 0
    for n_in, n_out in zip(sizes, sizes[1:]):
        middle, end = start + n_in * n_out, start + n_in * n_out + n_out
        layers.append((params[start:middle].reshape(n_out, n_in), params[middle:end]))
        start = end
    return layers


def stacked(params, sizes):
    """The same for one vector per row: weights of shape (networks, n_out, n_in), biases of shape (networks, n_out)."""
    layers = [split(vector, sizes) for vector in params]
    return [tuple(np.stack(arrays) for arrays in zip(*each)) for each in zip(*layers)]


def flat_rows(arrays):
    """One vector per row again, from the arrays of all layers, weights and bias in turn."""
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)


def batches(m, size):
    """First and last row (excluded) of each batch."""
    return [(start, min(start + size, m)) for start in range(0, m, size)]


class Products:
    """The products of a backpropagation by NumPy, into new arrays but for the gradient."""

    def __init__(self, layers, X, grads) -> None:
        self.layers, self.grads, self.ones = layers, grads, np.ones(len(X), X.dtype)

    def linear_forward(self, l, a):
        return a @ self.layers[l][0].T

    def linear_backward(self, l, delta, a) -> None:
        dW, db = self.grads[l]
        np.matmul(delta.T, a, out=dW)
        np.matmul(self.ones, delta, out=db)  # faster than a sum over the rows

    def linear_backward_input(self, l, delta):
        return delta @ self.layers[l][0]


class NumPy:
    """By hand: the products by OpenBLAS, the rest in place wherever an array is not needed again."""

    name = "NumPy"

    def __init__(self, threads: int = 1) -> None:
        self.version = np.__version__

    def _products(self, layers, X, grads):
        return Products(layers, X, grads)

    def gradient(self, cell, params, X, Y):
        layers, grad = split(params, cell.sizes), np.empty_like(params)
        grads = split(grad, cell.sizes)
        products = self._products(layers, X, grads)
        return lambda: (self._cost_and_gradient(cell, layers, X, Y, products), grads)

    def cost_and_layers(self, result):
        return float(result[0]), result[1]

    def population(self, cell, params, X, Y):
        """One network after the other."""
        grad = np.empty_like(params)
        costs = np.empty(len(params), params.dtype)
        layers, grads = ([split(vector, cell.sizes) for vector in vectors] for vectors in (params, grad))
        products = [self._products(*both) for both in zip(layers, [X] * len(layers), grads)]

        def call():
            for i, each in enumerate(products):
                costs[i] = self._cost_and_gradient(cell, layers[i], X, Y, each)
            return costs, grad

        return call

    def costs_and_gradients(self, result):
        return result

    def training(self, cell, params, X, Y, batch_size, shuffle):
        rng = np.random.default_rng(0)

        def call():
            p, grad = params.copy(), np.empty_like(params)
            layers, grads = split(p, cell.sizes), split(grad, cell.sizes)
            mean, square = np.zeros_like(p), np.zeros_like(p)
            inputs, targets = X, Y
            if shuffle:
                order = rng.permutation(len(X))
                inputs, targets = X[order], Y[order]
            total, products = 0.0, self._products(layers, inputs[:batch_size], grads)
            for step, (i, j) in enumerate(batches(len(X), batch_size), 1):
                if j - i != len(products.ones):
                    products = self._products(layers, inputs[i:j], grads)
                cost = self._cost_and_gradient(cell, layers, inputs[i:j], targets[i:j], products)
                total += (j - i) * float(cost)
                mean *= BETA1
                mean += (1 - BETA1) * grad
                square *= BETA2
                np.square(grad, out=grad)
                grad *= 1 - BETA2
                square += grad
                root = square / (1 - BETA2**step)
                np.sqrt(root, out=root)
                root += EPSILON
                np.divide(mean, root, out=root)
                root *= RATE / (1 - BETA1**step)
                p -= root
            return total / len(X), layers

        return call

    def layers(self, result):
        return result[1]

    @staticmethod
    def _cost_and_gradient(cell, layers, X, Y, products):
        """Fill the gradient of ``products`` and return the cost."""
        a, m = [X], len(X)
        for l, (_, b) in enumerate(layers):
            z = products.linear_forward(l, a[-1])
            z += b
            if l < len(layers) - 1:
                if cell.hidden == "relu":
                    np.maximum(z, 0, out=z)
                elif cell.hidden == "tanh":
                    np.tanh(z, out=z)
                else:  # sigmoid
                    np.negative(z, out=z)
                    np.exp(z, out=z)
                    z += 1
                    np.reciprocal(z, out=z)
            a.append(z)

        if cell.loss == "squared_error":
            delta = np.subtract(z, Y, out=z)
            flat = delta.ravel()
            cost = 0.5 * np.dot(flat, flat) / m
        elif cell.loss == "binary_cross_entropy":  # log(1 + e^z) - y z, from e^-|z|, which never overflows
            e = np.abs(z)
            np.negative(e, out=e)
            np.exp(e, out=e)
            total = np.maximum(z, 0)
            total -= z * Y
            numerator = np.where(z < 0, e, 1)
            e += 1
            delta = np.divide(numerator, e, out=z)
            total += np.log(e, out=e)
            cost = total.sum() / m
            delta -= Y
        else:  # cross_entropy of labels
            rows = np.arange(m)
            z -= z.max(axis=1, keepdims=True)
            picked = z[rows, Y]
            delta = np.exp(z, out=z)
            total = delta.sum(axis=1, keepdims=True)
            cost = (np.log(total).sum() - picked.sum()) / m
            delta /= total
            delta[rows, Y] -= 1
        delta *= 1 / m

        for l in reversed(range(len(layers))):
            products.linear_backward(l, delta, a[l])
            if l > 0:
                delta = products.linear_backward_input(l, delta)
                derivative = a[l]  # it is not needed any more
                if cell.hidden == "relu":
                    delta *= derivative > 0
                elif cell.hidden == "tanh":
                    derivative *= derivative
                    np.subtract(1, derivative, out=derivative)
                    delta *= derivative
                else:
                    delta *= derivative
                    np.subtract(1, derivative, out=derivative)
                    delta *= derivative
        return cost


class PreparedProducts:
    """The same products by a BLAS's ``gemm`` and ``gemv``, each into an array of its own.

    The arrays stay where they are, so that the arguments are converted for C once and not in every call.
    """

    def __init__(self, library, layers, X, grads) -> None:
        real, letter = {"float32": (ctypes.c_float, "s"), "float64": (ctypes.c_double, "d")}[X.dtype.name]
        gemm, gemv = getattr(library, f"cblas_{letter}gemm"), getattr(library, f"cblas_{letter}gemv")
        self.gemm, self.gemv = gemm, gemv
        gemm.restype = gemv.restype = None
        no, yes, m = 111, 112, len(X)  # CBLAS's CblasNoTrans and CblasTrans

        def address(A):
            return ctypes.c_void_p(A.ctypes.data)

        def product(A, B, C, a_transposed=no, b_transposed=no):
            """The arguments of C = A B; 101 is CblasRowMajor."""
            k = A.shape[0] if a_transposed == yes else A.shape[1]
            whole = (101, a_transposed, b_transposed, *C.shape, k)
            return (
                *map(ctypes.c_int, whole),
                *(real(1), address(A), ctypes.c_int(A.shape[1]), address(B), ctypes.c_int(B.shape[1])),
                *(real(0), address(C), ctypes.c_int(C.shape[1])),
            )

        def column_sums(A, out):
            return (
                *map(ctypes.c_int, (101, yes, *A.shape)),
                *(real(1), address(A), ctypes.c_int(A.shape[1]), address(self.ones), ctypes.c_int(1)),
                *(real(0), address(out), ctypes.c_int(1)),
            )

        self.ones = np.ones(m, X.dtype)
        self.z = [np.empty((m, len(b)), X.dtype) for _, b in layers]
        self.deltas = [None] + [np.empty_like(z) for z in self.z[:-1]]
        self.kept_alive = (layers, X, grads)  # only their addresses are in the arguments
        inputs, outputs = [X, *self.z[:-1]], [*self.deltas[1:], self.z[-1]]
        self.forward = [product(a, W, z, no, yes) for a, (W, _), z in zip(inputs, layers, self.z)]
        self.weights = [product(d, a, dW, yes) for d, a, (dW, _) in zip(outputs, inputs, grads)]
        self.bias = [column_sums(d, db) for d, (_, db) in zip(outputs, grads)]
        self.backward = [None] + [product(outputs[l], layers[l][0], self.deltas[l]) for l in range(1, len(layers))]

    def linear_forward(self, l, a):
        self.gemm(*self.forward[l])
        return self.z[l]

    def linear_backward(self, l, delta, a) -> None:
        self.gemm(*self.weights[l])
        self.gemv(*self.bias[l])

    def linear_backward_input(self, l, delta):
        self.gemm(*self.backward[l])
        return self.deltas[l]


class MKL(NumPy):
    """The code of class NumPy with its products by Intel's MKL, into arrays that are there beforehand.

    What is not a product remains NumPy's. No training: the rows of a batch lie elsewhere each time, and what Adam costs
    is NumPy's.
    """

    name = "MKL"

    def __init__(self, threads: int = 1) -> None:
        from importlib import metadata

        self.version = metadata.version("mkl")
        paths = [path.locate() for path in metadata.files("mkl") or () if re.match(r"(lib)?mkl_rt\W", path.name)]
        if not paths:
            raise ImportError("the package mkl has no library mkl_rt")
        self.path = str(max(paths, key=str).resolve())
        # Its OpenMP lets threads spin for 0.2 s after a product, longer than the rest between two turns.
        os.environ.setdefault("KMP_BLOCKTIME", "30")
        try:
            self.library = ctypes.CDLL(self.path)
        except OSError as error:
            raise ImportError(str(error)) from None
        self.library.MKL_Set_Threading_Layer(1 if threads == 1 else 0)  # sequential, or Intel's OpenMP
        self.library.MKL_Set_Num_Threads(threads)

    def _products(self, layers, X, grads):
        return PreparedProducts(self.library, layers, X, grads)

    def training(self, cell, params, X, Y, batch_size, shuffle):
        return None


class PyTorch:
    """Eager, by autograd, as most code is; the fused Adam."""

    name = "PyTorch"

    def __init__(self, threads: int = 1) -> None:
        import torch

        self.torch, self.version = torch, torch.__version__
        torch.set_num_threads(threads)

    def _parameters(self, cell, params):
        leaves = []
        for W, b in split(params.copy(), cell.sizes):
            leaves += [self.torch.from_numpy(W).requires_grad_(), self.torch.from_numpy(b).requires_grad_()]
        return leaves

    def _cost(self, cell):
        torch, F = self.torch, self.torch.nn.functional
        hidden = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}[cell.hidden]

        def cost(leaves, X, Y):
            a = X
            for W, b in zip(leaves[:-2:2], leaves[1:-2:2]):
                a = hidden(F.linear(a, W, b))
            z = F.linear(a, leaves[-2], leaves[-1])
            if cell.loss == "squared_error":
                return F.mse_loss(z, Y, reduction="sum") * (0.5 / len(X))
            if cell.loss == "binary_cross_entropy":
                return F.binary_cross_entropy_with_logits(z, Y, reduction="sum") / len(X)
            return F.cross_entropy(z, Y)

        return cost

    def gradient(self, cell, params, X, Y):
        leaves, cost = self._parameters(cell, params), self._cost(cell)
        X, Y, grad = self.torch.from_numpy(X), self.torch.from_numpy(Y), self.torch.autograd.grad

        def call():
            J = cost(leaves, X, Y)
            return J.item(), [g.numpy() for g in grad(J, leaves)]

        return call

    def cost_and_layers(self, result):
        return result[0], list(zip(result[1][::2], result[1][1::2]))

    def training(self, cell, params, X, Y, batch_size, shuffle):
        torch, cost = self.torch, self._cost(cell)
        X, Y = torch.from_numpy(X), torch.from_numpy(Y)

        def call():
            leaves = self._parameters(cell, params)
            adam = torch.optim.Adam(leaves, lr=RATE, fused=True)
            inputs, targets = X, Y
            if shuffle:
                order = torch.randperm(len(X))
                inputs, targets = X[order], Y[order]
            total = 0.0
            for x, y in zip(inputs.split(batch_size), targets.split(batch_size)):
                J = cost(leaves, x, y)
                J.backward()
                adam.step()
                adam.zero_grad()
                total += len(x) * J.item()
            return total / len(X), leaves

        return call

    def layers(self, result):
        leaves = [leaf.detach().numpy() for leaf in result[1]]
        return list(zip(leaves[::2], leaves[1::2]))

    def _of_population(self, cell):
        """Gradients and costs of stacked parameters."""
        func = self.torch.func
        return func.vmap(func.grad_and_value(self._cost(cell)), in_dims=(0, None, None))

    def population(self, cell, params, X, Y):
        """``torch.func.vmap`` of the gradient."""
        stacked, of_population = self._stacked(cell, params), self._of_population(cell)
        X, Y = self.torch.from_numpy(X), self.torch.from_numpy(Y)

        def call():
            grads, costs = of_population(stacked, X, Y)
            return costs.numpy(), [g.numpy() for g in grads]

        return call

    def _stacked(self, cell, params):
        return [self.torch.from_numpy(array.copy()) for layer in stacked(params, cell.sizes) for array in layer]

    def costs_and_gradients(self, result):
        return result[0], flat_rows(result[1])


class TorchCompile(PyTorch):
    """``torch.compile`` of ``torch.func.grad_and_value``: forward and backward pass are one graph for Inductor.

    Called from C++ (``cpp_wrapper``), which takes up to a fifth off a small call. To compile the cost alone and to call
    ``autograd.grad`` takes longer, and "max-autotune" changes nothing.
    """

    name = "torch.compile"

    def __init__(self, threads: int = 1) -> None:
        super().__init__(threads)
        # Every cell compiles the same few functions, which are compiled a few times only unless that is said.
        self.torch._dynamo.config.recompile_limit = 1_000_000
        try:
            self._compiled(self.torch.square)(self.torch.ones(3))
        except Exception as error:  # without a C++ compiler, or a Python it does not know: of many kinds
            raise ImportError(f"it fails with {type(error).__name__}: {str(error).strip().splitlines()[0]}") from error

    def _compiled(self, function):
        return self.torch.compile(function, fullgraph=True, dynamic=False, options={"cpp_wrapper": True})

    def _cost_and_gradient(self, cell):
        grad_and_value = self.torch.func.grad_and_value(self._cost(cell))
        return self._compiled(lambda leaves, X, Y: grad_and_value(leaves, X, Y))

    def gradient(self, cell, params, X, Y):
        leaves, compiled = [leaf.detach() for leaf in self._parameters(cell, params)], self._cost_and_gradient(cell)
        X, Y = self.torch.from_numpy(X), self.torch.from_numpy(Y)

        def call():
            grads, J = compiled(leaves, X, Y)
            return J.item(), [g.numpy() for g in grads]

        return call

    def _of_population(self, cell):
        of_population = super()._of_population(cell)
        return self._compiled(lambda stacked, X, Y: of_population(stacked, X, Y))

    def training(self, cell, params, X, Y, batch_size, shuffle):
        torch, compiled = self.torch, self._cost_and_gradient(cell)
        X, Y = torch.from_numpy(X), torch.from_numpy(Y)

        def call():
            leaves = [leaf.detach() for leaf in self._parameters(cell, params)]
            adam = torch.optim.Adam(leaves, lr=RATE, fused=True)
            inputs, targets = X, Y
            if shuffle:
                order = torch.randperm(len(X))
                inputs, targets = X[order], Y[order]
            total = 0.0
            for x, y in zip(inputs.split(batch_size), targets.split(batch_size)):
                grads, J = compiled(leaves, x, y)
                for leaf, g in zip(leaves, grads):
                    leaf.grad = g
                adam.step()
                total += len(x) * J.item()
            return total / len(X), leaves

        return call


class TorchHigh(PyTorch):
    """Eager, with a ``float32_matmul_precision`` that allows products to be less exact than float32."""

    name, precision = "PyTorch high", "high"
    exact = False

    def _less_exact(self, cell, call):
        """The call with this setting, and the usual one afterwards, for the others; both take 0.3 microseconds."""
        if cell.dtype != "float32" or call is None:
            return None
        set_precision, precision = self.torch.set_float32_matmul_precision, self.precision

        def less_exact():
            set_precision(precision)
            try:
                return call()
            finally:
                set_precision("highest")

        return less_exact

    def gradient(self, cell, *args):
        return self._less_exact(cell, super().gradient(cell, *args))

    def population(self, cell, *args):
        return self._less_exact(cell, super().population(cell, *args))

    def training(self, cell, *args):
        return self._less_exact(cell, super().training(cell, *args))


class TorchMedium(TorchHigh):
    """The same with products of numbers rounded to bfloat16, where the processor has them."""

    name, precision = "PyTorch medium", "medium"


class JAX:
    """Compiled by XLA: ``jit`` of ``value_and_grad``, and ``lax.scan`` over the batches of an epoch."""

    name = "JAX"

    def __init__(self, threads: int = 1) -> None:
        import jax

        self.jax, self.version = jax, jax.__version__
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_cpu_enable_async_dispatch", False)  # handing small work to a thread takes longer

    def _cost(self, cell):
        jax, jnp = self.jax, self.jax.numpy
        hidden = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[cell.hidden]

        def cost(layers, X, Y):
            a, m = X, len(X)
            for W, b in layers[:-1]:
                a = hidden(a @ W.T + b)
            W, b = layers[-1]
            z = a @ W.T + b
            if cell.loss == "squared_error":
                return 0.5 * jnp.sum((z - Y) ** 2) / m
            if cell.loss == "binary_cross_entropy":
                return jnp.sum(jax.nn.softplus(z) - Y * z) / m
            return -jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(z), Y[:, None], axis=1)) / m

        return cost

    def _arrays(self, cell, params, X, Y):
        jnp = self.jax.numpy
        layers = [(jnp.array(W), jnp.array(b)) for W, b in split(params, cell.sizes)]
        return layers, jnp.array(X), jnp.array(Y, np.int32 if Y.ndim == 1 else None)

    def gradient(self, cell, params, X, Y):
        layers, X, Y = self._arrays(cell, params, X, Y)
        compiled, ready = self.jax.jit(self.jax.value_and_grad(self._cost(cell))), self.jax.block_until_ready
        return lambda: ready(compiled(layers, X, Y))

    def cost_and_layers(self, result):
        return float(result[0]), [(np.asarray(W), np.asarray(b)) for W, b in result[1]]

    def population(self, cell, params, X, Y):
        """``jit`` of ``vmap`` of ``value_and_grad``."""
        jax, jnp = self.jax, self.jax.numpy
        layers = [(jnp.array(W), jnp.array(b)) for W, b in stacked(params, cell.sizes)]
        X, Y = jnp.array(X), jnp.array(Y, np.int32 if Y.ndim == 1 else None)
        compiled = jax.jit(jax.vmap(jax.value_and_grad(self._cost(cell)), in_axes=(0, None, None)))
        return lambda: jax.block_until_ready(compiled(layers, X, Y))

    def costs_and_gradients(self, result):
        return np.asarray(result[0]), flat_rows(np.asarray(array) for layer in result[1] for array in layer)

    def training(self, cell, params, X, Y, batch_size, shuffle):
        jax, jnp = self.jax, self.jax.numpy
        layers, X, Y = self._arrays(cell, params, X, Y)
        cost_and_gradient = jax.value_and_grad(self._cost(cell))
        m, rng = len(X), np.random.default_rng(0)
        whole = m - m % batch_size

        def step(state, batch):
            layers, mean, square, t = state
            cost, grad = cost_and_gradient(layers, *batch)
            t = t + 1
            mean = jax.tree.map(lambda v, g: BETA1 * v + (1 - BETA1) * g, mean, grad)
            square = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, square, grad)
            rate, correction = RATE / (1 - BETA1**t), 1 / (1 - BETA2**t)
            layers = jax.tree.map(
                lambda p, v, s: p - rate * v / (jnp.sqrt(s * correction) + EPSILON), layers, mean, square
            )
            return (layers, mean, square, t), len(batch[0]) * cost

        @jax.jit
        def epoch(layers, X, Y, order):
            if order is not None:
                X, Y = X[order], Y[order]
            zeros = jax.tree.map(jnp.zeros_like, layers)
            state = (layers, zeros, zeros, jnp.zeros((), X.dtype))
            many = (A[:whole].reshape(-1, batch_size, *A.shape[1:]) for A in (X, Y))
            state, costs = jax.lax.scan(step, state, tuple(many))
            total = jnp.sum(costs)
            if whole < m:
                state, cost = step(state, (X[whole:], Y[whole:]))
                total += cost
            return total / m, state[0]

        def call():
            order = rng.permutation(m).astype(np.int32) if shuffle else None
            return jax.block_until_ready(epoch(layers, X, Y, order))

        return call

    def layers(self, result):
        return [(np.asarray(W), np.asarray(b)) for W, b in result[1]]


class ScikitLearn:
    """``MLPClassifier``: its own backpropagation where its loss is the cell's, and ``partial_fit`` for an epoch."""

    name = "scikit-learn"
    #: Of its parameters after some steps with the reference's. Its Adam adds epsilon to the root before the correction
    #: for the start at 0 and not after it, which shows where a gradient is tiny.
    adam_agreement = 1e-2

    def __init__(self, threads: int = 1) -> None:
        import sklearn
        import sklearn.neural_network

        self.version, self.MLPClassifier = sklearn.__version__, sklearn.neural_network.MLPClassifier

    def _classifier(self, cell, **options: Any):
        activation = "logistic" if cell.hidden == "sigmoid" else cell.hidden
        return self.MLPClassifier(cell.sizes[1:-1], activation, alpha=0, **options)

    @staticmethod
    def _fits(cell) -> bool:
        return cell.loss in ("cross_entropy", "binary_cross_entropy") and len(cell.sizes) > 2

    def gradient(self, cell, params, X, Y):
        if not self._fits(cell):
            return None
        model, n = self._classifier(cell), len(cell.sizes)
        model.coefs_ = [np.ascontiguousarray(W.T) for W, _ in split(params, cell.sizes)]
        model.intercepts_ = [b.copy() for _, b in split(params, cell.sizes)]
        model.n_layers_, model.n_outputs_ = n, cell.sizes[-1]
        model.out_activation_ = "softmax" if cell.loss == "cross_entropy" else "logistic"
        targets = np.arange(cell.sizes[-1]) == Y[:, None] if Y.ndim == 1 else Y.astype(bool)  # as fit makes them

        def call():
            activations, deltas = [X] + [None] * (n - 1), [None] * (n - 1)
            return model._backprop(X, targets, None, activations, deltas, [None] * (n - 1), [None] * (n - 1))

        return call

    def cost_and_layers(self, result):
        cost, weights, biases = result
        return float(cost), [(W.T, b) for W, b in zip(weights, biases)]

    def training(self, cell, params, X, Y, batch_size, shuffle):
        if not self._fits(cell) or cell.loss != "cross_entropy":
            return None
        model = self._classifier(cell, batch_size=batch_size, shuffle=shuffle, random_state=np.random.RandomState(0))
        model.partial_fit(X, Y, classes=np.arange(cell.sizes[-1]))  # makes the arrays

        def call():
            for l, (W, b) in enumerate(split(params, cell.sizes)):
                model.coefs_[l][...], model.intercepts_[l][...] = W.T, b
            del model._optimizer  # a new one begins at step 0
            return model.partial_fit(X, Y)

        return call

    def layers(self, result):
        return [(W.T, b) for W, b in zip(result.coefs_, result.intercepts_)]


class Numba:
    """Loops by hand and ``np.dot``, compiled with ``njit`` without ``fastmath``; an epoch is one compiled call.

    ``np.dot`` is SciPy's BLAS, with the threads that it is given; the loops use one thread. Arrays are made beforehand.
    """

    name = "Numba"

    def __init__(self, threads: int = 1) -> None:
        import numba
        import scipy.linalg.cython_blas  # noqa: F401  np.dot needs it, and its threads are to be limited with others'

        self.version = numba.__version__
        self._compile = functools.cache(functools.partial(_numba_functions, numba.njit))

    def _arrays(self, cell, m, dtype):
        """Room for the activations of all layers, and for the deltas of the hidden ones."""
        return [np.empty(m * sum(sizes), dtype) for sizes in (cell.sizes[1:], cell.sizes[1:-1])]

    def gradient(self, cell, params, X, Y):
        compiled, sizes = self._compile(cell.hidden, cell.loss)[0], cell.sizes
        grad, arrays = np.empty_like(params), self._arrays(cell, len(X), params.dtype)
        return lambda: (compiled(sizes, params, X, Y, grad, *arrays), split(grad, sizes))

    def cost_and_layers(self, result):
        return float(result[0]), result[1]

    def population(self, cell, params, X, Y):
        """One network after the other, in one compiled call."""
        compiled, sizes = self._compile(cell.hidden, cell.loss)[1], cell.sizes
        grad, arrays = np.empty_like(params), self._arrays(cell, len(X), params.dtype)
        costs = np.empty(len(params), params.dtype)

        def call():
            compiled(sizes, params, X, Y, costs, grad, *arrays)
            return costs, grad

        return call

    def costs_and_gradients(self, result):
        return result

    def training(self, cell, params, X, Y, batch_size, shuffle):
        compiled, rng = self._compile(cell.hidden, cell.loss)[2], np.random.default_rng(0)
        arrays = self._arrays(cell, batch_size, params.dtype)

        def call():
            p, inputs, targets = params.copy(), X, Y
            if shuffle:
                order = rng.permutation(len(X))
                inputs, targets = X[order], Y[order]
            return compiled(cell.sizes, p, inputs, targets, batch_size, *arrays), split(p, cell.sizes)

        return call

    def layers(self, result):
        return result[1]


def _numba_functions(njit, hidden, loss):
    """Cost and gradient, the same for a population, and an epoch of Adam, for these activations and this loss."""
    relu, tanh = hidden == "relu", hidden == "tanh"
    # Constants of the closure: Numba compiles the branch that is taken. A library's call costs more than a loop of this
    # many multiplications.
    direct = 256

    @njit
    def linear_forward(a, W, b, z):
        if a.shape[0] * W.size <= direct:
            for i in range(z.shape[0]):
                for j in range(z.shape[1]):
                    total = b[j]
                    for k in range(W.shape[1]):
                        total += a[i, k] * W[j, k]
                    z[i, j] = total
            return
        np.dot(a, W.T, z)
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                z[i, j] += b[j]

    @njit
    def linear_backward(delta, a, dW, db):
        db[:] = 0
        for i in range(delta.shape[0]):
            for j in range(delta.shape[1]):
                db[j] += delta[i, j]
        if a.shape[0] * dW.size > direct:
            np.dot(delta.T, a, dW)
            return
        dW[:] = 0
        for i in range(delta.shape[0]):
            for j in range(delta.shape[1]):
                for k in range(a.shape[1]):
                    dW[j, k] += delta[i, j] * a[i, k]

    @njit
    def linear_backward_input(delta, W, out):
        if delta.shape[0] * W.size > direct:
            np.dot(delta, W, out)
            return
        out[:] = 0
        for i in range(delta.shape[0]):
            for j in range(delta.shape[1]):
                for k in range(W.shape[1]):
                    out[i, k] += delta[i, j] * W[j, k]

    @njit
    def activate(z):
        for i in range(z.size):
            if relu:
                z[i] = max(z[i], z.dtype.type(0))
            elif tanh:
                z[i] = 1 - 2 / (1 + np.exp(2 * z[i]))  # half the time of np.tanh, and as near to it as is needed
            else:
                z[i] = 1 / (1 + np.exp(-z[i]))

    @njit
    def activation_backward(delta, a):
        for i in range(a.size):
            if relu:
                delta[i] = delta[i] if a[i] > 0 else 0
            elif tanh:
                delta[i] *= 1 - a[i] * a[i]
            else:
                delta[i] *= a[i] * (1 - a[i])

    @njit
    def squared_error(z, Y):
        total = z.dtype.type(0)
        for i in range(z.shape[0]):
            row = z.dtype.type(0)
            for j in range(z.shape[1]):
                z[i, j] -= Y[i, j]
                row += z[i, j] * z[i, j]
                z[i, j] /= z.shape[0]
            total += row
        return total / (2 * z.shape[0])

    @njit
    def binary_cross_entropy(z, Y):
        total = z.dtype.type(0)
        for i in range(z.shape[0]):
            row = z.dtype.type(0)
            for j in range(z.shape[1]):
                e = np.exp(-abs(z[i, j]))
                row += max(z[i, j], z.dtype.type(0)) - z[i, j] * Y[i, j] + np.log1p(e)
                z[i, j] = ((1 if z[i, j] >= 0 else e) / (1 + e) - Y[i, j]) / z.shape[0]
            total += row
        return total / z.shape[0]

    @njit
    def cross_entropy(z, Y):
        total = z.dtype.type(0)
        for i in range(z.shape[0]):
            largest = z[i].max()
            picked, row = z[i, Y[i]] - largest, z.dtype.type(0)
            for j in range(z.shape[1]):
                z[i, j] = np.exp(z[i, j] - largest)
                row += z[i, j]
            total += np.log(row) - picked
            for j in range(z.shape[1]):
                z[i, j] /= row * z.shape[0]
            z[i, Y[i]] -= z.dtype.type(1) / z.shape[0]
        return total / z.shape[0]

    of_loss = {f.__name__: f for f in (squared_error, binary_cross_entropy, cross_entropy)}[loss]

    @njit
    def cost_and_gradient(sizes, params, X, Y, grad, activations, deltas):
        m, depth = X.shape[0], len(sizes) - 1
        a, z = X, X
        start = at = 0
        for l in range(depth):
            n_in, n_out = sizes[l], sizes[l + 1]
            end = start + n_in * n_out
            z = activations[at : at + m * n_out].reshape(m, n_out)
            linear_forward(a, params[start:end].reshape(n_out, n_in), params[end : end + n_out], z)
            if l < depth - 1:
                activate(activations[at : at + m * n_out])
            a = z
            start, at = end + n_out, at + m * n_out

        cost, delta = of_loss(z, Y), z
        at -= m * sizes[depth]
        for l in range(depth - 1, -1, -1):
            n_in, n_out = sizes[l], sizes[l + 1]
            middle = start - n_out
            start = middle - n_in * n_out
            a = X
            if l > 0:
                at -= m * n_in
                a = activations[at : at + m * n_in].reshape(m, n_in)
            dW = grad[start:middle].reshape(n_out, n_in)
            linear_backward(delta, a, dW, grad[middle : middle + n_out])
            if l > 0:
                previous = deltas[at : at + m * n_in].reshape(m, n_in)
                linear_backward_input(delta, params[start:middle].reshape(n_out, n_in), previous)
                activation_backward(deltas[at : at + m * n_in], activations[at : at + m * n_in])
                delta = previous
        return cost

    @njit
    def population(sizes, params, X, Y, costs, grad, activations, deltas):
        for i in range(len(params)):
            costs[i] = cost_and_gradient(sizes, params[i], X, Y, grad[i], activations, deltas)

    @njit
    def epoch(sizes, params, X, Y, batch_size, activations, deltas):
        real = params.dtype.type
        grad, mean, square = np.empty_like(params), np.zeros_like(params), np.zeros_like(params)
        total = 0.0
        for step in range(1, (len(X) + batch_size - 1) // batch_size + 1):
            start = (step - 1) * batch_size
            x, y = X[start : start + batch_size], Y[start : start + batch_size]
            total += len(x) * cost_and_gradient(sizes, params, x, y, grad, activations, deltas)
            rate, correction = real(RATE / (1 - BETA1**step)), real(1 / (1 - BETA2**step))
            for i in range(params.size):
                g = grad[i]
                mean[i] = real(BETA1) * mean[i] + real(1 - BETA1) * g
                square[i] = real(BETA2) * square[i] + real(1 - BETA2) * g * g
                params[i] -= rate * mean[i] / (np.sqrt(square[i] * correction) + real(EPSILON))
        return total / len(X)

    return cost_and_gradient, population, epoch


class TensorFlow:
    """``tf.function`` of a ``GradientTape``, without XLA, which takes less per call but longer where there is work."""

    name = "TensorFlow"

    def __init__(self, threads: int = 1) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it reports what the processor has, and no GPU
        import tensorflow as tf

        self.tf, self.version = tf, tf.__version__
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)

    def _cost_and_gradient(self, cell):
        tf = self.tf
        hidden = {"relu": tf.nn.relu, "tanh": tf.tanh, "sigmoid": tf.sigmoid}[cell.hidden]

        def cost(leaves, X, Y):
            a, m = X, len(X)
            for W, b in zip(leaves[:-2:2], leaves[1:-2:2]):
                a = hidden(tf.matmul(a, W, transpose_b=True) + b)
            z = tf.matmul(a, leaves[-2], transpose_b=True) + leaves[-1]
            if cell.loss == "squared_error":
                return tf.reduce_sum(tf.math.squared_difference(z, Y)) / (2 * m)
            if cell.loss == "binary_cross_entropy":
                return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(Y, z)) / m
            return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(Y, z))

        def cost_and_gradient(leaves, X, Y):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(leaves)
                J = cost(leaves, X, Y)
            return J, tape.gradient(J, leaves)

        return cost_and_gradient

    def gradient(self, cell, params, X, Y):
        tf = self.tf
        leaves = [tf.constant(array) for layer in split(params, cell.sizes) for array in layer]
        X, Y = tf.constant(X), tf.constant(Y)
        compiled = tf.function(self._cost_and_gradient(cell))

        def call():
            J, grads = compiled(leaves, X, Y)
            return J.numpy(), [g.numpy() for g in grads]

        return call

    def cost_and_layers(self, result):
        return float(result[0]), list(zip(result[1][::2], result[1][1::2]))

    def population(self, cell, params, X, Y):
        """``tf.vectorized_map``, compiled too."""
        tf, cost_and_gradient = self.tf, self._cost_and_gradient(cell)
        leaves = [tf.constant(array) for layer in stacked(params, cell.sizes) for array in layer]
        X, Y = tf.constant(X), tf.constant(Y)
        compiled = tf.function(
            lambda leaves, X, Y: tf.vectorized_map(lambda each: cost_and_gradient(each, X, Y), leaves),
            jit_compile=False,
        )

        def call():
            costs, grads = compiled(leaves, X, Y)
            return costs.numpy(), [g.numpy() for g in grads]

        return call

    def costs_and_gradients(self, result):
        return result[0], flat_rows(result[1])

    def training(self, cell, params, X, Y, batch_size, shuffle):
        return None  # what compiles an epoch is XLA, as for JAX


class FANN:
    """The C library FANN 2.2 by ctypes: one row after the other, squared error, hyperbolic tangents and sigmoids.

    Its functions do not return the gradient, but an epoch of batch training adds it to the weights, multiplied by a
    rate: a large one, so that the difference of the weights is the gradient to all its digits. It is not exact, but off
    where an activation is near its bounds: FANN's derivative of a tanh above 0.98 is that at 0.98. The cost is a sum in
    float32.
    """

    name = "FANN"
    exact = False

    class _Network(ctypes.Structure):
        """The first members of ``struct fann`` in fann_data.h."""

        _fields_ = (
            ("errno_f", ctypes.c_int),
            ("error_log", ctypes.c_void_p),
            ("errstr", ctypes.c_char_p),
            *((name, ctypes.c_float) for name in ("learning_rate", "learning_momentum", "connection_rate")),
            ("network_type", ctypes.c_int),
            ("first_layer", ctypes.c_void_p),
            ("last_layer", ctypes.c_void_p),
            *((name, ctypes.c_uint) for name in ("total_neurons", "num_input", "num_output")),
            ("weights", ctypes.c_void_p),
        )

    class _Data(ctypes.Structure):
        """``struct fann_train_data``."""

        _fields_ = (
            ("errno_f", ctypes.c_int),
            ("error_log", ctypes.c_void_p),
            ("errstr", ctypes.c_char_p),
            *((name, ctypes.c_uint) for name in ("num_data", "num_input", "num_output")),
            ("input", ctypes.POINTER(ctypes.c_void_p)),
            ("output", ctypes.POINTER(ctypes.c_void_p)),
        )

    def __init__(self, threads: int = 1) -> None:
        self.libraries = {}
        for dtype, name in (("float32", "floatfann"), ("float64", "doublefann")):
            path = ctypes.util.find_library(name)
            if path is None:
                raise ImportError(f"there is no library {name}")
            self.libraries[dtype] = library = ctypes.CDLL(path)
            library.fann_create_standard_array.restype = ctypes.POINTER(self._Network)
            library.fann_create_train.restype = ctypes.POINTER(self._Data)
            library.fann_train_epoch.restype = ctypes.c_float
        self.version = path.rpartition(".so.")[2]

    def _epoch(self, cell, X, Y):
        """A function of weights, each unit's with its bias behind them, that returns the cost and the new weights."""
        library = self.libraries[cell.dtype]
        real = {"float32": ctypes.c_float, "float64": ctypes.c_double}[cell.dtype]
        net = library.fann_create_standard_array(len(cell.sizes), (ctypes.c_uint * len(cell.sizes))(*cell.sizes))
        # FANN_SIGMOID_SYMMETRIC is tanh(s z), FANN_SIGMOID 1 / (1 + exp(-2 s z)), FANN_LINEAR s z.
        activation, steepness = {"tanh": (5, 1), "sigmoid": (3, 0.5)}[cell.hidden]
        library.fann_set_activation_function_hidden(net, activation)
        library.fann_set_activation_steepness_hidden(net, real(steepness))
        library.fann_set_activation_function_output(net, 0)
        library.fann_set_activation_steepness_output(net, real(1))
        library.fann_set_training_algorithm(net, 1)  # FANN_TRAIN_BATCH
        library.fann_set_train_error_function(net, 0)  # FANN_ERRORFUNC_LINEAR
        library.fann_set_learning_rate(net, ctypes.c_float(self._RATE * len(X)))  # it is divided by the rows again
        data = library.fann_create_train(len(X), X.shape[1], Y.shape[1])
        ctypes.memmove(data[0].input[0], X.ctypes.data, X.nbytes)
        ctypes.memmove(data[0].output[0], Y.ctypes.data, Y.nbytes)
        count = sum((n_in + 1) * n_out for n_in, n_out in zip(cell.sizes, cell.sizes[1:]))
        inside = np.ctypeslib.as_array(ctypes.cast(net[0].weights, ctypes.POINTER(real)), (count,))

        def epoch(weights):
            inside[:] = weights
            mean_square = library.fann_train_epoch(net, data)  # over rows and outputs
            grad = weights - inside
            grad *= 1 / (self._RATE * len(X))
            return 0.5 * mean_square * Y.shape[1], grad

        return epoch

    _RATE = 2.0**20

    @staticmethod
    def _fits(cell) -> bool:
        return cell.loss == "squared_error" and cell.hidden in ("tanh", "sigmoid")

    @staticmethod
    def _weights(params, sizes):
        layers = split(params, sizes)
        return np.concatenate([np.concatenate([W, b[:, None]], axis=1).ravel() for W, b in layers])

    def gradient(self, cell, params, X, Y):
        if not self._fits(cell):
            return None
        epoch, weights = self._epoch(cell, X, Y), self._weights(params, cell.sizes)
        return lambda: (*epoch(weights), cell.sizes)

    def cost_and_layers(self, result):
        cost, grad, sizes = result
        layers, start = [], 0
        for n_in, n_out in zip(sizes, sizes[1:]):
            block = grad[start : start + (n_in + 1) * n_out].reshape(n_out, n_in + 1)
            layers.append((block[:, :-1], block[:, -1]))
            start += block.size
        return cost, layers

    def population(self, cell, params, X, Y):
        """One network after the other."""
        if not self._fits(cell):
            return None
        epoch, weights = self._epoch(cell, X, Y), [self._weights(vector, cell.sizes) for vector in params]
        return lambda: [(*epoch(each), cell.sizes) for each in weights]

    def costs_and_gradients(self, result):
        found = [self.cost_and_layers(each) for each in result]
        grads = [np.concatenate([array.ravel() for layer in layers for array in layer]) for _, layers in found]
        return np.array([cost for cost, _ in found]), np.array(grads)

    def training(self, cell, params, X, Y, batch_size, shuffle):
        return None  # it has no Adam


class RLtools:
    """The C++ headers RLtools: layers whose sizes and rows are constants, with MKL's products; g++ compiles each cell.

    Squared error and cross-entropy of labels are its losses. Not its generic products, which are loops that take ten
    times as long. The cost is one sum in float32, which is less exact than 1e-4 for half a million terms. No training,
    though it has Adam.
    """

    name = "RLtools"
    exact = False
    FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared")

    def __init__(self, threads: int = 1) -> None:
        from importlib import metadata

        self.version = metadata.version("rltools")
        self._mkl = MKL(threads)
        self._compiler = shutil.which(os.environ.get("CXX", "g++"))
        if self._compiler is None:
            raise ImportError("there is no C++ compiler")
        headers = []
        for package, header in (("rltools", "include/rl_tools/rl_tools.h"), ("mkl-include", "include/mkl.h")):
            found = [path.locate() for path in metadata.files(package) or () if str(path).endswith(header)]
            if not found:
                raise ImportError(f"the package {package} has no {header}")
            headers.append(Path(found[0]).resolve())
        self._include = [f"-I{headers[0].parents[1]}", f"-I{headers[1].parent}"]
        self._folder, self._made = tempfile.TemporaryDirectory(), 0
        try:
            self._library((1, 1), "tanh", "squared_error", "float32", 1)
        except subprocess.CalledProcessError as error:
            first = next(line for line in error.stderr.splitlines() if "error" in line)
            raise ImportError(f"its headers do not compile: {first}") from None

    def _library(self, sizes, hidden, loss, dtype, m):
        self._made += 1  # a library holds the rows of one cell, so another with its sizes has another library
        name = Path(self._folder.name, f"cell{self._made}")
        library, source = name.with_suffix(".so"), name.with_suffix(".cpp")
        source.write_text(_rltools_source(sizes, hidden, loss, "float" if dtype == "float32" else "double", m))
        command = [self._compiler, *self.FLAGS, *self._include, str(source), "-o", str(library), self._mkl.path]
        subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
        return ctypes.CDLL(str(library))

    def _functions(self, cell, X, Y):
        """The compiled cell, with its rows: functions for parameters, for many networks, and for one."""
        if cell.loss not in ("squared_error", "cross_entropy"):
            return None
        library = self._library(cell.sizes, cell.hidden, cell.loss, cell.dtype, len(X))
        address, real = ctypes.c_void_p, ctypes.c_float if cell.dtype == "float32" else ctypes.c_double
        library.rows(address(X.ctypes.data), address(Y.ctypes.data))
        library.cost_and_gradient.restype = real
        return library

    def gradient(self, cell, params, X, Y):
        library = self._functions(cell, X, Y)
        if library is None:
            return None
        library.parameters(ctypes.c_void_p(params.ctypes.data))
        grad, compiled = np.empty_like(params), library.cost_and_gradient
        grads, address = split(grad, cell.sizes), ctypes.c_void_p(grad.ctypes.data)
        return lambda: (compiled(address), grads)

    def cost_and_layers(self, result):
        return result

    def population(self, cell, params, X, Y):
        """One network after the other, in one compiled call."""
        library = self._functions(cell, X, Y)
        if library is None:
            return None
        costs, grad = np.empty(len(params), params.dtype), np.empty_like(params)
        addresses = [ctypes.c_void_p(array.ctypes.data) for array in (params, costs, grad)]

        def call():
            library.population(len(params), params.shape[1], *addresses)
            return costs, grad

        return call

    def costs_and_gradients(self, result):
        return result

    def training(self, cell, params, X, Y, batch_size, shuffle):
        return None


def _rltools_source(sizes, hidden, loss, real, m):
    """C++ for one cell."""
    layers, last = range(1, len(sizes)), len(sizes) - 1
    labels = loss == "cross_entropy"
    # Its mean squared error is over rows and outputs.
    evaluate, weight, width = ("categorical_cross_entropy", 1, 1) if labels else ("mse", sizes[-1] / 2, sizes[-1])

    def of_layers(template, which=layers):
        """The template for each layer l: k is the one before it, whose outputs it takes."""
        return "\n".join(
            template.replace("@l", str(l))
            .replace("@k", str(l - 1))
            .replace("@input", "x" if l == 1 else f"layer{l - 1}.output")
            .replace("@in", str(sizes[l - 1]))
            .replace("@out", str(sizes[l]))
            .replace("@F", "IDENTITY" if l == last else hidden.upper())
            for l in which
        )

    return f"""
#define RL_TOOLS_BACKEND_ENABLE_MKL
#include <rl_tools/operations/cpu_mux.h>
#include <rl_tools/nn/optimizers/adam/instance/operations_generic.h>
#include <rl_tools/nn/operations_cpu_mux.h>
#include <rl_tools/nn/loss_functions/{evaluate}/operations_generic.h>
namespace rlt = rl_tools;
using T = {real};
using DEVICE = rlt::devices::DEVICE_FACTORY<rlt::devices::DefaultCPUSpecification>;
using RNG = DEVICE::SPEC::RANDOM::ENGINE<>;
using TI = typename DEVICE::index_t;
using F = rlt::nn::activation_functions::ActivationFunction;
using CAPABILITY = rlt::nn::capability::Gradient<rlt::nn::parameters::Gradient>;
template <TI N_IN, TI N_OUT, F ACTIVATION> using Layer = rlt::nn::layers::dense::Layer<
    rlt::nn::layers::dense::Configuration<rlt::numeric_types::Policy<T>, TI, N_OUT, ACTIVATION>, CAPABILITY,
    rlt::tensor::Shape<TI, {m}, N_IN>>;
template <typename TYPE, TI N> using Rows = rlt::Matrix<rlt::matrix::Specification<TYPE, TI, {m}, N>>;
static DEVICE device;
static RNG rng;
static rlt::nn::layers::dense::Buffer buffer;
static Rows<T, {sizes[0]}> x;
static Rows<{"TI" if labels else "T"}, {width}> y;
{of_layers("static Layer<@in, @out, F::@F> layer@l; static Rows<T, @out> delta@l;")}

template <typename L> const T* put(L& layer, const T* p, TI n_in, TI n_out) {{
    for (TI i = 0; i < n_out; i++)
        for (TI j = 0; j < n_in; j++) rlt::set(device, layer.weights.parameters, *p++, i, j);
    for (TI i = 0; i < n_out; i++) rlt::set(device, layer.biases.parameters, *p++, i);
    return p;
}}
template <typename L> T* take(L& layer, T* p, TI n_in, TI n_out) {{
    for (TI i = 0; i < n_out; i++)
        for (TI j = 0; j < n_in; j++) *p++ = rlt::get(device, layer.weights.gradient, i, j);
    for (TI i = 0; i < n_out; i++) *p++ = rlt::get(device, layer.biases.gradient, i);
    return p;
}}
extern "C" void rows(const T* X, const {"long long" if labels else "T"}* Y) {{
    rlt::malloc(device, x);
    rlt::malloc(device, y);
    {of_layers("rlt::malloc(device, layer@l); rlt::malloc(device, delta@l);")}
    for (TI i = 0; i < {m}; i++) {{
        for (TI j = 0; j < {sizes[0]}; j++) rlt::set(x, i, j, X[i * {sizes[0]} + j]);
        for (TI j = 0; j < {width}; j++) rlt::set(y, i, j, Y[i * {width} + j]);
    }}
}}
extern "C" void parameters(const T* p) {{
    {of_layers("p = put(layer@l, p, @in, @out);")}
}}
extern "C" T cost_and_gradient(T* p) {{
    {of_layers("rlt::zero_gradient(device, layer@l); rlt::forward(device, layer@l, @input, buffer, rng);")}
    T cost = rlt::nn::loss_functions::{evaluate}::evaluate(device, layer{last}.output, y, T({weight}));
    rlt::nn::loss_functions::{evaluate}::gradient(device, layer{last}.output, y, delta{last}, T({weight}));
    {of_layers("rlt::backward_full(device, layer@l, @input, delta@l, delta@k, buffer);", reversed(layers[1:]))}
    rlt::backward(device, layer1, x, delta1, buffer);
    {of_layers("p = take(layer@l, p, @in, @out);")}
    return cost;
}}
extern "C" void population(int networks, int n_params, const T* params, T* costs, T* grads) {{
    for (TI i = 0; i < TI(networks); i++) {{
        parameters(params + i * n_params);
        costs[i] = cost_and_gradient(grads + i * n_params);
    }}
}}
"""


#: By the names that the option --peers takes.
PEERS = {
    "numpy": NumPy,
    "mkl": MKL,
    "numba": Numba,
    "torch": PyTorch,
    "torch_compile": TorchCompile,
    "torch_high": TorchHigh,
    "torch_medium": TorchMedium,
    "jax": JAX,
    "tensorflow": TensorFlow,
    "sklearn": ScikitLearn,
    "fann": FANN,
    "rltools": RLtools,
}
