"""Worked examples that other people published, as literal figures.

Half a unit of the last printed place is allowed, and no more.
"""

from __future__ import annotations

import numpy as np
import pytest

import bpcore

pytestmark = pytest.mark.usefixtures("backend")


class TestMazur:
    """M. Mazur, "A Step by Step Backpropagation Example", mattmazur.com, 17 March 2015.

    Two inputs, two hidden and two output units, all logistic; half the squared error; one example; rate 0.5. The
    biases stay fixed in the post. Its error after one step, 0.291027924, comes from hidden deltas taken after the
    output weights had changed; its weights are those of the simultaneous update, which gives 0.2910277737.
    """

    X, Y = np.array([[0.05, 0.10]]), np.array([[0.01, 0.99]])

    @pytest.fixture
    def net(self):
        return bpcore.Network([2, 2, 2], "sigmoid", "squared_error", output="sigmoid")

    @pytest.fixture
    def params(self):
        return np.array([0.15, 0.20, 0.25, 0.30, 0.35, 0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.60])

    def test_forward_pass(self, net, params):
        _, hidden, output = net.trace(params, self.X).activations
        np.testing.assert_allclose(hidden[0], [0.593269992, 0.596884378], rtol=0, atol=5e-10)
        np.testing.assert_allclose(output[0], [0.75136507, 0.772928465], rtol=0, atol=5e-9)

    def test_cost_and_gradient(self, net, params):
        J, grad = net.cost_and_gradient(params, self.X, self.Y)
        first, second = net.layers(grad)
        assert J == pytest.approx(0.298371109, abs=5e-10)
        assert second.weights[0, 0] == pytest.approx(0.082167041, abs=5e-10)
        assert second.bias[0] == pytest.approx(0.138498562, abs=5e-10)
        assert first.weights[0, 0] == pytest.approx(0.000438568, abs=5e-10)

    def test_ten_thousand_steps(self, net, params):
        descent = bpcore.GradientDescent(0.5)
        costs = []
        for step in range(10_000):
            J, grad = net.cost_and_gradient(params, self.X, self.Y)
            costs.append(J)
            for layer in net.layers(grad):
                layer.bias[...] = 0
            descent.step(params, grad)
            if step == 0:
                first, second = net.layers(params.copy())
        expected = [[0.149780716, 0.19956143], [0.24975114, 0.29950229]]
        np.testing.assert_allclose(first.weights, expected, rtol=0, atol=5e-9)
        expected = [[0.35891648, 0.408666186], [0.51130127, 0.561370121]]
        np.testing.assert_allclose(second.weights, expected, rtol=0, atol=5e-9)
        found = [costs[n - 1] for n in (1, 2, 5, 10, 100, 1000, 10_000)]
        expected = [0.2983711088, 0.2910277737, 0.2682327612, 0.2288087405, 0.0203118271, 0.0011157856, 3.51085e-05]
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-11)
        np.testing.assert_allclose(net.forward(params, self.X)[0], [0.01591362, 0.98406427], rtol=0, atol=5e-9)


PRINTED_GRADIENTS = {
    0: """-0.0092782524 0.0088991196 -0.0083601076 0.0076281355 -0.0067479837 -0.0000030498 0.0000142869
    -0.0000259383 0.0000369883 -0.0000468760 -0.0001750601 0.0002331464 -0.0002874687 0.0003353203 -0.0003762156
    -0.0000962661 0.0001179827 -0.0001371497 0.0001532471 -0.0001665603 0.3145449701 0.1110565882 0.0974006970
    0.1640908188 0.0575736493 0.0504575855 0.1645679323 0.0577867378 0.0507530173 0.1583393339 0.0559235296
    0.0491620841 0.1511275275 0.0536967009 0.0471456249 0.1495683347 0.0531542052 0.0465597186""",
    3: """-0.009278252 0.008899120 -0.008360108 0.007628136 -0.006747984 -0.016767980 0.039433483 0.059335556
    0.024764097 -0.032688143 -0.060174472 -0.031961229 0.024922553 0.059771762 0.038641055 -0.017370465
    -0.057565867 -0.045196385 0.009145880 0.054610155 0.314544970 0.111056588 0.097400697 0.118682669 0.000038193
    0.033692656 0.203987128 0.117148233 0.075480126 0.125698067 -0.004075883 0.016967709 0.176337550 0.113133142
    0.086162895 0.132294136 -0.004529644 0.001500484""",
}


