"""Bad input: a TypeError or ValueError that names the argument, what must hold and what came; nothing is changed."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import bpcore
from bpcore import Network

pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture
def net():
    return Network([4, 5, 3], "tanh", "squared_error", dtype="float64")


@pytest.fixture
def data(net, rng):
    return {"params": net.initialize(0), "X": rng.normal(size=(10, 4)), "Y": rng.normal(size=(10, 3))}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sizes": [4]}, ValueError, "sizes"),
        ({"sizes": []}, ValueError, "sizes"),
        ({"sizes": "4-5"}, TypeError, "sizes"),
        ({"sizes": 4}, TypeError, "sizes"),
        ({"sizes": [4, 0, 1]}, ValueError, r"sizes\[1\] must be >= 1, got 0"),
        ({"sizes": [4, -2]}, ValueError, r"sizes\[1\]"),
        ({"sizes": [4, 2.5]}, TypeError, r"sizes\[1\] must be an integer, got 2.5"),
        ({"sizes": [True, 2]}, TypeError, r"sizes\[0\]"),
        ({"sizes": [2**40, 2**40]}, ValueError, "sizes"),
        ({"hidden": "rellu"}, ValueError, "hidden must be one of identity, sigmoid.*, got 'rellu'"),
        ({"hidden": "softmax"}, ValueError, "hidden"),
        ({"hidden": ["relu", "relu"]}, ValueError, "hidden must name 1 activation, one for each hidden layer, got 2"),
        ({"hidden": []}, ValueError, "hidden must name 1 activation,.*, got 0"),
        ({"hidden": 3}, TypeError, "hidden"),
        ({"hidden": [None]}, TypeError, r"hidden\[0\]"),
        ({"loss": "mse"}, ValueError, "loss must be one of squared_error.*, got 'mse'"),
        ({"loss": None}, TypeError, "loss"),
        ({"output": "swish"}, ValueError, "output"),
        ({"output": 1}, TypeError, "output"),
        (
            {"loss": "cross_entropy", "output": "sigmoid"},
            ValueError,
            "output must be 'softmax' for cross_entropy.*, got 'sigmoid'",
        ),
        ({"loss": "binary_cross_entropy", "output": "softmax"}, ValueError, "output"),
        ({"dtype": "float16"}, ValueError, "dtype must be float32 or float64, got 'float16'"),
        ({"dtype": "int64"}, ValueError, "dtype"),
        ({"dtype": None}, ValueError, "dtype"),
        ({"dtype": "no such"}, TypeError, "dtype"),
    ],
)
def test_network_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        Network(**{"sizes": [4, 5, 3], "hidden": "relu", **arguments})


def test_network_without_hidden_layers():
    for hidden in ("relu", [], (), None):
        assert Network([4, 3], hidden).hidden == ()


def test_network_is_a_value():
    net = Network([4, 5, 3], "relu", "cross_entropy", dtype=np.float32)
    same = Network((np.int64(4), 5, 3), ["relu"], "cross_entropy", "softmax", "float32")
    other = Network([4, 5, 3], "relu", "cross_entropy", dtype="float64")
    assert net == same
    assert hash(net) == hash(same)
    assert net != other
    assert net != 1
    assert len({net, same, other}) == 2
    assert eval(repr(net)) == net
    for clone in (pickle.loads(pickle.dumps(net)), copy.copy(net), copy.deepcopy(net)):
        assert clone == net
        np.testing.assert_array_equal(clone.initialize(0), net.initialize(0))
    for attribute in ("sizes", "loss", "new"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(net, attribute, 1)
    with pytest.raises(AttributeError, match="immutable"):
        del net.sizes
    assert (net.sizes, net.hidden, net.output, net.loss) == ((4, 5, 3), ("relu",), "softmax", "cross_entropy")
    assert net.dtype == np.dtype("float32")
    assert net.n_parameters == 4 * 5 + 5 + 5 * 3 + 3


def test_layers_are_views(net):
    params = np.arange(float(net.n_parameters))
    first, second = net.layers(params)
    assert (first.weights.shape, first.bias.shape) == ((5, 4), (5,))
    np.testing.assert_array_equal(first.weights, np.arange(20.0).reshape(5, 4))
    np.testing.assert_array_equal(second.bias, params[-3:])
    second.weights[1, 2] = -1
    assert params[25 + 1 * 5 + 2] == -1
    strided = np.zeros(2 * net.n_parameters)[::2]
    net.layers(strided)[0].weights[...] = 1
    assert strided.sum() == 20
    with pytest.raises(TypeError, match="params must be a NumPy array.*, got list"):
        net.layers([0.0] * net.n_parameters)
    with pytest.raises(ValueError, match=r"params must have shape \(43,\), got \(3,\)"):
        net.layers(np.zeros(3))


def test_thetas_and_back(net, data):
    thetas = net.to_thetas(data["params"])
    assert [t.shape for t in thetas] == [(5, 5), (3, 6)]
    layer = net.layers(data["params"])[1]
    np.testing.assert_array_equal(thetas[1][:, 0], layer.bias)
    np.testing.assert_array_equal(thetas[1][:, 1:], layer.weights)
    np.testing.assert_array_equal(net.from_thetas(thetas), data["params"])
    thetas[0][...] = 0
    assert data["params"].any()
    for bad, error in (
        ([thetas[0]], ValueError), (thetas[::-1], ValueError), (3, TypeError), (["a", "b"], TypeError),
    ):  # fmt: skip
        with pytest.raises(error, match="thetas"):
            net.from_thetas(bad)


BAD_ARRAYS = [
    ("params", np.zeros(3), ValueError, r"params must have shape \(43,\), got \(3,\)"),
    ("params", np.zeros(44), ValueError, r"params must have shape \(43,\), got \(44,\)"),
    ("params", np.zeros((43, 1)), ValueError, "params"),
    ("params", np.zeros(43, complex), TypeError, "params must hold real numbers, got dtype complex128"),
    ("params", None, TypeError, "params"),
    ("params", "abc", TypeError, "params"),
    ("params", [[1.0], [1.0, 2.0]], TypeError, "params"),
    ("X", np.zeros((10, 3)), ValueError, "X has 3 columns, but the network has 4 inputs"),
    ("X", np.zeros(4), ValueError, r"X must have shape \(rows, 4\), got \(4,\)"),
    ("X", np.zeros((2, 5, 4)), ValueError, r"X must have shape \(rows, 4\), got \(2, 5, 4\)"),
    ("X", 3.0, ValueError, r"X must have shape \(rows, 4\), got \(\)"),
    ("X", np.full((10, 4), "a"), TypeError, "X must hold real numbers, got dtype [<>]U1"),
    ("X", np.full((10, 4), None), TypeError, "X must hold real numbers, got dtype object"),
    ("X", np.zeros((10, 4), "datetime64[s]"), TypeError, "X must hold real numbers, got dtype datetime"),
    ("X", np.zeros((10, 4), complex), TypeError, "X must hold real numbers, got dtype complex128"),
    ("X", np.ma.masked_array(np.zeros((10, 4)), True), TypeError, "X must not be a masked array"),
    ("X", [[1.0, 2.0], [3.0]], TypeError, "X"),
    ("X", {1, 2}, TypeError, "X"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), BAD_ARRAYS)
@pytest.mark.parametrize("method", ["forward", "cost", "cost_and_gradient", "trace", "add", "check_gradient"])
def test_arrays_refused(net, data, method, name, value, error, message):
    arguments = {**data, name: value}
    accumulator = net.accumulator()
    calls = {
        "forward": lambda: net.forward(arguments["params"], arguments["X"]),
        "trace": lambda: net.trace(arguments["params"], arguments["X"]),
        "cost": lambda: net.cost(**arguments),
        "cost_and_gradient": lambda: net.cost_and_gradient(**arguments),
        "add": lambda: accumulator.add(**arguments),
        "check_gradient": lambda: bpcore.check_gradient(net, **arguments),
    }
    with pytest.raises(error, match=message):
        calls[method]()
    assert not accumulator.buffer.any()


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("Y", np.zeros((10, 2)), ValueError, r"Y must have shape \(10, 3\), got \(10, 2\)"),
        ("Y", np.zeros((9, 3)), ValueError, "Y has 9 rows, but X has 10"),
        ("Y", np.zeros((11, 3)), ValueError, "Y has 11 rows, but X has 10"),
        ("Y", np.zeros(10), ValueError, r"Y must have shape \(10, 3\), got \(10,\)"),
        ("Y", np.zeros(10, int), ValueError, r"Y must have shape \(10, 3\), got \(10,\)"),
        ("Y", np.zeros((10, 3), complex), TypeError, "Y must hold real numbers, got dtype complex128"),
        ("Y", None, TypeError, "Y"),
        ("l2", -1.0, ValueError, "l2 must be finite and >= 0, got -1.0"),
        ("l2", np.nan, ValueError, "l2 must be finite and >= 0, got nan"),
        ("l2", np.inf, ValueError, "l2 must be finite and >= 0, got inf"),
        ("l2", "1", TypeError, "l2 must be a number, got '1'"),
        ("l2", None, TypeError, "l2"),
        ("l2", [0.1], TypeError, "l2"),
        ("sample_weight", np.ones(9), ValueError, "sample_weight has 9 entries, but X has 10 rows"),
        (
            *("sample_weight", np.ones((10, 1)), ValueError),
            r"sample_weight must have shape \(10,\) or \(10, 3\), got \(10, 1\)",
        ),
        (
            "sample_weight",
            np.r_[np.ones(9), -1],
            ValueError,
            r"sample_weight must be finite and >= 0, got sample_weight\[9\] = -1",
        ),
        (
            "sample_weight",
            np.r_[np.nan, np.ones(9)],
            ValueError,
            r"sample_weight must be finite.*got sample_weight\[0\] = nan",
        ),
        (
            "sample_weight",
            np.r_[np.inf, np.ones(9)],
            ValueError,
            r"sample_weight must be finite.*got sample_weight\[0\] = inf",
        ),
        ("sample_weight", np.zeros(10), ValueError, "sample_weight"),
        ("sample_weight", "abc", TypeError, "sample_weight"),
        ("sample_weight", np.full(10, 1e308), ValueError, "sample_weight"),
        ("threads", 0, ValueError, "threads must be >= 1, got 0"),
        ("threads", -3, ValueError, "threads"),
        ("threads", 1.5, TypeError, "threads must be an integer, got 1.5"),
        ("threads", True, TypeError, "threads"),
        ("threads", "2", TypeError, "threads"),
    ],
)
@pytest.mark.parametrize("method", ["cost", "cost_and_gradient"])
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_other_arguments_refused(net, data, method, name, value, error, message):
    with pytest.raises(error, match=message):
        getattr(net, method)(**{**data, name: value})


@pytest.mark.parametrize(
    ("Y", "error", "message"),
    [
        (np.full(10, 3), ValueError, r"labels must be from 0 to 2, got Y\[0\] = 3"),
        (np.r_[np.zeros(9, int), -1], ValueError, r"labels must be from 0 to 2, got Y\[9\] = -1"),
        (np.zeros(10), TypeError, "integer labels"),
        (np.zeros((10, 2)), ValueError, r"Y must have shape \(10, 3\) or integer labels of shape \(10,\)"),
        (np.zeros(7, int), ValueError, "Y has 7 rows"),
        (np.full(10, 2**63, np.uint64), ValueError, "Y"),
    ],
)
def test_labels_refused(data, Y, error, message):
    net = Network([4, 5, 3], "tanh", "cross_entropy")
    with pytest.raises(error, match=message):
        net.cost_and_gradient(data["params"], data["X"], Y)


def test_binary_targets(data):
    net = Network([4, 1], loss="binary_cross_entropy")
    params = net.initialize(0)
    for bad in (1.5, -0.1):
        for call in (net.cost, net.cost_and_gradient):  # the latter takes whole arrays another way
            for Y in (np.full(10, bad), np.r_[np.zeros(9), bad][:, None], np.r_[bad, np.zeros(9)][:, None]):
                with pytest.raises(ValueError, match="targets of binary_cross_entropy must be >= 0 and <= 1"):
                    call(params, data["X"], Y)
    flat = net.cost_and_gradient(params, data["X"], np.full(10, 0.3))
    column = net.cost_and_gradient(params, data["X"], np.full((10, 1), 0.3))
    assert flat[0] == column[0]
    np.testing.assert_array_equal(flat[1], column[1])


def test_nan_does_not_hide_a_target_out_of_range(data):
    net = Network([4, 1], loss="binary_cross_entropy")
    Y = np.r_[np.nan, np.zeros(8), 2]
    with pytest.raises(ValueError, match=r"targets of binary_cross_entropy must be >= 0 and <= 1, got Y\[9, 0\] = 2"):
        net.cost_and_gradient(net.initialize(0), data["X"], Y)


def test_a_class_alone_takes_labels_or_rows(data):
    net = Network([4, 1], loss="cross_entropy")
    params = net.initialize(0)
    with pytest.raises(TypeError, match="integer labels of shape"):
        net.cost_and_gradient(params, data["X"], np.ones(10))
    assert net.cost(params, data["X"], np.zeros(10, int)) == net.cost(params, data["X"], np.ones((10, 1))) == 0


def test_the_sum_of_many_weights(backend):
    """They are summed in blocks."""
    net, X = Network([1, 1]), np.ones((70_000, 1))
    weighted = net.cost(np.zeros(2), X, X, sample_weight=np.ones(70_000))
    assert weighted == net.cost(np.zeros(2), X, X) == 0.5


def test_out_is_filled_and_returned(net, data, dtype):
    net = Network(net.sizes, "tanh", dtype=dtype)
    out = np.full((10, 3), np.nan, dtype)
    assert net.forward(data["params"], data["X"], out=out) is out
    np.testing.assert_array_equal(out, net.forward(data["params"], data["X"]))
    grad = np.full(43, np.nan, dtype)
    J, returned = net.cost_and_gradient(**data, out=grad)
    assert returned is grad
    expected_J, expected = net.cost_and_gradient(**data)
    assert J == expected_J
    np.testing.assert_array_equal(grad, expected)
    accumulator = net.accumulator()
    accumulator.add(**data)
    assert accumulator.finish(data["params"], out=grad)[1] is grad


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda out: out.astype("float32"), ValueError, "out must have dtype float64, got float32"),
        (lambda out: out.astype(out.dtype.newbyteorder()), ValueError, "out must have dtype float64, got [<>]f8"),
        (lambda out: out[:-1], ValueError, "out must have shape"),
        (lambda out: out.tolist(), TypeError, "out must be a NumPy array.*, got list"),
        (lambda out: np.stack([out, out], -1)[..., 0], ValueError, "out must be C-contiguous"),
        (
            lambda out: np.frombuffer(out.tobytes()).reshape(out.shape),
            ValueError,
            "out must be writable, got a read-only array",
        ),
        (lambda out: 3, TypeError, "out must be a NumPy array.*, got int"),
    ],
)
@pytest.mark.parametrize("method", ["forward", "cost_and_gradient", "finish"])
def test_out_refused(net, data, method, make, error, message):
    accumulator = net.accumulator()
    accumulator.add(**data)
    out = make(np.zeros((10, 3)) if method == "forward" else np.zeros(43))
    calls = {
        "forward": lambda: net.forward(data["params"], data["X"], out=out),
        "cost_and_gradient": lambda: net.cost_and_gradient(**data, out=out),
        "finish": lambda: accumulator.finish(data["params"], out=out),
    }
    with pytest.raises(error, match=message):
        calls[method]()
    assert not np.any(out) or out == 3


def test_out_may_not_overlap_inputs(rng):
    net = Network([3, 3])
    memory = rng.uniform(size=100)
    before = memory.copy()
    params, X = memory[:12], memory[20:50].reshape(10, 3)
    for out in (X, memory[10:40].reshape(10, 3), memory[49:79].reshape(10, 3)):
        with pytest.raises(ValueError, match="out must not share memory with an input"):
            net.forward(params, X, out=out)
    for out in (params, memory[11:23], memory[48:60]):
        with pytest.raises(ValueError, match="out must not share memory with an input"):
            net.cost_and_gradient(params, X, np.zeros((10, 3)), out=out)
    with pytest.raises(ValueError, match="out must not share memory with an input"):
        net.cost_and_gradient(params, X, X, sample_weight=memory[60:70], out=memory[69:81])
    np.testing.assert_array_equal(memory, before)
    net.forward(params, X, out=memory[50:80].reshape(10, 3))  # beside them is fine


@pytest.mark.parametrize("off", [-2, 0, 2])
@pytest.mark.parametrize("name", ["params", "X", "Y"])
@pytest.mark.parametrize("method", ["forward", "cost_and_gradient"])
def test_out_may_not_overlap_a_single_input(method, name, off, rng):
    """Each input lies in memory of its own, but for the one: none answers for another."""
    net = Network([3, 3])
    given = {"params": rng.uniform(size=12), "X": rng.uniform(size=(4, 3)), "Y": rng.uniform(size=(4, 3))}
    if method == "forward":
        del given["Y"]
        if name == "Y":
            name = "X"
    memory = rng.uniform(size=16)  # all of these have 12 numbers
    given[name] = memory[2:14].reshape(given[name].shape)
    out = memory[2 + off : 14 + off].reshape((4, 3) if method == "forward" else (12,))
    before = memory.copy()
    with pytest.raises(ValueError, match="out must not share memory with an input"):
        getattr(net, method)(**given, out=out)
    np.testing.assert_array_equal(memory, before)


def test_trace(net, data):
    trace = net.trace(data["params"], data["X"])
    assert trace.activations[0] is data["X"]
    assert [a.shape for a in trace.activations] == [(10, 4), (10, 5), (10, 3)]
    assert not any(a.flags.writeable for a in trace.activations[1:])
    np.testing.assert_array_equal(trace.activations[-1], net.forward(data["params"], data["X"]))
    expected = trace.backward(data["Y"])
    data["params"][...] = 0  # the trace has its own copy
    np.testing.assert_array_equal(trace.backward(data["Y"]), expected)
    for bad, error in (
        (np.zeros((9, 3)), ValueError), (np.zeros((10, 2)), ValueError), (np.zeros(10), ValueError),
        (None, TypeError), (np.zeros((10, 3), complex), TypeError),
    ):  # fmt: skip
        with pytest.raises(error, match="output_gradient"):
            trace.backward(bad)


def test_nothing_is_written_to_when_an_argument_is_wrong(net, data):
    out = np.full(43, 7.0)
    with pytest.raises(ValueError, match="sample_weight"):
        net.cost_and_gradient(**data, sample_weight=-np.ones(10), out=out)
    assert (out == 7).all()


# ------------------------------------------------------------------- what a stranger found in the first hour, mended


@pytest.mark.parametrize("weight", [1e-60, 1e-44, 1e39])
def test_weights_out_of_the_range_of_the_dtype(weight, rng):
    """They would be cast to 0, to a few bits, or to infinity: an error, not a wrong mean."""
    net = Network([3, 4, 1], "tanh", dtype="float32")
    X, Y = rng.normal(size=(6, 3)), rng.normal(size=(6, 1))
    params = net.initialize(0)
    for call in (net.cost, net.cost_and_gradient, net.accumulator().add):
        with pytest.raises(ValueError, match="the largest sample_weight must be in the range"):
            call(params, X, Y, sample_weight=np.full(6, weight))
    double = Network([3, 4, 1], "tanh", dtype="float64")
    expected = double.cost(params, X, Y)
    assert double.cost(params, X, Y, sample_weight=np.full(6, weight)) == pytest.approx(expected, rel=1e-12)
    mixed = np.array([1, 1, 1, 1e-60, 1, 1])
    assert net.cost(params, X, Y, sample_weight=mixed) == pytest.approx(
        double.cost(params, X, Y, sample_weight=mixed), rel=1e-5
    )


def test_names_may_be_of_a_kind_of_string():
    net = Network([3, 4, 2], np.str_("relu"), np.str_("huber"), np.str_("tanh"))
    assert [type(name) for name in (*net.hidden, net.loss, net.output)] == [str] * 3
    assert net == Network([3, 4, 2], "relu", "huber", "tanh")


def test_sets_have_no_order():
    for arguments in ([{3, 4}], [{3: 1, 4: 1}], [[3, 4, 5], {"relu"}], [[3, 4, 5], b"relu"], [np.array(3)]):
        with pytest.raises(TypeError, match="sizes|hidden"):
            Network(*arguments)


def test_a_network_is_made_once():
    net = Network([3, 4])
    with pytest.raises(AttributeError, match="immutable"):
        net.__init__([5, 6])
    assert net.sizes == (3, 4)


class Special(Network):
    """A network of the user's own."""


