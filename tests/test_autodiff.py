"""The gradient against JAX's automatic differentiation of the plain formulas."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import COMBINATIONS, assert_agree, make_data, make_parameters

import bpcore
from bpcore.architecture import ACTIVATIONS, CANONICAL_OUTPUT

jax = pytest.importorskip("jax", reason="jax comes with the dev extra; not every platform has it")
jax.config.update("jax_enable_x64", True)
jnp = jax.numpy

pytestmark = pytest.mark.usefixtures("backend")

G = {
    "identity": lambda z: z,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": lambda z: jax.nn.leaky_relu(z, 0.01),
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "softmax": jax.nn.softmax,
    "exp": jnp.exp,
}
LOSS = {
    "squared_error": lambda z, a, y: jnp.sum((a - y) ** 2, 1) / 2,
    "huber": lambda z, a, y: jnp.sum(jnp.where(abs(a - y) <= 1, (a - y) ** 2 / 2, abs(a - y) - 0.5), 1),
    "absolute_error": lambda z, a, y: jnp.sum(abs(a - y), 1),
    "binary_cross_entropy": lambda z, a, y: -jnp.sum(y * jax.nn.log_sigmoid(z) + (1 - y) * jax.nn.log_sigmoid(-z), 1),
    "cross_entropy": lambda z, a, y: -jnp.sum(y * jax.nn.log_softmax(z), 1),
    "poisson": lambda z, a, y: jnp.sum(jnp.exp(z) - y * z, 1),
    "quantile": lambda z, a, y: jnp.sum(jnp.maximum(y - a, a - y) / 2, 1),
    "gaussian_nll": lambda z, a, y: jnp.sum(a[:, K:] + (y - a[:, :K]) ** 2 / jnp.exp(a[:, K:]), 1) / 2,
    "gamma": lambda z, a, y: jnp.sum(z + y / a, 1),
    "tweedie": lambda z, a, y: 2 * jnp.sum(jnp.sqrt(a) + y / jnp.sqrt(a), 1),
    "focal": lambda z, a, y: (
        -jnp.sum(y * (1 - a) ** 2 * jax.nn.log_sigmoid(z) + (1 - y) * a**2 * jax.nn.log_sigmoid(-z), 1)
    ),
    "hinge": lambda z, a, y: jnp.sum(jax.nn.relu(1 - y * a), 1),
    "squared_hinge": lambda z, a, y: jnp.sum(jax.nn.relu(1 - y * a) ** 2, 1),
}
#: Targets of a row of gaussian_nll.
K = 2


@functools.cache
def reference(sizes, hidden, loss, output, dtype):
    """A problem, and what JAX makes of it: cost, outputs, gradients with respect to parameters and inputs."""
    rng = np.random.default_rng(5)
    net = bpcore.Network(sizes, hidden, loss, output, dtype)
    params = make_parameters(net, rng)
    X, Y, w = make_data(net.sizes, loss, dtype, 40, rng)

    def network(p, x):
        a, start, penalty = x, 0, 0.0
        for n_in, n_out, g in zip(net.sizes, net.sizes[1:], (*net.hidden, net.output)):
            W = p[start : start + n_out * n_in].reshape(n_out, n_in)
            z = a @ W.T + p[start + n_out * n_in : start + n_out * n_in + n_out]
            a, start = G[g](z), start + n_out * n_in + n_out
            penalty = penalty + jnp.sum(W**2)
        return z, a, penalty

    def cost(p, x):
        z, a, penalty = network(p, x)
        return jnp.sum(w * LOSS[loss](z, a, Y)) / w.sum() + 0.07 / 2 * penalty

    @jax.jit
    def both(p, x):
        return jax.value_and_grad(cost, argnums=(0, 1))(p, x), network(p, x)[1]

    (J, (grad, dX)), A = both(params, X)
    as_numpy = {"J": float(J), "grad": np.array(grad), "dX": np.array(dX), "A": np.array(A)}
    return SimpleNamespace(params=params, X=X, Y=Y, w=w, **as_numpy)


def check(sizes, hidden, loss, output, dtype):
    right = reference(sizes, hidden, loss, output, dtype)
    net = bpcore.Network(sizes, hidden, loss, output, dtype)
    J, grad = net.cost_and_gradient(right.params, right.X, right.Y, 0.07, right.w)
    assert J == pytest.approx(right.J, rel=1e-12 if dtype == "float64" else 1e-5)
    assert_agree(grad, right.grad, dtype, 10)
    assert_agree(net.forward(right.params, right.X), right.A, dtype, 10)
    return net, right


@pytest.mark.parametrize(("loss", "output"), COMBINATIONS)
def test_losses_and_outputs(loss, output):
    check((4, 7, 6, 2 * K if loss == "gaussian_nll" else 3), "tanh", loss, output, "float64")


@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_hidden_activations(hidden, dtype):
    net, right = check((4, 7, 6, 3), hidden, "squared_error", "identity", dtype)
    trace = net.trace(right.params, right.X)
    dA = (right.A - right.Y) * right.w[:, None] / right.w.sum()
    assert_agree(trace.backward(dA, input_gradient=True)[1], right.dX, dtype, 10)


def test_several_heads(dtype):
    """Every loss in one network, each with its canonical output, and weights of all kinds."""
    rng = np.random.default_rng(9)
    losses = [name for name in LOSS if name != "gaussian_nll"]
    heads = [(name, 3, {"weight": 0.5 + i % 3}) for i, name in enumerate(losses)]
    net = bpcore.Network([4, 7, 3 * len(heads)], "tanh", heads, dtype=dtype)
    params, X = make_parameters(net, rng), rng.normal(size=(40, 4)).astype(dtype)
    Y = np.hstack([make_data([4, 3], name, dtype, 40, rng)[1] for name in losses])

    def cost(p):
        (W1, b1), (W2, b2) = net.layers(np.arange(net.n_parameters))
        z = jnp.tanh(X @ p[W1].T + p[b1]) @ p[W2].T + p[b2]
        total = 0.0
        for i, (name, _, options) in enumerate(heads):
            own, y = z[:, 3 * i : 3 * i + 3], Y[:, 3 * i : 3 * i + 3]
            total += options["weight"] * jnp.mean(LOSS[name](own, G[CANONICAL_OUTPUT[name]](own), y))
        return total

    J, expected = jax.jit(jax.value_and_grad(cost))(params.astype(np.float64))
    found, grad = net.cost_and_gradient(params, X, Y)
    assert found == pytest.approx(float(J), rel=1e-12 if dtype == "float64" else 1e-5)
    assert_agree(grad, np.array(expected).astype(dtype), dtype, 10)


@functools.cache
def derivatives(sizes, hidden, output, dtype):
    """JAX's Jacobians, tangents and gradients of rows, of 9 rows."""
    rng = np.random.default_rng(6)
    net = bpcore.Network(sizes, list(hidden), "squared_error", output, dtype)
    params = make_parameters(net, rng)
    X, Y, _ = make_data(net.sizes, net.loss, dtype, 9, rng)
    d_params, d_X = rng.normal(size=params.shape).astype(dtype), rng.normal(size=X.shape).astype(dtype)

    def network(p, x):
        a, start = x, 0
        for n_in, n_out, g in zip(net.sizes, net.sizes[1:], (*net.hidden, net.output)):
            W = p[start : start + n_out * n_in].reshape(n_out, n_in)
            a = G[g](a @ W.T + p[start + n_out * n_in : start + n_out * n_in + n_out])
            start += n_out * n_in + n_out
        return a

    def loss(p, x, y):
        return jnp.sum((network(p, x) - y) ** 2) / 2

    @jax.jit  # operation by operation each of them would be compiled by itself
    def every(params, X, Y, d_params, d_X):
        J = jax.vmap(jax.jacrev(network), (None, 0))(params, X)
        Jx = jax.vmap(jax.jacfwd(network, argnums=1), (None, 0))(params, X)
        G_rows = jax.vmap(jax.grad(loss), (None, 0, 0))(params, X, Y)
        return J, Jx, G_rows, *jax.jvp(network, (params, X), (d_params, d_X))

    found = [np.array(x, dtype) for x in every(params, X, Y, d_params, d_X)]
    return SimpleNamespace(params=params, X=X, Y=Y, d_params=d_params, d_X=d_X, found=found)