class TestNg:
    """A. Ng's course, exercise 4, checkNNGradients: a 3-5-3 network whose parameters are sines, five examples.

    The figures are the course's printed numerical gradients, Octave's order (column by column). Its penalty is
    lambda/(2m), so l2 is lambda/m.
    """

    @staticmethod
    def sines(rows, columns):
        return np.sin(np.arange(1, rows * columns + 1)).reshape(rows, columns, order="F") / 10

    @pytest.mark.parametrize(("lambda_", "decimals"), [(0, 10), (3, 9)])
    def test_gradient(self, lambda_, decimals):
        net = bpcore.Network([3, 5, 3], "sigmoid", "binary_cross_entropy")
        params = net.from_thetas([self.sines(5, 4), self.sines(3, 6)])
        X, labels = self.sines(5, 3), 1 + np.arange(1, 6) % 3
        Y = np.eye(3)[labels - 1]
        _, grad = net.cost_and_gradient(params, X, Y, l2=lambda_ / 5)
        found = np.concatenate([theta.ravel(order="F") for theta in net.to_thetas(grad)])
        expected = np.array(PRINTED_GRADIENTS[lambda_].split(), float)
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.501 * 10.0**-decimals)

    @pytest.mark.parametrize(("lambda_", "J", "places"), [(0, 7.4070, 4), (3, 16.457, 3), (4, 19.474, 3)])
    def test_cost(self, lambda_, J, places):
        """The mentors' test case: parameters 0.1 to 1.8, inputs cos([1 2; 3 4; 5 6]), labels 4, 2, 3."""
        net = bpcore.Network([2, 2, 4], "sigmoid", "binary_cross_entropy")
        thetas = np.split(np.arange(1, 19) / 10, [6])
        params = net.from_thetas([thetas[0].reshape(2, 3, order="F"), thetas[1].reshape(4, 3, order="F")])
        X, Y = np.cos([[1, 2], [3, 4], [5, 6]]), np.eye(4)[[3, 1, 2]]
        assert net.cost(params, X, Y, l2=lambda_ / 3) == pytest.approx(J, abs=0.501 * 10.0**-places)


def test_step_of_scikit_learn(dtype):
    """The hand-worked step of scikit-learn's own test_fit (sklearn/neural_network/tests/test_mlp.py, BSD-3).

    Compared to three decimals, as there: its comment rounds on the way.
    """
    net = bpcore.Network([3, 2, 1], "sigmoid", "binary_cross_entropy", dtype=dtype)
    params = np.array([0.1, 0.3, 0.5, 0.2, 0.1, 0, 0.1, 0.1, 0.1, 0.2, 1.0], dtype)
    X, Y = np.array([[0.6, 0.8, 0.7]], dtype), np.array([[0.0]], dtype)
    np.testing.assert_allclose(
        net.trace(params, X).activations[1][0], [0.679178699175393, 0.574442516811659], rtol=1e-6
    )
    _, grad = net.cost_and_gradient(params, X, Y, l2=0.1)
    bpcore.GradientDescent(0.1).step(params, grad)
    first, second = net.layers(params)
    expected = np.array([[0.098, 0.195756], [0.2956664, 0.096008], [0.4939998, -0.002244]]).T
    np.testing.assert_allclose(first.weights, expected, rtol=0, atol=1.5e-3)
    np.testing.assert_allclose(first.bias, [0.098333, 0.09626], rtol=0, atol=1.5e-3)
    np.testing.assert_allclose(second.weights, [[0.04706, 0.154089]], rtol=0, atol=1.5e-3)
    np.testing.assert_allclose(second.bias, [0.9235], rtol=0, atol=1.5e-3)
    assert net.forward(params, X)[0, 0] == pytest.approx(0.739, abs=5e-4)