def test_a_subclass_comes_back_as_itself():
    assert type(pickle.loads(pickle.dumps(Special([3, 4])))) is Special


def test_a_copied_trace_is_read_only_too(net, data):
    trace = net.trace(data["params"], data["X"])
    for clone in (pickle.loads(pickle.dumps(trace)), copy.deepcopy(trace)):
        assert not clone.params.flags.writeable
        assert not clone.activations[1].flags.writeable
        np.testing.assert_array_equal(clone.backward(data["Y"]), trace.backward(data["Y"]))


def test_an_accumulator_keeps_its_network_and_buffer(net):
    accumulator = net.accumulator()
    for attribute in ("network", "buffer"):
        with pytest.raises(AttributeError):
            setattr(accumulator, attribute, None)


@pytest.mark.parametrize("bad", [5, None, Network])
def test_what_is_no_network(bad, data):
    for call in (lambda: bpcore.Accumulator(bad), lambda: bpcore.Trace(bad, data["params"], data["X"])):
        with pytest.raises(TypeError, match="network must be a Network, got"):
            call()


class Trouble:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("boom")


def test_errors_name_the_argument(net, data):
    for seed in (-1, "x"):
        with pytest.raises((TypeError, ValueError), match="seed"):
            net.initialize(seed)
    with pytest.raises(TypeError, match="X must be an array of real numbers: boom"):
        net.forward(data["params"], Trouble())
    with pytest.raises(TypeError, match="input_gradient"):
        net.trace(data["params"], data["X"]).backward(data["Y"], input_gradient=1)
    for loss in ("poisson", "cross_entropy"):
        other = Network([4, 5, 3], "tanh", loss)
        with pytest.raises(ValueError, match=rf"targets of {loss} must be >= 0.*, got Y\[0, 0\] = -1.0"):
            other.cost_and_gradient(data["params"], data["X"], np.repeat([[-1.0, 0, 0]], 10, axis=0))
    masked = np.ma.masked_array(np.zeros(43), False)
    with pytest.raises(TypeError, match="out must not be a masked array"):
        net.cost_and_gradient(**data, out=masked)