@pytest.mark.parametrize("output", ["identity", "softmax", "sigmoid"])
@pytest.mark.parametrize("hidden", [("tanh", "relu"), ("gelu", "silu"), ("elu", "softplus")], ids=str)
def test_derivatives_row_by_row(hidden, output, dtype):
    """Every form of the first derivative against JAX's own transformations."""
    right = derivatives((4, 7, 6, 3), hidden, output, dtype)
    net = bpcore.Network((4, 7, 6, 3), list(hidden), "squared_error", output, dtype)
    params, X, Y = right.params, right.X, right.Y
    J, Jx, G_rows, A, dA = right.found
    assert_agree(net.jacobian(params, X), J, dtype, 10)
    assert_agree(net.input_jacobian(params, X), Jx, dtype, 10)
    assert_agree(net.per_row_gradients(params, X, Y), G_rows, dtype, 10)
    norms = np.linalg.norm(G_rows.astype(np.float64), axis=1)
    assert_agree(net.gradient_norms(params, X, Y), norms.astype(dtype), dtype, 10)
    outputs, along = net.jvp(params, X, right.d_params, right.d_X)
    assert_agree(outputs, A, dtype, 10)
    assert_agree(along, dA, dtype, 20)
    C = float(np.median(norms))
    clipped = (np.minimum(1, C / norms)[:, np.newaxis] * G_rows).mean(axis=0).astype(dtype)
    assert_agree(net.cost_and_gradient(params, X, Y, clip_norm=C)[1], clipped, dtype, 20)
    dA = np.cos(A)
    pulled = np.einsum("mk,mkp->p", dA, J).astype(dtype), np.einsum("mk,mki->mi", dA, Jx).astype(dtype)
    for found, expected in zip(net.backward(params, X, dA, input_gradient=True), pulled, strict=True):
        assert_agree(found, expected, dtype, 20)
