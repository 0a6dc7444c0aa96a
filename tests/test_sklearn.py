"""bpcore.sklearn beside scikit-learn's own estimators, and what those lack beside plain NumPy."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import math
import os
import pickle
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import oracle
import pytest

pytest.importorskip("sklearn", reason="scikit-learn comes with the dev extra; not every platform has it")

import scipy.sparse
import sklearn.neural_network
from scipy.special import xlogy
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer, make_scorer, mean_absolute_error, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bpcore.sklearn
from bpcore.sklearn import MLPClassifier, MLPRegressor

SOLVERS = ("adam", "sgd")
THEIR_ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
OUR_ACTIVATIONS = (*THEIR_ACTIVATIONS, "leaky_relu", "elu", "softplus", "silu", "gelu")
#: Largest difference from scikit-learn, relative to the largest entry, after a few epochs.
AGREEMENT = {"float64": 1e-9, "float32": 2e-4}

ignore_convergence = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
ignore_batch_size = pytest.mark.filterwarnings("ignore:Got `batch_size`:UserWarning")


def run_python(*arguments: str, code: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """A new interpreter with the package that is tested here."""
    paths = [p for p in sys.path if p]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8", **variables}
    arguments = ("-c", code) if code else arguments
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, encoding="utf-8", check=False
    )


def close(found, expected, tolerance, what, least=0.0):
    """Within ``tolerance`` of the largest entry, or of ``least``, and NaN and infinities in the same places."""
    found, expected = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    assert found.shape == expected.shape, what
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(found[~finite], expected[~finite], what)
    size = np.max(np.abs(expected[finite]), initial=least)
    np.testing.assert_allclose(found[finite], expected[finite], 0, max(tolerance * size, 1e-300), err_msg=what)


def classes(rng, rows=60, n_classes=2, n_features=3):
    """Features, and labels that depend on them."""
    X = rng.normal(size=(rows, n_features))
    return X, np.arange(n_classes)[np.argsort(np.argsort(X[:, 0] + 0.3 * rng.normal(size=rows))) * n_classes // rows]


def curve(rows=60):
    """One feature and a smooth function of it."""
    x = np.linspace(-2, 2, rows)[:, np.newaxis]
    return x, np.sin(2 * x[:, 0])


# --------------------------------------------------------------------------------------------- scikit-learn's own tests

#: Those that do not hold here, and why.
EXCEPTIONS = {"test_gradient": "calls the private _loss_grad_lbfgs"}


def test_the_tests_of_scikit_learn(tmp_path):
    """All of its test_mlp.py, with the import replaced, but for those that look into it."""
    source = Path(sklearn.neural_network.__file__).parent / "tests" / "test_mlp.py"
    assert source.exists(), "scikit-learn is installed without its tests"
    text, theirs = source.read_text(encoding="utf-8"), "from sklearn.neural_network import MLPClassifier, MLPRegressor"
    assert text.count(theirs) == 1
    ours = "from bpcore.sklearn import MLPClassifier, MLPRegressor"
    (tmp_path / "test_mlp.py").write_text(text.replace(theirs, ours), encoding="utf-8")
    fixture = "import pytest\n\n@pytest.fixture\ndef global_random_seed():\n    return 42\n"
    (tmp_path / "conftest.py").write_text(fixture)
    arguments = ["-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", ".", "--junitxml", "results.xml", "-q"]
    code = f"import os, sys, pytest; os.chdir({str(tmp_path)!r}); sys.exit(pytest.main({arguments!r}))"
    done = run_python(code=code)
    assert (tmp_path / "results.xml").exists(), done.stdout + done.stderr
    cases = list(ElementTree.parse(tmp_path / "results.xml").iter("testcase"))
    failed = {case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None}
    assert failed == set(EXCEPTIONS), done.stdout[-5000:]
    if importlib.util.find_spec("pandas"):
        assert not [case.get("name") for case in cases if case.find("skipped") is not None]
    assert len(cases) > 40


CHECKS = """
import warnings
from sklearn.utils.estimator_checks import check_estimator
import bpcore.sklearn
from bpcore.sklearn import MLPClassifier, MLPRegressor

fast = dict(hidden_layer_sizes=16, learning_rate_init=0.02, random_state=0)
warnings.simplefilter("ignore")
for estimator in [
    MLPClassifier(),
    MLPRegressor(),
    MLPClassifier(solver="sgd", max_iter=50, **fast),
    MLPRegressor(solver="sgd", max_iter=50, **fast),
    MLPClassifier(n_members=2, max_iter=20, **fast),
    MLPRegressor(n_members=2, max_iter=40, **fast),
    MLPRegressor(solver="lbfgs", max_iter=50),
]:
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    assert len(results) > 40
    for result in results:
        if result["status"] != "passed":
            print(estimator, result["check_name"], result["status"], repr(result["exception"])[:300])
"""


def test_the_checks_of_scikit_learn():
    """All of check_estimator, none left out."""
    pytest.importorskip("pandas", reason="not every platform has it")
    done = run_python(code=CHECKS, SCIPY_ARRAY_API="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


# -------------------------------------------------------------------------------------- the same results, at random

KINDS = ("binary", "multiclass", "multilabel", "regression", "multi-output", "poisson")


def draw_data(rng, kind, rows, n_features):
    """Features and targets of a kind."""
    X = rng.normal(size=(rows, n_features))
    if kind == "binary":
        labels = np.array(["no", "yes"]) if rng.random() < 0.5 else np.array([-1, 4])
        y = labels[(np.arange(rows) + (X[:, 0] > 0)) % 2]
    elif kind == "multiclass":
        labels = np.array(["a", "c", "b", "d"]) if rng.random() < 0.5 else np.array([7, 3, 5, 9])
        y = labels[np.arange(rows) % int(rng.integers(3, 5))]
    elif kind == "multilabel":
        y = rng.integers(0, 2, (rows, 3))
        y[:2] = [[0, 0, 1], [1, 1, 0]]
    elif kind == "poisson":
        y = rng.poisson(1.5, rows if rng.random() < 0.5 else (rows, 2)).astype(float)
    else:
        y = rng.normal(size=(rows, 2) if kind == "multi-output" else rows)
    return X, y


def draw_settings(rng, kind):
    """Parameters that both have."""
    choice, uniform = rng.choice, rng.uniform
    settings = {
        "solver": str(choice(SOLVERS)),
        "activation": str(choice(THEIR_ACTIVATIONS)),
        "hidden_layer_sizes": tuple(int(n) for n in rng.integers(1, 8, rng.integers(0, 4))),
        "alpha": float(choice([0.0, 1e-4, 0.1, 3.0])),
        "batch_size": "auto" if rng.random() < 0.2 else int(rng.integers(2, 25)),
        "learning_rate": str(choice(["constant", "invscaling", "adaptive"])),
        "learning_rate_init": float(10 ** uniform(-3, -0.7)),
        "power_t": float(uniform(0, 1)),
        "momentum": float(choice([0.0, 0.5, 0.9, 1.0])),
        "nesterovs_momentum": bool(rng.random() < 0.5),
        "early_stopping": bool(rng.random() < 0.3),
        "validation_fraction": 0.25,
        "shuffle": bool(rng.random() < 0.7),
        "tol": float(choice([0.0, 1e-4, 0.05, 10.0])),
        "n_iter_no_change": int(rng.integers(1, 4)) if rng.random() < 0.9 else np.inf,
        "beta_1": float(choice([0.0, 0.5, 0.9])),
        "beta_2": float(choice([0.5, 0.9, 0.999])),
        "epsilon": float(10 ** uniform(-8, -2)),
        "max_iter": int(rng.integers(1, 9)),
        "random_state": int(rng.integers(1000)),
        "verbose": bool(rng.random() < 0.5),
    }
    if kind == "poisson":
        settings |= {"loss": "poisson", "learning_rate_init": min(settings["learning_rate_init"], 0.03)}
    return settings


def draw_calls(rng, kind, settings, dtype):
    """What to call in turn: the method, its arguments, parameters to set before it."""
    rows, n_features = int(rng.integers(12, 60)), int(rng.integers(1, 6))
    X, y = draw_data(rng, kind, rows, n_features)
    X = X.astype(dtype)
    if rng.random() < 0.25:
        X = scipy.sparse.csr_array(X * (rng.random(X.shape) < 0.6).astype(dtype))
        X = scipy.sparse.csr_matrix(X) if rng.random() < 0.5 else X.tocsc() if rng.random() < 0.5 else X
    weights = None
    if rng.random() < 0.5:
        weights = rng.uniform(0.1, 3, rows)
        weights[rng.integers(rows)] = 0
    how = rng.choice(["fit", "warm", "partial", "fit, partial"], p=[0.5, 0.2, 0.2, 0.1])
    if how == "fit":
        return [("fit", X, y, weights, {})]
    settings["early_stopping"] &= how == "warm"
    if how == "warm":
        settings["warm_start"] = True
        changed = {"alpha": 0.2, "momentum": 0.8, "max_iter": 3, "epsilon": 1e-3}
        return [("fit", X, y, weights, {}), ("fit", X, y, None, changed), ("fit", X, y, weights, {})]
    calls = [("fit" if how == "fit, partial" else "partial_fit", X, y, weights, {})]
    for _ in range(int(rng.integers(1, 5))):
        some = np.sort(rng.choice(rows, int(rng.integers(6, rows + 1)), replace=False))
        part = X[some] if isinstance(X, np.ndarray) else X.tocsr()[some]
        changed = {"alpha": float(rng.choice([0.0, 1.0]))} if rng.random() < 0.3 else {}
        calls.append(("partial_fit", part, y[some], None if weights is None else weights[some] + 0.1, changed))
    return calls


def make_calls(model, calls):
    """The outcome of all of them: the text printed, the warnings, the error."""
    printed, error = io.StringIO(), None
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(printed):
        warnings.simplefilter("always")
        try:
            for method, X, y, weights, changed in calls:
                more = {}
                if method == "partial_fit" and hasattr(model, "predict_proba") and not hasattr(model, "classes_"):
                    more["classes"] = [0, 1, 2] if y.ndim == 2 else np.unique(calls[0][2])
                getattr(model.set_params(**changed), method)(X, y, sample_weight=weights, **more)
        except (ValueError, ZeroDivisionError, TypeError) as caught_error:
            error = caught_error
    warned = [(w.category, str(w.message)) for w in caught if w.category in (ConvergenceWarning, UserWarning)]
    return SimpleNamespace(printed=printed.getvalue(), warned=warned, error=error)


def records(model, X):
    """All numbers that a fitted estimator has or computes."""
    found = {f"coefs_[{i}]": coef for i, coef in enumerate(model.coefs_)}
    found |= {f"intercepts_[{i}]": intercept for i, intercept in enumerate(model.intercepts_)}
    for name in ("loss_curve_", "loss_", "best_loss_", "validation_scores_", "best_validation_score_"):
        value = getattr(model, name)
        found[name] = np.nan if value is None else value
    if hasattr(model, "predict_proba"):
        found |= {
            "predict_proba": model.predict_proba(X),
            "predict_log_proba": np.maximum(model.predict_log_proba(X), -10),
        }
    else:
        found["predict"] = model.predict(X)
    return found


def rounding_decides(make, calls, dtype, rng):
    """Whether scikit-learn itself ends elsewhere if the last digits of X are other ones."""
    factors = (1 + 4 * np.finfo(dtype).eps * rng.choice([-1, 1], calls[0][1].shape[1])).astype(dtype)
    nearby = [
        (method, X * factors if isinstance(X, np.ndarray) else X.multiply(factors).asformat(X.format), *more)
        for method, X, *more in calls
    ]
    first, second = make(), make()
    make_calls(first, calls)
    make_calls(second, nearby)
    if first.n_iter_ != second.n_iter_ or first.t_ != second.t_:
        return True
    largest = max(np.abs(coef).max() for coef in first.coefs_)
    moved = max(np.abs(a - b).max() for a, b in zip(first.coefs_, second.coefs_))
    return bool(moved > 0.02 * AGREEMENT[dtype] * largest)


def one_against_theirs(seed):
    """A random estimator of both packages, fitted alike; False if scikit-learn could not."""
    rng = np.random.default_rng(seed)
    kind, dtype = str(rng.choice(KINDS)), "float32" if rng.random() < 0.2 else "float64"
    settings = draw_settings(rng, kind)
    if dtype == "float32":  # few and small steps, or rounding grows
        settings |= {
            "learning_rate_init": min(settings["learning_rate_init"], 0.02),
            "max_iter": int(rng.integers(1, 5)),
        }
    calls = draw_calls(rng, kind, settings, dtype)
    name = "MLPClassifier" if kind in KINDS[:3] else "MLPRegressor"
    what = f"seed {seed}: {name} of {dtype}, {kind}, {[call[0] for call in calls]}, {settings}"
    theirs, ours = getattr(sklearn.neural_network, name)(**settings), globals()[name](**settings)
    expected = make_calls(theirs, calls)
    # A batch whose weights are all 0; scores of text in scikit-learn 1.7.
    if isinstance(expected.error, (ZeroDivisionError, TypeError)):
        return False
    found = make_calls(ours, calls)
    if not np.isfinite([*getattr(theirs, "loss_curve_", ()), *(getattr(theirs, "validation_scores_", ()) or ())]).all():
        return False  # it has diverged, and gone on; ours ends there
    assert type(found.error) is type(expected.error), f"{what}: {found.error!r}"
    largest = max(float(np.abs(coef).max()) for coef in theirs.coefs_)
    if not (largest < 1e4 and np.isfinite(getattr(theirs, "loss_curve_", 0.0)).all()):
        return False  # it diverges, and rounding with it
    if expected.error is None and hasattr(ours, "predict_proba"):
        with warnings.catch_warnings(action="ignore"):
            certain = np.abs(np.log(theirs.predict_proba(calls[0][1]))).max()
        if not certain < -np.log(10 * np.finfo(dtype).eps):
            return False  # scikit-learn clips such probabilities, and its loss is another
    if expected.error is not None:
        assert str(found.error).startswith(str(expected.error)[:40]), what
        return False
    try:
        assert_same(ours, theirs, found, expected, calls[0][1], dtype, what)
    except AssertionError:
        if not rounding_decides(lambda: getattr(sklearn.neural_network, name)(**settings), calls, dtype, rng):
            raise
        return False
    return True


def assert_same(ours, theirs, found, expected, X, dtype, what):
    """Attributes, records, weights, warnings, text and predictions."""
    for attribute in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, attribute) == getattr(theirs, attribute), f"{what}: {attribute}"
    assert found.warned == expected.warned, what
    tolerance, largest = AGREEMENT[dtype], max(float(np.abs(coef).max()) for coef in theirs.coefs_)
    left, right = records(ours, X), records(theirs, X)
    assert left.keys() == right.keys(), what
    for key, value in right.items():
        assert np.asarray(left[key]).dtype == np.asarray(value).dtype or "loss" in key, f"{what}: {key}"
        # What is rounded in a step is of any layer, and an output is a sum of what may cancel.
        least = largest if "coefs" in key or "intercepts" in key else float(key == "predict" or "score" in key)
        clipped = 1e-6 if "loss" in key and hasattr(ours, "predict_proba") else 0.0  # in epochs before, theirs may be
        close(left[key], value, max(tolerance, clipped), f"{what}: {key}", least)
    if dtype == "float64":
        assert found.printed == expected.printed, what
        predicted, labels = ours.predict(X), theirs.predict(X)
        assert predicted.dtype == labels.dtype, what
        if labels.dtype.kind != "f":
            np.testing.assert_array_equal(predicted, labels, what)
            np.testing.assert_array_equal(ours.classes_, theirs.classes_, what)


def test_random_estimators_agree_with_theirs(backend):
    """Weights, records, printed text, warnings and predictions, whatever the settings and the data."""
    first = zlib.crc32(backend.encode()) % 10**6
    assert sum(one_against_theirs(seed) for seed in range(first, first + 60)) > 40


@ignore_convergence
@pytest.mark.parametrize("solver", SOLVERS)
def test_large_batches_agree_with_theirs(rng, solver):
    """Batches that are computed in several parts, the last of them short."""
    X = rng.normal(size=(5000, 6)).astype("float32").astype(float)
    for y in (np.where(X[:, 0] > X[:, 1], "a", "b"), np.digitize(X[:, 0], [-1, 0, 1])):
        settings = {"solver": solver, "hidden_layer_sizes": (9,), "batch_size": 4096, "max_iter": 2, "alpha": 1.0}
        settings |= {"random_state": 1, "learning_rate_init": 0.05}
        ours, theirs = MLPClassifier(**settings).fit(X, y), sklearn.neural_network.MLPClassifier(**settings).fit(X, y)
        close(ours.loss_curve_, theirs.loss_curve_, 1e-9, "loss_curve_")
        close(ours.coefs_[0], theirs.coefs_[0], 1e-9, "coefs_")


@ignore_convergence
@pytest.mark.parametrize("extra", [{}, {"clip_norm": 1e9}])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_batch_without_weight_makes_no_step(rng, solver, extra):
    """scikit-learn divides by 0 there."""
    x, y = curve(30)
    weights = np.r_[np.zeros(10), np.ones(20)]
    settings = {"solver": solver, "hidden_layer_sizes": (4,), "batch_size": 10, "shuffle": False, "max_iter": 3} | extra
    model = MLPRegressor(random_state=0, **settings).fit(x, y, weights)
    alone = MLPRegressor(random_state=0, **settings).fit(x[10:], y[10:])
    close(model.coefs_[0], alone.coefs_[0], 1e-12, "coefs_")
    assert np.isfinite(model.loss_curve_).all()


@ignore_convergence
def test_lbfgs_minimises_as_well_as_theirs(rng):
    """What it minimises is theirs, and so is the value it gets to, within the digits of the tolerance."""
    # Theirs takes the gradient of the sum over several outputs for that of their mean, which leads elsewhere.
    for case, kind in enumerate([kind for kind in KINDS if kind != "multi-output"]):
        X, y = draw_data(rng, kind, 40, 3)
        weights = None if case % 2 else rng.uniform(0.1, 2, len(X))
        X = scipy.sparse.csr_array(X) if case == 3 else X
        name = "MLPClassifier" if kind in KINDS[:3] else "MLPRegressor"
        settings = {"solver": "lbfgs", "alpha": 1.0, "activation": "tanh", "hidden_layer_sizes": 3, "tol": 1e-9}
        settings |= {"max_iter": 2000, "random_state": case} | ({"loss": "poisson"} if kind == "poisson" else {})
        theirs, ours = getattr(sklearn.neural_network, name)(**settings), globals()[name](**settings)
        theirs.fit(X, y, weights)
        ours.fit(X, y, weights)
        what = f"case {case}, {kind}"
        # One step from where the other is takes it nowhere, and tells of the loss there.
        ours_there = globals()[name](**settings | {"warm_start": True, "max_iter": 1}).fit(X, y, weights)
        ours_there.coefs_, ours_there.intercepts_ = copy.deepcopy((theirs.coefs_, theirs.intercepts_))
        ours_there.fit(X, y, weights)
        assert ours_there.loss_ == pytest.approx(theirs.loss_, rel=1e-6), what
        assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-3), what
        assert ours.n_iter_ > 5, what


# ------------------------------------------------------------------------ what scikit-learn lacks, beside plain NumPy


def start_of(sizes, hidden, last, seed):
    """The weights and biases that scikit-learn draws, as (W, b) of each layer, and the generator after it."""
    generator, drawn = np.random.RandomState(seed), []
    for n_in, n_out, name in zip(sizes, sizes[1:], [*hidden, last]):
        bound = math.sqrt((2 if name == "logistic" else 6) / (n_in + n_out))
        W = generator.uniform(-bound, bound, (n_in, n_out)).T
        drawn.append((W, generator.uniform(-bound, bound, n_out)))
    return drawn, generator


SCHEDULES = {
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "one_cycle": lambda done: (
        1 - (1 - 1 / 25) * (1 + math.cos(math.pi * done / 0.3)) / 2
        if done < 0.3
        else 1e-4 / 25 + (1 - 1e-4 / 25) * (1 + math.cos(math.pi * (done - 0.3) / 0.7)) / 2
    ),
    "step": lambda done: 1.0 if done < 1 / 3 else 0.1 if done < 2 / 3 else 0.01,
}


def mean_over(values, weights):
    return float(np.average(values, weights=weights))


class Plain:
    """Training as the documentation has it, in NumPy, with the gradients of tests/oracle.py.

    Parameters
    ----------
    model : estimator
        Its parameters are those of the training; nothing else of it is used.
    X, Y, weights : ndarray
        Targets as the loss takes them, and weights of the rows.
    loss, output, parameter : the last layer
    report : callable
        What is reported of the losses of rows: ``report(losses, Y)`` of each row.
    first : ndarray, optional
        Where the biases of the outputs begin.
    """

    def __init__(self, model, X, Y, weights, loss, output, parameter=None, report=None, first=None):
        self.model, self.X, self.Y, self.loss, self.parameter = model, X, Y, loss, parameter
        self.weights = np.ones(len(X)) if weights is None else weights
        hidden = model.hidden_layer_sizes
        self.sizes = [X.shape[1], *hidden, Y.shape[1]]
        names = [model.activation] * len(hidden) if isinstance(model.activation, str) else list(model.activation)
        self.activations = [*({"logistic": "sigmoid"}.get(name, name) for name in names), output]
        last = names[-1] if names else model.activation
        drawn, self.generator = start_of(self.sizes, names, last, model.random_state)
        if first is not None:
            drawn[-1] = drawn[-1][0], first
        self.params = np.concatenate([part.ravel() for layer in drawn for part in layer])
        self.mask = np.concatenate([part.ravel() for W, b in drawn for part in (np.ones(W.shape), np.zeros(len(b)))])
        self.report = report or (lambda losses, Y: losses)
        self.rate, self.steps, self.m, self.v = model.learning_rate_init, 0, 0 * self.params, 0 * self.params
        self.curve, self.best, self.worse, self.seen = [], np.inf, 0, 0

    def layers(self):
        return oracle.layers(self.sizes, self.params)

    def of(self, X):
        parameter = self.parameter
        return oracle.Reference(self.sizes, self.activations, self.loss, self.params, X, 2**-52, parameter)

    def objective(self, rows):
        """The loss reported of some rows, and the gradient of what is minimised."""
        model, w = self.model, self.weights[rows]
        X, Y, weights = self.X[rows], self.Y[rows], self.params * self.mask
        reference = self.of(X)
        data = mean_over(self.report(reference.losses(Y)[0], Y), w)
        penalty = model.alpha / 2 * (weights @ weights) + model.l1 * np.abs(weights).sum()
        grad = reference.backward(*reference.output_delta(Y), w).sums / w.sum()
        return data + penalty / w.sum(), grad + model.alpha * weights / w.sum()

    def step(self, rows, n_steps):
        """One mini-batch: clip, decay, step, shrink."""
        model, given = self.model, self.model.learning_rate
        if callable(given):
            self.rate = given(self.steps)
        elif given in SCHEDULES:
            self.rate = model.learning_rate_init * SCHEDULES[given](self.steps / n_steps)
        loss, g = self.objective(rows)
        norm = np.sqrt((g * g).sum())
        if model.clip_norm is not None and norm > model.clip_norm:
            g = g * (model.clip_norm / norm)
        self.params = self.params - self.rate * model.weight_decay * self.mask * self.params
        self.steps += 1
        if model.solver == "adam":
            self.m = model.beta_1 * self.m + (1 - model.beta_1) * g
            self.v = model.beta_2 * self.v + (1 - model.beta_2) * g * g
            corrected = math.sqrt(1 - model.beta_2**self.steps) / (1 - model.beta_1**self.steps)
            self.params = self.params - self.rate * corrected * self.m / (np.sqrt(self.v) + model.epsilon)
        elif callable(given) or given in SCHEDULES:  # the rate of this step for the whole velocity
            self.v = model.momentum * self.v - g
            self.params = self.params + self.rate * (model.momentum * self.v - g if self.nesterov else self.v)
        else:
            self.v = model.momentum * self.v - self.rate * g
            self.params = self.params + (model.momentum * self.v - self.rate * g if self.nesterov else self.v)
        by = self.rate * model.l1 / self.weights[rows].sum() * self.mask
        self.params = np.where(np.abs(self.params) > by, self.params - by * np.sign(self.params), 0.0)
        return loss

    def fit(self):
        """Epochs until max_iter, or for want of improvement."""
        model, m = self.model, len(self.X)
        self.nesterov = model.nesterovs_momentum
        size = min(200 if model.batch_size == "auto" else model.batch_size, m)
        order, n_steps = np.arange(m), model.max_iter * math.ceil(m / size)
        for _ in range(model.max_iter):
            if model.shuffle:
                order = order[self.generator.permutation(m)]
            batches = [order[first : first + size] for first in range(0, m, size)]
            self.curve.append(sum(len(rows) * self.step(rows, n_steps) for rows in batches) / m)
            self.seen += m
            self.worse = self.worse + 1 if self.curve[-1] > self.best - model.tol else 0
            self.best = min(self.best, self.curve[-1])
            if model.solver == "sgd" and model.learning_rate == "invscaling":
                self.rate = model.learning_rate_init / (self.seen + 1) ** model.power_t
            if self.worse > model.n_iter_no_change:
                if model.learning_rate != "plateau" and (model.solver, model.learning_rate) != ("sgd", "adaptive"):
                    break
                if self.rate <= 1e-6:
                    break
                self.rate, self.worse = self.rate / 5, 0
        return self

    def check(self, model, what, tolerance=1e-9):
        """The fitted estimator is the same."""
        assert model.n_iter_ == len(self.curve), what
        close(model.loss_curve_, self.curve, tolerance, f"{what}: loss_curve_")
        assert model.best_loss_ == min(model.loss_curve_), what
        largest = np.abs(self.params).max()
        for l, (W, b) in enumerate(self.layers()):
            close(model.coefs_[l], W.T, tolerance, f"{what}: coefs_[{l}]", largest)
            close(model.intercepts_[l], b, tolerance, f"{what}: intercepts_[{l}]", largest)
            np.testing.assert_array_equal(model.coefs_[l] == 0, W.T == 0, what)


def decay_by_root(step):
    """A learning rate of one's own."""
    return 0.03 / math.sqrt(1 + step)


def draw_more_settings(rng):
    """Parameters that scikit-learn lacks, and the others."""
    choice, uniform = rng.choice, rng.uniform
    sizes = tuple(int(n) for n in rng.integers(1, 7, rng.integers(0, 4)))
    names = ["constant", "invscaling", "adaptive", "plateau", "plateau", *SCHEDULES, "own"]
    rate = str(choice(names))
    of_each = [str(choice(OUR_ACTIVATIONS)) for _ in sizes]
    return {
        "solver": str(choice(SOLVERS)),
        "activation": of_each if sizes and rng.random() < 0.6 else str(choice(OUR_ACTIVATIONS)),
        "hidden_layer_sizes": sizes,
        "alpha": float(choice([0.0, 0.1, 3.0])),
        "l1": float(choice([0.0, 0.01, 0.3, 3.0])),
        "weight_decay": float(choice([0.0, 0.0, 0.1, 2.0])),
        "clip_norm": None if rng.random() < 0.5 else float(10 ** uniform(-2, 0.5)),
        "learning_rate": decay_by_root if rate == "own" else rate,
        "learning_rate_init": float(10 ** uniform(-3, -1)),
        "batch_size": "auto" if rng.random() < 0.2 else int(rng.integers(3, 25)),
        "momentum": float(choice([0.0, 0.5, 0.9])),
        "nesterovs_momentum": bool(rng.random() < 0.5),
        "shuffle": bool(rng.random() < 0.7),
        "epsilon": float(10 ** uniform(-6, -2)),
        "tol": float(choice([0.0, 1e-4, 0.5])),
        "n_iter_no_change": int(rng.integers(1, 3)),
        "max_iter": int(rng.integers(1, 9)),
        "random_state": int(rng.integers(1000)),
    }


def weighted_rows(rng, rows):
    return None if rng.random() < 0.4 else rng.uniform(0.1, 3, rows)


def fitted_plainly(make, X, Y):
    """The same training in NumPy; None where it diverges, or where the last digits of the data decide where it ends.

    As they do where a loss or an activation has its kink at an output that is a target, or 0, but for rounding.
    """
    signs = (-1.0) ** np.arange(X.size).reshape(X.shape), (-1.0) ** np.arange(Y.size).reshape(Y.shape)
    plain, *others = (
        make(*(array * (1 + step * sign) for array, sign in zip((X, Y), signs))).fit() for step in (0.0, 4e-16, -4e-16)
    )
    largest = np.abs(plain.params).max()
    if not largest < 1e4 or any(len(other.curve) != len(plain.curve) for other in others):
        return None
    moved = max(np.abs(plain.params - other.params).max() for other in others)
    return plain if moved < 1e-11 * largest else None


def best_constants(Y, weights, quantile):
    """For each column the quantile; with weights, the target whose pinball loss is least, tried one by one."""
    if weights is None:
        return np.quantile(Y, quantile, axis=0)

    def loss_of(column):
        return lambda c: weights @ np.where(column > c, quantile * (column - c), (1 - quantile) * (c - column))

    return np.array([min(sorted(column), key=loss_of(column)) for column in Y.T])


def one_regressor(seed):
    """A random loss and random settings, beside plain NumPy; False if rounding decides."""
    rng = np.random.default_rng(seed)
    loss = str(rng.choice(["squared_error", "poisson", "huber", "absolute_error", "quantile", "gamma", "tweedie"]))
    settings = draw_more_settings(rng)
    what = f"seed {seed}: {loss}, {settings}"
    rows = int(rng.integers(12, 50))
    X = rng.normal(size=(rows, int(rng.integers(1, 5))))
    shape, parameter, first = (rows, int(rng.integers(1, 4))), None, None
    Y, weights = rng.normal(size=shape), weighted_rows(rng, rows)
    if loss in ("poisson", "tweedie"):
        Y = rng.poisson(1.5, shape).astype(float)
    if loss == "gamma":
        Y = rng.gamma(2.0, size=shape)
    if loss in ("huber", "absolute_error"):
        first = best_constants(Y, weights, 0.5)
    if loss in ("gamma", "tweedie"):
        first = np.log(Y.mean(axis=0) if weights is None else (weights @ Y) / weights.sum())
    if loss in ("huber", "quantile", "tweedie"):
        name = {"huber": "delta", "quantile": "quantile", "tweedie": "power"}[loss]
        settings[name] = parameter = float({"huber": 0.2, "quantile": 0.1, "tweedie": 1.1}[loss] + 0.8 * rng.random())
    if loss == "quantile":
        first = best_constants(Y, weights, parameter)

    def report(losses, Y):
        if loss == "poisson":
            return losses + (xlogy(Y, Y) - Y).sum(axis=1)
        if loss == "gamma":
            return losses - (np.log(Y) + 1).sum(axis=1)
        if loss == "tweedie":
            return losses + (Y ** (2 - parameter) / ((1 - parameter) * (2 - parameter))).sum(axis=1)
        return losses / Y.shape[1]

    model = MLPRegressor(loss, **settings)
    output = "exp" if loss in ("poisson", "gamma", "tweedie") else "identity"
    with np.errstate(all="ignore"):
        plain = fitted_plainly(lambda X, Y: Plain(model, X, Y, weights, loss, output, parameter, report, first), X, Y)
    if plain is None:
        return False
    model.fit(X, Y[:, 0] if Y.shape[1] == 1 else Y, weights)
    plain.check(model, what)
    predicted = plain.of(X).a[-1]
    close(model.predict(X), predicted[:, 0] if Y.shape[1] == 1 else predicted, 1e-9, f"{what}: predict", 1.0)
    return True


def one_classifier(seed):
    """Class weights, label smoothing, the focal loss and random settings; False if rounding decides."""
    rng = np.random.default_rng(seed)
    kind, settings = str(rng.choice(["binary", "multiclass", "multilabel"])), draw_more_settings(rng)
    rows = int(rng.integers(12, 50))
    X, weights = rng.normal(size=(rows, int(rng.integers(1, 5)))), weighted_rows(rng, rows)
    parameter, loss, output = None, "binary_cross_entropy", "sigmoid"
    if kind == "multiclass":
        loss, output = "cross_entropy", "softmax"
        labels = np.minimum(np.arange(rows) % 7, 3)
        settings["label_smoothing"] = smoothing = float(rng.choice([0.0, 0.1, 0.6]))
        Y, y = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4, np.array(["a", "b", "c", "d"])[labels]
    elif kind == "binary":
        Y = (np.arange(rows) % 4 == 0)[:, np.newaxis] * 1.0
        y = np.where(Y[:, 0] == 1, "right", "left")
    else:
        y = rng.integers(0, 2, (rows, 3))
        Y = y.astype(float)
    if kind != "multiclass" and rng.random() < 0.6:
        loss = settings["loss"] = "focal"
        settings["gamma"] = parameter = float(rng.choice([0.0, 0.5, 2.0, 3.7]))
    if kind != "multilabel" and rng.random() < 0.6:
        given = {label: float(rng.uniform(0.2, 5)) for label in np.unique(y)}
        settings["class_weight"] = "balanced" if rng.random() < 0.5 else given
        counts = {label: np.sum(y == label) for label in given}
        if settings["class_weight"] == "balanced":
            given = {label: rows / (len(given) * count) for label, count in counts.items()}
        of_classes = np.array([given[label] for label in y])
        total = of_classes if weights is None else of_classes * weights
    else:
        total = weights
    what = f"seed {seed}: {kind}, {settings}"
    model = MLPClassifier(**settings)
    with np.errstate(all="ignore"):
        plain = fitted_plainly(lambda X, Y: Plain(model, X, Y, total, loss, output, parameter), X, Y)
    if plain is None:
        return False
    model.fit(X, y, weights)
    plain.check(model, what)
    z, a = plain.of(X).z[-1], plain.of(X).a[-1]
    close(model.predict_proba(X), np.hstack([1 - a, a]) if kind == "binary" else a, 1e-9, f"{what}: predict_proba", 1.0)
    logs = -np.logaddexp(0, np.hstack([z, -z])) if kind == "binary" else np.log(a)
    close(model.predict_log_proba(X), logs, 1e-9, f"{what}: predict_log_proba", 1.0)
    return True


@ignore_convergence
@ignore_batch_size
def test_random_regressors_agree_with_plain_numpy(backend):
    """All losses, penalties, schedules and activations."""
    first = zlib.crc32(backend.encode()) % 10**6
    assert sum(one_regressor(seed) for seed in range(first, first + 40)) > 25


@ignore_convergence
@ignore_batch_size
def test_random_classifiers_agree_with_plain_numpy(backend):
    """The same, with what only classifiers have."""
    first = zlib.crc32(backend.encode()) % 10**6
    assert sum(one_classifier(seed) for seed in range(first, first + 30)) > 20


@ignore_convergence
@pytest.mark.parametrize("rate", [*SCHEDULES, decay_by_root])
@pytest.mark.parametrize("solver", SOLVERS)
def test_schedules_go_on_in_partial_fit(rate, solver):
    """As many calls as epochs come to the same as one fit."""
    x, y = curve(40)
    settings = {"solver": solver, "learning_rate": rate, "learning_rate_init": 0.05, "hidden_layer_sizes": (4,)}
    settings |= {"batch_size": 16, "shuffle": False, "max_iter": 7, "random_state": 0, "tol": 0.0}
    model = MLPRegressor(**settings)
    for _ in range(7):
        model.partial_fit(x, y)
    expected = MLPRegressor(**settings | {"n_iter_no_change": 100}).fit(x, y)
    close(model.loss_curve_, expected.loss_curve_, 1e-12, "loss_curve_")
    close(model.coefs_[0], expected.coefs_[0], 1e-12, "coefs_")


# ------------------------------------------------------------------------------------------------ least squares


def fitted_objective(model, X, Y, weights):
    """What is minimised, at the end of a fit by squared error, and the norm of its gradient."""
    plain = Plain(model, X, Y, weights, "squared_error", "identity", report=lambda losses, Y: losses)
    plain.params = np.concatenate(
        [part.ravel() for coef, b in zip(model.coefs_, model.intercepts_) for part in (coef.T, b)]
    )
    value, grad = plain.objective(np.arange(len(X)))
    return value, np.abs(grad).max()


@ignore_convergence
def test_lm_gets_as_low_as_lbfgs():
    """From the same start in most of some random problems, never higher from its end; the gradient is 0 at the end."""
    lower = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rows, n_outputs = int(rng.integers(10, 60)), int(rng.integers(1, 4))
        X = rng.normal(size=(rows, 2))
        Y = np.sin(X @ rng.normal(size=(2, n_outputs))) + 0.1 * rng.normal(size=(rows, n_outputs))
        settings = {
            "hidden_layer_sizes": (4,),
            "activation": str(rng.choice(["tanh", "silu"])),
            "alpha": float(rng.choice([1e-3, 0.1])),
            "max_iter": 500,
            "tol": 1e-7,
            "random_state": seed,
        }
        weights = weighted_rows(rng, rows)
        y = Y[:, 0] if n_outputs == 1 else Y
        inputs = scipy.sparse.csr_array(X) if seed == 3 else X
        lm = MLPRegressor(solver="lm", **settings).fit(inputs, y, weights)
        lbfgs = MLPRegressor(solver="lbfgs", **settings | {"max_fun": 10**5}).fit(inputs, y, weights)
        value, gradient = fitted_objective(lm, X, Y, weights)
        of_lbfgs, its_gradient = fitted_objective(lbfgs, X, Y, weights)
        lower += value <= of_lbfgs * (1 + 1e-3)
        going_on = MLPRegressor(solver="lm", warm_start=True, **settings).fit(inputs, y, weights)
        going_on.coefs_, going_on.intercepts_ = copy.deepcopy((lbfgs.coefs_, lbfgs.intercepts_))
        assert fitted_objective(going_on.fit(inputs, y, weights), X, Y, weights)[0] <= of_lbfgs * (1 + 1e-9), seed
        assert gradient < 1e-4, f"seed {seed}: lm ends where the gradient is {gradient}"
        assert its_gradient < 1e-2, f"seed {seed}: lbfgs ends where the gradient is {its_gradient}"
        # The reported loss is the mean over the outputs, and the penalty is not.
        plain = Plain(lm, X, Y, weights, "squared_error", "identity", report=lambda losses, Y: losses / Y.shape[1])
        plain.params = np.concatenate([a.ravel() for W, b in zip(lm.coefs_, lm.intercepts_) for a in (W.T, b)])
        assert lm.loss_ == pytest.approx(plain.objective(np.arange(rows))[0], rel=1e-9), f"seed {seed}"
        assert 1 <= lm.n_iter_ <= 500
    assert lower >= 7


def test_lm_solves_linear_least_squares(rng):
    """Without hidden layers, its end is that of the normal equations, with weights and with more weights than rows."""
    for rows, n_features in ((40, 3), (6, 9), (4000, 300)):  # the last in several blocks of the Jacobian
        X, y, weights = rng.normal(size=(rows, n_features)), rng.normal(size=rows), rng.uniform(0.1, 2, rows)
        model = MLPRegressor("squared_error", (), solver="lm", alpha=0.7, tol=1e-9, random_state=0).fit(X, y, weights)
        A = np.column_stack([X, np.ones(rows)])
        penalty = 0.7 * np.diag([1.0] * n_features + [0])
        expected = np.linalg.solve(A.T @ (weights[:, np.newaxis] * A) + penalty, A.T @ (weights * y))
        close(model.coefs_[0][:, 0], expected[:-1], 1e-6, "coefs_")
        close(model.intercepts_[0], expected[-1:], 1e-5, "intercepts_")


def test_lm_refuses_what_is_too_large():
    x, y = curve(10)
    with pytest.raises(ValueError, match=r"solver='lm' is for .*parameters.* got 12001; take solver='lbfgs'"):
        MLPRegressor(hidden_layer_sizes=(4000,), solver="lm").fit(x, y)


def test_lm_tells_that_it_has_not_converged():
    x, y = curve()
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        MLPRegressor(solver="lm", max_iter=2, random_state=0).fit(x, y)


# -------------------------------------------------------------------------------------------------------- ensembles

SMALL = {"hidden_layer_sizes": (5,), "max_iter": 4, "random_state": 0, "learning_rate_init": 0.02}


@ignore_convergence
def test_predictions_of_members(rng):
    """The mean of theirs, and its standard deviation; they differ, and are the same for a seed."""
    x, y = curve()
    model = MLPRegressor(n_members=3, **SMALL).fit(x, y)
    each = np.array([member.predict(x) for member in model.estimators_])
    mean, std = model.predict(x, return_std=True)
    close(mean, each.mean(axis=0), 1e-14, "mean")
    close(std, np.sqrt(((each - each.mean(axis=0)) ** 2).mean(axis=0)), 1e-12, "std")
    np.testing.assert_array_equal(model.predict(x), mean)
    assert all(np.abs(each[i] - each[j]).max() > 1e-3 for i in range(3) for j in range(i))
    np.testing.assert_array_equal(MLPRegressor(n_members=3, **SMALL).fit(x, y).predict(x), mean)
    assert np.abs(MLPRegressor(n_members=3, **SMALL | {"random_state": 1}).fit(x, y).predict(x) - mean).max() > 1e-3
    several = MLPRegressor(n_members=2, **SMALL).fit(x, np.column_stack([y, -y]))
    assert several.predict(x, return_std=True)[1].shape == (len(x), 2)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(x, return_std=True)[1], std)
    np.testing.assert_array_equal(copy.deepcopy(model).predict(x), mean)


@ignore_convergence
@pytest.mark.parametrize("n_classes", [2, 3])
def test_probabilities_of_members(rng, n_classes):
    X, labels = classes(rng, n_classes=n_classes)
    y = np.array(["x", "y", "z"])[labels]
    model = MLPClassifier(n_members=3, **SMALL).fit(X, y)
    each = np.array([member.predict_proba(X) for member in model.estimators_])
    mean, std = model.predict_proba(X, return_std=True)
    close(mean, each.mean(axis=0), 1e-14, "mean")
    close(std, each.std(axis=0), 1e-12, "std")
    close(model.predict_proba(X), mean, 1e-15, "predict_proba")
    close(model.predict_log_proba(X), np.log(mean), 1e-12, "predict_log_proba")
    np.testing.assert_array_equal(model.classes_, np.unique(y))
    np.testing.assert_array_equal(model.predict(X), model.classes_[mean.argmax(axis=1)])


@ignore_convergence
def test_predictions_of_members_agree_with_their_probabilities(rng):
    """Also where one member is sure of what the others doubt."""
    X, y = classes(rng)
    model = MLPClassifier(n_members=3, **SMALL).fit(X, y)
    for member, logit in zip(model.estimators_, [10.0, -1.0, -1.0]):
        member.coefs_[-1][...] = 0
        member.intercepts_[-1][...] = logit
    assert 0.49 < model.predict_proba(X)[0, 1] < 0.53
    model.estimators_[1].intercepts_[-1][...] = -3  # now the mean of the probabilities is 0.44, that of the logits 2
    np.testing.assert_array_equal(model.predict(X), 0)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X), rtol=1e-12)


@ignore_convergence
def test_members_go_on_with_the_parameters_of_the_ensemble():
    x, y = curve()
    model = MLPRegressor(n_members=2, warm_start=True, **SMALL).fit(x, y)
    members, weights = model.estimators_, [member.coefs_[0].copy() for member in model.estimators_]
    model.set_params(alpha=0.5, max_iter=1).fit(x, y)
    assert model.estimators_ is members
    assert [(member.alpha, member.n_iter_, member.n_members) for member in members] == [(0.5, 1, 1)] * 2
    assert members[0].random_state != members[1].random_state
    for member, before in zip(members, weights):
        assert 0 < np.abs(member.coefs_[0] - before).max() < 0.1


@ignore_convergence
def test_members_go_on():
    """With partial_fit and warm_start each goes on from its weights: as often as a single one of the same seed."""
    x, y = curve()
    model = MLPRegressor(n_members=2, **SMALL).partial_fit(x, y)
    alone = [MLPRegressor(**SMALL | {"random_state": m.random_state}).partial_fit(x, y) for m in model.estimators_]
    for _ in range(3):
        model.partial_fit(x, y)
        for single in alone:
            single.partial_fit(x, y)
    close(model.predict(x), np.mean([single.predict(x) for single in alone], axis=0), 1e-12, "partial_fit")
    assert model.t_ == 4 * len(x)
    warm = MLPRegressor(n_members=2, warm_start=True, **SMALL).fit(x, y)
    before = warm.estimators_[0].loss_
    warm.fit(x, y)
    assert warm.estimators_[0].t_ == 8 * len(x)
    assert warm.estimators_[0].loss_ < before
    labels = (y > 0).astype(int)
    several = MLPClassifier(n_members=2, **SMALL).partial_fit(x, labels, classes=[0, 1, 2]).partial_fit(x, labels)
    assert several.predict_proba(x).shape == (len(x), 3)


@ignore_convergence
def test_no_records_of_a_fit_before_are_left_when_there_are_members():
    """And none of the members' when there is one network again."""
    x, y = curve()
    model = MLPRegressor(**SMALL).fit(x, y).set_params(n_members=2).fit(x, y)
    for name in ("coefs_", "intercepts_", "loss_curve_", "best_loss_", "validation_scores_"):
        assert not hasattr(model, name), name
    assert not hasattr(model.set_params(n_members=1).fit(x, y), "estimators_")
    np.testing.assert_array_equal(model.predict(x), MLPRegressor(**SMALL).fit(x, y).predict(x))


@ignore_convergence
def test_return_std_needs_members(rng):
    x, y = curve()
    with pytest.raises(ValueError, match="return_std.*n_members > 1"):
        MLPRegressor(**SMALL).fit(x, y).predict(x, return_std=True)
    with pytest.raises(ValueError, match="return_std.*n_members > 1"):
        MLPClassifier(**SMALL).fit(x, y > 0).predict_proba(x, return_std=True)


# ------------------------------------------------------------------------------------------- scores, callbacks, text


def own_score(estimator, X, y, sample_weight=None):
    """A scorer of one's own."""
    return -mean_absolute_error(y, estimator.predict(X), sample_weight=sample_weight)


@ignore_convergence
@pytest.mark.parametrize("scoring", [None, "neg_mean_absolute_error", own_score, make_scorer(r2_score)])
@pytest.mark.parametrize("weighted", [False, True])
def test_early_stopping_by_any_score(scoring, weighted):
    """The scores are of the weights after each epoch, on the rows that are held out; the best of them are kept."""
    rng = np.random.default_rng(5)
    x, y = curve(40)
    weights = rng.uniform(0.1, 3, len(x)) if weighted else None
    seen = []
    settings = {
        "hidden_layer_sizes": (8,), "learning_rate_init": 0.2, "random_state": 3, "max_iter": 100, "batch_size": 5,
        "early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 4, "tol": 0.0, "scoring": scoring,
    }  # fmt: skip
    model = MLPRegressor(callbacks=lambda model: seen.append(copy.deepcopy(model.coefs_)), **settings).fit(
        x, y, weights
    )
    generator = start_of([1, 8, 1], ["relu"], "relu", 3)[1]
    held = train_test_split(np.arange(len(x)), random_state=generator, test_size=0.3)[1]
    scorer = get_scorer(scoring) if isinstance(scoring, str) else scoring or make_scorer(r2_score)
    more = {} if weights is None else {"sample_weight": weights[held]}
    assert scorer(model, x[held], y[held], **more) == pytest.approx(max(model.validation_scores_), rel=1e-12)
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert len(model.validation_scores_) == model.n_iter_
    best = int(np.argmax(model.validation_scores_))
    if best < len(seen):
        np.testing.assert_array_equal(model.coefs_[0], seen[best][0])
    assert (
        max(model.validation_scores_) > model.validation_scores_[-1]
    )  # the last are not the best, or this tests nothing


@ignore_convergence
def test_scores_of_frames_have_no_warnings(rng):
    """The rows held out have no names, the estimator has; scorers that take probabilities and logits work."""
    pandas = pytest.importorskip("pandas", reason="not every platform has it")
    X, labels = classes(rng)
    frame, y = pandas.DataFrame(X, columns=["a", "b", "c"]), pandas.Series(np.where(labels, "yes", "no"))
    for scoring in ("roc_auc", "neg_log_loss", "balanced_accuracy", own_class_score):
        model = MLPClassifier(early_stopping=True, scoring=scoring, **SMALL).fit(frame, y)
        assert len(model.validation_scores_) == model.n_iter_
        assert list(model.feature_names_in_) == ["a", "b", "c"]
        model.predict(frame)


def own_class_score(estimator, X, y):
    return float(np.mean(estimator.predict(X) == y))


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_callbacks_are_called_after_each_epoch(solver):
    """All of them, until one says that it is enough."""
    x, y = curve()
    found = []
    settings = SMALL | {"max_iter": 20, "solver": solver, "tol": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPRegressor(callbacks=lambda model: found.append(model.loss_), **settings).fit(x, y)
    assert found == model.loss_curve_
    calls = []
    callbacks = [lambda model: model.n_iter_ == 3, lambda model: calls.append(model.n_iter_)]
    model = MLPRegressor(callbacks=callbacks, **settings).fit(x, y)
    assert calls == [1, 2, 3]
    assert model.n_iter_ == 3
    np.testing.assert_array_equal(model.loss_curve_, found[:3])


def test_callbacks_are_called_after_the_last_epoch_too():
    """The one after which training stops for want of improvement."""
    x, y = curve()
    calls = []
    settings = SMALL | {"max_iter": 50, "tol": 10.0, "n_iter_no_change": 2}
    model = MLPRegressor(callbacks=lambda model: calls.append(model.n_iter_), **settings).fit(x, y)
    assert model.n_iter_ < 50
    assert calls == list(range(1, model.n_iter_ + 1))


@ignore_convergence
@pytest.mark.parametrize("solver", ["lbfgs", "lm"])
def test_callbacks_of_other_solvers_and_members(solver, capsys):
    """After each iteration, with its loss, which is printed if ``verbose``."""
    x, y = curve()
    calls = []
    model = MLPRegressor(
        solver=solver,
        verbose=True,
        callbacks=lambda model: calls.append(model.loss_) or len(calls) == 5,
        **SMALL | {"max_iter": 50},
    ).fit(x, y)
    assert len(calls) == 5
    assert model.n_iter_ == 5
    assert model.loss_ == pytest.approx(calls[-1])
    assert calls[-1] < calls[0]
    printed = "".join(f"Iteration {i}, loss = {loss:.8f}\n" for i, loss in enumerate(calls, 1))
    assert capsys.readouterr().out == printed
    members = []
    MLPRegressor(n_members=2, callbacks=lambda member: members.append(member.random_state), **SMALL).fit(x, y)
    assert len(members) == 8
    assert len(set(members)) == 2


@ignore_convergence
def test_progress(capsys):
    """A bar on the standard error, with all epochs and the loss."""
    pytest.importorskip("tqdm")
    x, y = curve()
    model = MLPRegressor(progress=True, **SMALL).fit(x, y)
    written = capsys.readouterr()
    assert written.out == ""
    assert "4/4" in written.err
    assert f"{model.loss_:.3g}" in written.err
    MLPRegressor(progress=True, **SMALL).partial_fit(x, y)
    assert "1/1" in capsys.readouterr().err


# ---------------------------------------------------------------------------------- dtypes, threads, predictions


@ignore_convergence
def test_dtype(rng, backend):
    """The whole computation is in float32, as if X were."""
    X, y = classes(rng, n_classes=3)
    model = MLPClassifier(dtype="float32", **SMALL).fit(X, y)
    narrow = MLPClassifier(**SMALL).fit(X.astype("float32"), y)
    assert {array.dtype for array in [*model.coefs_, *model.intercepts_, model.predict_proba(X)]} == {np.dtype("f4")}
    np.testing.assert_array_equal(model.coefs_[0], narrow.coefs_[0])
    np.testing.assert_array_equal(model.predict_proba(X), narrow.predict_proba(X.astype("float32")))
    wide = MLPClassifier(dtype=np.float64, **SMALL).fit(X.astype("float32"), y)
    assert wide.coefs_[0].dtype == np.float64
    close(wide.coefs_[0], model.coefs_[0], 1e-4, "coefs_")
    for solver in ("lbfgs", "lm"):
        regressor = MLPRegressor(solver=solver, dtype="float32", **SMALL).fit(X, X[:, 0])
        assert regressor.predict(X).dtype == np.float32
    sparse = MLPClassifier(dtype="float32", **SMALL).fit(scipy.sparse.csr_array(X), y)
    close(sparse.coefs_[0], model.coefs_[0], 1e-4, "coefs_ of a sparse X")


@ignore_convergence
def test_predictions_of_large_sparse_matrices(rng):
    """They are made dense in blocks, which is not to be seen."""
    X = scipy.sparse.csc_array(rng.normal(size=(6000, 100)) * (rng.random((6000, 100)) < 0.02))
    model = MLPClassifier(**SMALL).fit(X[:50], np.arange(50) % 3)
    np.testing.assert_allclose(model.predict_proba(X), model.predict_proba(X.toarray()), rtol=1e-12)
    np.testing.assert_array_equal(model.predict(X), model.predict(X.toarray()))


@ignore_convergence
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_threads_give_the_same_bits(rng, solver):
    """In training and predictions, with batches that are large enough for several."""
    X = rng.normal(size=(3000, 20))
    y = X[:, 0] * X[:, 1]
    settings = SMALL | {"hidden_layer_sizes": (40,), "batch_size": 1500, "max_iter": 2, "solver": solver}
    models = [MLPRegressor(threads=threads, **settings).fit(X, y) for threads in (1, 2, 5)]
    for model in models[1:]:
        np.testing.assert_array_equal(model.coefs_[0], models[0].coefs_[0])
        np.testing.assert_array_equal(model.predict(X), models[0].predict(X))
        assert model.loss_ == models[0].loss_


@ignore_convergence
@pytest.mark.parametrize("n_classes", [2, 4])
def test_logarithms_of_probabilities_that_underflow(rng, n_classes):
    """They are finite, negative, and those of the logits; and the probabilities are good to the last digits."""
    X, y = classes(rng, n_classes=n_classes)
    model = MLPClassifier(**SMALL).fit(X, y)
    model.coefs_[-1] *= 1e4
    found = model.predict_log_proba(X)
    a = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0)  # SMALL has one hidden layer
    z = a @ model.coefs_[1] + model.intercepts_[1]
    assert np.isfinite(found).all()
    assert found.min() < -1000
    z = np.column_stack([np.zeros(len(z)), z]) if n_classes == 2 else z
    top = z.max(axis=1, keepdims=True)
    close(found, z - top - np.log(np.exp(z - top).sum(axis=1, keepdims=True)), 1e-12, "predict_log_proba")
    probabilities = model.predict_proba(X)
    np.testing.assert_allclose(probabilities, np.exp(found), rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@ignore_convergence
@pytest.mark.parametrize("n_members", [1, 3])
def test_decisions_agree_with_predictions(rng, n_members):
    X, y = classes(rng)
    labels = np.array(["left", "right"])[y]
    settings = SMALL | {"max_iter": 30, "n_members": n_members}
    model = MLPClassifier(**settings).fit(X, labels)
    z = model.decision_function(X)
    assert z.shape == (len(X),)
    assert 0 < np.sum(z > 0) < len(z)
    np.testing.assert_array_equal(np.where(z > 0, "right", "left"), model.predict(X))
    close(1 / (1 + np.exp(-z)), model.predict_proba(X)[:, 1], 1e-12, "predict_proba")
    X, y = classes(rng, n_classes=3)
    model = MLPClassifier(**settings).fit(X, y)
    close(np.exp(model.decision_function(X)), model.predict_proba(X), 1e-12, "predict_proba")
    Y = np.column_stack([y > 0, y > 1, X[:, 1] > 0]).astype(int)
    model = MLPClassifier(**settings).fit(X, Y)
    z = model.decision_function(X)
    np.testing.assert_array_equal(z > 0, model.predict(X) == 1)
    close(1 / (1 + np.exp(-z)), model.predict_proba(X), 1e-12, "predict_proba")


@ignore_convergence
def test_a_pickle_has_the_weights_once():
    x, y = curve()
    model = MLPRegressor(hidden_layer_sizes=(4000,), max_iter=1, random_state=0).fit(x, y)
    del model._optimizer  # it has two vectors more, as scikit-learn's
    size = sum(array.nbytes for array in (*model.coefs_, *model.intercepts_))
    assert size < len(pickle.dumps(model)) < 1.5 * size


@ignore_convergence
def test_a_warm_start_learns_from_other_rows_without_a_better_score(rng):
    """The best weights of the fit before are not brought back."""
    X, other = rng.normal(size=(2, 200, 3))
    settings = {"hidden_layer_sizes": (8,), "early_stopping": True, "warm_start": True, "learning_rate_init": 0.01}
    target = other[:, 1] + 0.5 * rng.normal(size=200)
    found = []
    for module in (bpcore.sklearn, sklearn.neural_network):
        model = module.MLPRegressor(max_iter=60, random_state=0, **settings).fit(X, X[:, 0])
        before = model.score(other, target)
        for _ in range(5):
            model.fit(other, target)
        assert model.score(other, target) > before + 0.3
        found.append(model.predict(other))
    close(*found, 1e-9, "predict")


@ignore_convergence
@pytest.mark.parametrize("hidden", [(), (4,), (5, 3)])
def test_predictions_of_sparse_rows(rng, hidden):
    """The first layer takes what is not 0; the result is that of dense rows."""
    X = rng.normal(size=(60, 30)) * (rng.random((60, 30)) < 0.1)
    model = MLPRegressor(hidden_layer_sizes=hidden, activation="tanh", max_iter=2, random_state=0).fit(X, X[:, :2])
    for kind in (scipy.sparse.csr_array, scipy.sparse.csc_matrix):
        np.testing.assert_allclose(model.predict(kind(X)), model.predict(X), rtol=1e-12, atol=1e-14)
    wide = scipy.sparse.random_array((2000, 200_000), density=1e-5, rng=rng, format="csr")
    model = MLPClassifier(hidden_layer_sizes=(2,), max_iter=1, batch_size=50, random_state=0)
    model.fit(wide[:100], np.arange(100) % 3)
    tracemalloc.start()
    model.predict(wide)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # dense rows would have 3.2 GB


@ignore_convergence
@pytest.mark.parametrize("kind", ["fitted", "pickled", "deepcopy"])
@pytest.mark.parametrize("how", ["in place", "replaced", "list replaced"])
def test_changed_weights_change_predictions(kind, how):
    """Whether in place or by other arrays, and training goes on from them."""
    x, y = curve()
    model = MLPRegressor(warm_start=True, **SMALL | {"learning_rate_init": 1e-9}).fit(x, y)
    if kind == "pickled":
        model = pickle.loads(pickle.dumps(model))
    if kind == "deepcopy":
        model = copy.deepcopy(model)
    model.predict(x)
    if how == "in place":
        model.coefs_[1] *= 3
        model.intercepts_[1][0] = 7
    elif how == "replaced":
        model.coefs_[1], model.intercepts_[1] = 3 * model.coefs_[1], np.array([7.0])
    else:
        model.coefs_ = [model.coefs_[0], 3 * model.coefs_[1]]
        model.intercepts_ = [model.intercepts_[0], np.array([7.0])]
    hidden = np.maximum(x @ model.coefs_[0] + model.intercepts_[0], 0)
    expected = (hidden @ model.coefs_[1])[:, 0] + 7
    close(model.predict(x), expected, 1e-12, "predict")
    model.fit(x, y)
    close(model.predict(x), expected, 1e-5, "predict after going on")
    model.coefs_[1][...] = 0
    model.intercepts_[1][...] = 2
    np.testing.assert_array_equal(model.predict(x), 2)


@ignore_convergence
def test_copies(rng, tmp_path):
    """Pickles, deep copies and joblib's files predict the same, go on the same, and are apart from the original."""
    import joblib

    X, y = classes(rng, n_classes=3)
    model = MLPClassifier(**SMALL).partial_fit(X, y, classes=[0, 1, 2])
    joblib.dump(model, tmp_path / "model")
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), joblib.load(tmp_path / "model")]
    before = model.predict_proba(X)
    for other in copies:
        np.testing.assert_array_equal(other.predict_proba(X), before)
        other.partial_fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    after = model.partial_fit(X, y).predict_proba(X)
    assert np.abs(after - before).max() > 1e-6
    for other in copies:
        np.testing.assert_array_equal(other.predict_proba(X), after)
    fresh = clone(model)
    assert not hasattr(fresh, "coefs_")
    assert fresh.get_params() == model.get_params()


# ----------------------------------------------------------------------------------------- within scikit-learn


@ignore_convergence
def test_pipelines_and_searches(rng):
    """In processes of joblib, with parameters that only these have."""
    X, y = classes(rng)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**SMALL))
    grid = {"mlpclassifier__alpha": [0.0, 1.0], "mlpclassifier__l1": [0.0, 0.1]}
    variables = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, y)
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ |= {} if value is None else {name: value}
    alone = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(search.predict_proba(X), alone.predict_proba(X))
    assert cross_val_score(pipeline, X, y, cv=2).shape == (2,)


@ignore_convergence
def test_calibration_and_importance(rng):
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.inspection import permutation_importance

    X, y = classes(rng)
    model = MLPClassifier(**SMALL | {"max_iter": 40})
    assert CalibratedClassifierCV(model, cv=2).fit(X, y).predict_proba(X).shape == (len(X), 2)
    importances = permutation_importance(model.fit(X, y), X, y, n_repeats=2, random_state=0).importances_mean
    assert importances.argmax() == 0


@ignore_convergence
def test_routing_of_sample_weights(rng):
    """Of fit and partial_fit and score, as metadata routing asks for them."""
    from sklearn import config_context

    X, y = classes(rng)
    weights = rng.uniform(0.1, 2, len(X))
    with config_context(enable_metadata_routing=True):
        model = MLPClassifier(**SMALL).set_fit_request(sample_weight=True).set_partial_fit_request(classes=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model).fit(
            X, y, sample_weight=weights
        )
        expected = MLPClassifier(**SMALL).fit(StandardScaler().fit_transform(X), y, weights)
        np.testing.assert_array_equal(pipeline[-1].coefs_[0], expected.coefs_[0])
        MLPRegressor(**SMALL).set_predict_request(return_std=True)


@ignore_convergence
def test_frames():
    """Names of columns are kept and compared."""
    pandas = pytest.importorskip("pandas", reason="not every platform has it")
    x, y = curve()
    frame = pandas.DataFrame({"length": x[:, 0], "width": x[::-1, 0]})
    for solver in ("adam", "lbfgs", "lm"):
        model = MLPRegressor(solver=solver, **SMALL).fit(frame, pandas.Series(y))
        assert list(model.feature_names_in_) == ["length", "width"]
        close(
            model.predict(frame), MLPRegressor(solver=solver, **SMALL).fit(frame.values, y).predict(frame.values), 0, ""
        )
        with pytest.raises(ValueError, match="feature names"):
            model.predict(frame[["width", "length"]])
        with pytest.warns(UserWarning, match="feature names"):
            model.predict(frame.values)
    members = MLPRegressor(n_members=2, **SMALL).fit(frame, y)
    assert list(members.feature_names_in_) == ["length", "width"]
    members.predict(frame, return_std=True)


# ----------------------------------------------------------------------------------------------------------- errors

#: Of each parameter: a value of the wrong kind, one out of range, and the parameters without which it plays no part.
WRONG = {
    "hidden_layer_sizes": ("wide", (3, 0), {}),
    "activation": (3, "tangent", {}),
    "solver": (3, "newton", {}),
    "alpha": ("much", -1.0, {}),
    "batch_size": (2.5, 0, {}),
    "learning_rate": (0.1, "fast", {}),
    "learning_rate_init": (None, 0.0, {}),
    "power_t": ("a", -1.0, {}),
    "max_iter": (2.5, 0, {}),
    "shuffle": ("yes", 2, {}),
    "random_state": ("seed", -1, {}),
    "tol": (None, math.nan, {}),
    "verbose": ("loud", -1, {}),
    "warm_start": ("no", 2, {}),
    "momentum": ("heavy", 1.5, {}),
    "nesterovs_momentum": ("yes", 2, {}),
    "early_stopping": ("yes", 2, {}),
    "validation_fraction": ("half", 1.0, {}),
    "beta_1": ("a", 1.0, {}),
    "beta_2": ([0.9], 1.0, {}),
    "epsilon": ("a", 0.0, {}),
    "n_iter_no_change": (2.5, 0, {}),
    "max_fun": (1e3, 0, {}),
    "l1": ("a", -1.0, {}),
    "weight_decay": (1j, math.inf, {}),
    "clip_norm": ("a", 0.0, {}),
    "scoring": (3, "best", {"early_stopping": True}),
    "callbacks": (3, [print, None], {}),
    "progress": ("yes", 2, {}),
    "dtype": ("decimal", "int64", {}),
    "n_members": (2.0, 0, {}),
    "threads": ("all", 0, {}),
}
WRONG_IN_CLASSIFIERS = {
    "loss": (3, "hinge", {}),
    "gamma": ("a", -1.0, {"loss": "focal"}),
    "label_smoothing": ("a", 1.0, {}),
    "class_weight": (3, "inverse", {}),
}
WRONG_IN_REGRESSORS = {
    "loss": (3, "log_loss", {}),
    "delta": ("a", 0.0, {"loss": "huber"}),
    "quantile": ("a", 1.0, {"loss": "quantile"}),
    "power": ("a", 2.0, {"loss": "tweedie"}),
}
ALL_WRONG = [
    (estimator, name, value, more)
    for estimator, own in ((MLPClassifier, WRONG_IN_CLASSIFIERS), (MLPRegressor, WRONG_IN_REGRESSORS))
    for name, (kind, out_of_range, more) in (WRONG | own).items()
    for value in (kind, out_of_range)
]


def test_the_table_of_wrong_parameters_has_all():
    for estimator, own in ((MLPClassifier, WRONG_IN_CLASSIFIERS), (MLPRegressor, WRONG_IN_REGRESSORS)):
        assert set(WRONG | own) == set(estimator().get_params())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("estimator", "name", "value", "more"), ALL_WRONG)
def test_wrong_parameters_are_named(rng, estimator, name, value, more):
    """In fit, with what they must be."""
    X, y = classes(rng, rows=20)
    model = estimator(**{"max_iter": 2, name: value, **more})
    with pytest.raises((TypeError, ValueError)) as caught:
        model.fit(X, y)
    message = str(caught.value)
    assert name in message, message
    assert any(word in message for word in ("must", "between", "valid", "known", "cannot", "needs")), message


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"solver": "lbfgs", "l1": 0.1}, "l1 needs solver"),
        ({"solver": "lbfgs", "weight_decay": 0.1}, "weight_decay needs solver"),
        ({"solver": "lm", "clip_norm": 0.1}, "clip_norm needs solver"),
        ({"solver": "lm", "loss": "huber"}, "lm.*squared_error"),
        ({"activation": ["relu", "tanh"]}, "activation.*1 of them, one for each hidden layer, got 2"),
        ({"activation": ["tangent"]}, "activation must be one of"),
        ({"learning_rate": lambda step: -1.0}, "learning_rate"),
        ({"learning_rate": lambda step: math.nan}, "learning_rate"),
        ({"learning_rate": lambda step: "fast"}, "learning_rate"),
    ],
)
def test_parameters_that_do_not_go_together(parameters, names):
    x, y = curve()
    with pytest.raises((TypeError, ValueError), match=names):
        MLPRegressor(**SMALL | parameters).fit(x, y)


@pytest.mark.parametrize(
    ("n_classes", "parameters", "names"),
    [
        (2, {"solver": "lm"}, "solver must be one of sgd, adam, lbfgs, got 'lm'"),
        (3, {"loss": "focal"}, "focal.*two classes"),
        (2, {"label_smoothing": 0.1}, "label_smoothing.*more than two classes"),
    ],
)
def test_parameters_that_do_not_suit_the_classes(rng, n_classes, parameters, names):
    X, y = classes(rng, n_classes=n_classes)
    with pytest.raises(ValueError, match=names):
        MLPClassifier(**SMALL | parameters).fit(X, y)


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_missing_are_placed(rng, estimator, value):
    """By row and column, and its name if it has one; in fit and in predict, of frames, arrays and sparse matrices."""
    pandas = pytest.importorskip("pandas", reason="not every platform has it")
    X, y = classes(rng, rows=20)
    model = estimator(**SMALL | {"solver": "lbfgs", "max_iter": 100, "alpha": 1.0}).fit(X, y)
    bad = X.copy()
    bad[7, 1] = bad[9, 0] = value
    frame = pandas.DataFrame(bad, columns=["length", "width", "depth"])
    cure = "fill it.*SimpleImputer" if np.isnan(value) else "leave out such rows"
    for data, place in (
        (bad, f"column 1, row 7; {cure}"),
        (frame, f"column 'width', row 7; {cure}"),
        (bad.tolist(), "column 1, row 7"),
        (scipy.sparse.csr_array(bad), "column 1, row 7"),
        (scipy.sparse.csc_matrix(bad), "row (7|9)"),
    ):
        with pytest.raises(ValueError, match=f"(?s)Input X contains.*{place}"):
            estimator(**SMALL).fit(data, y)
        if data is not frame:
            with pytest.raises(ValueError, match=f"(?s)Input X contains.*{place}"):
                model.predict(data)


def test_text_is_placed(rng):
    pandas = pytest.importorskip("pandas", reason="not every platform has it")
    X, y = classes(rng, rows=20)
    frame = pandas.DataFrame(X, columns=["length", "width", "depth"]).astype(object)
    frame.loc[4, "depth"] = "long"
    for data in (frame, frame.values):
        column = "'depth'" if data is frame else "2"
        with pytest.raises(ValueError, match=f"(?s)column {column}, row 4;.*OneHotEncoder"):
            MLPClassifier(**SMALL).fit(data, y)


def test_targets_of_text_are_named():
    x, y = curve(20)
    for loss in ("squared_error", "gamma"):
        with pytest.raises((TypeError, ValueError), match=r"\by\b"):
            MLPRegressor(loss, **SMALL).fit(x, np.where(y > 0, "much", "little"))


def test_wrong_targets_are_placed(rng):
    x, y = curve(20)
    pandas = pytest.importorskip("pandas", reason="not every platform has it")
    bad = y.copy()
    bad[5] = np.nan
    for targets in (bad, pandas.Series(bad), bad.tolist()):
        with pytest.raises(ValueError, match=r"(?s)Input y contains NaN.*y, row 5;"):
            MLPRegressor(**SMALL).fit(x, targets)
    several = np.column_stack([y, bad])
    with pytest.raises(ValueError, match=r"(?s)Input y contains NaN.*column 1, row 5;"):
        MLPRegressor(**SMALL).fit(x, several)
    with pytest.raises(ValueError, match=r"(?s)Input y contains NaN.*'b', row 5;"):
        MLPRegressor(**SMALL).fit(x, pandas.DataFrame(several, columns=["a", "b"]))
    with pytest.raises(ValueError, match=r"(?s)Input y contains NaN"):
        MLPClassifier(**SMALL).fit(x, np.where(np.isnan(bad), np.nan, 1.0))


@pytest.mark.parametrize(("loss", "least"), [("poisson", ">= 0"), ("tweedie", ">= 0"), ("gamma", "> 0")])
def test_targets_out_of_range(loss, least):
    x, y = curve(20)
    y = np.abs(y) + 1
    y[3] = 0 if loss == "gamma" else -0.5
    with pytest.raises(ValueError, match=f"y must be {least} for loss='{loss}', got .* row 3"):
        MLPRegressor(loss, **SMALL).fit(x, y)
    with pytest.raises(ValueError, match=f"y must be {least}.*row 3"):
        MLPRegressor(loss, **SMALL).fit(x, np.column_stack([y + 1, y]))


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_wrong_weights(rng, estimator):
    X, y = classes(rng, rows=20)
    for weights, names in (
        (np.full(20, -1.0), "(?i)negative.*sample_weight|sample_weight.*negative"),
        (np.zeros(20), "(?i)sample.weight"),
        (np.ones(19), "sample_weight"),
        (np.full(20, np.nan), "sample_weight contains NaN"),
    ):
        with pytest.raises(ValueError, match=names):
            estimator(**SMALL).fit(X, y, weights)


def test_wrong_classes(rng):
    X, y = classes(rng, n_classes=3)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        MLPClassifier(**SMALL).partial_fit(X, y)
    with pytest.raises(ValueError, match=r"(?s)classes not in.*\[0 1\].*\[0 1 2\]"):
        MLPClassifier(**SMALL).partial_fit(X, y, classes=[0, 1])
    model = MLPClassifier(**SMALL).partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="is not the same as on last call"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"class_weight='balanced'.*compute_class_weight"):
        MLPClassifier(class_weight="balanced", **SMALL).partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="class"):
        MLPClassifier(class_weight={0: 1.0, 7: 2.0}, **SMALL).fit(X, y)
    with pytest.raises(AttributeError, match="partial_fit") as caught:
        MLPClassifier(solver="lbfgs").partial_fit(X, y, classes=[0, 1, 2])
    assert "lbfgs is not stochastic" in str(caught.value.__cause__)
    with pytest.raises(ValueError, match="early_stopping"):
        MLPClassifier(early_stopping=True, **SMALL).partial_fit(X, y, classes=[0, 1, 2])


@ignore_convergence
def test_a_warm_start_with_other_layers_or_classes(rng):
    X, y = classes(rng, n_classes=3)
    model = MLPClassifier(warm_start=True, **SMALL).fit(X, y)
    with pytest.raises(ValueError, match=r"same classes.*\[0 1 2\]"):
        model.fit(X, np.minimum(y, 1))
    with pytest.raises(ValueError, match=r"layers.*\[3, 5, 3\].*\[3, 6, 3\].*warm_start=False"):
        model.set_params(hidden_layer_sizes=(6,)).fit(X, y)
    model.set_params(warm_start=False).fit(X, y)


@ignore_convergence
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"early_stopping": True}),
        ({"early_stopping": True}, {"early_stopping": False}),
        ({"solver": "lbfgs"}, {"solver": "adam"}),
        ({"solver": "lbfgs"}, {"solver": "sgd", "early_stopping": True}),
        ({"solver": "adam"}, {"solver": "lbfgs"}),
        ({"solver": "lm"}, {"solver": "adam"}),
        ({}, {"activation": "tanh"}),
    ],
)
def test_a_warm_start_with_other_parameters(before, after):
    """Training goes on from the weights, whatever made them."""
    x, y = curve()
    model = MLPRegressor(warm_start=True, **SMALL | {"max_iter": 30} | before).fit(x, y)
    before, seen = model.score(x, y), model.t_
    model.set_params(max_iter=5, learning_rate_init=1e-9, **after).fit(x, y)
    assert model.t_ == seen or model.t_ > seen
    if "activation" not in after:
        assert model.score(x, y) >= before - 1e-3


# ------------------------------------------------------------------------------------------ interruptions, divergence


@ignore_convergence
@pytest.mark.parametrize("early_stopping", [False, True])
def test_interrupted_by_the_keyboard(early_stopping):
    """scikit-learn's warning, and an estimator that predicts and goes on."""

    def interrupt(model):
        if model.n_iter_ == 3:
            raise KeyboardInterrupt

    x, y = curve()
    settings = SMALL | {"max_iter": 20, "early_stopping": early_stopping, "tol": 0.0}
    model = MLPRegressor(callbacks=interrupt, warm_start=True, **settings)
    with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
        model.fit(x, y)
    assert model.n_iter_ == 3
    assert np.isfinite(model.predict(x)).all()
    model.set_params(callbacks=None, max_iter=2).fit(x, y)
    assert len(model.loss_curve_) == 5


@ignore_convergence
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_divergence(rng, solver, backend):
    """Weights that are not finite are an error, which says what may help."""
    X, y = rng.normal(size=(50, 3)) * 1e200, rng.normal(size=50) * 1e200
    with pytest.raises(ValueError, match="non-finite parameter weights.*learning_rate_init"):
        MLPRegressor(solver=solver, **SMALL | {"learning_rate_init": 1e3}).fit(X, y)


@pytest.mark.parametrize("solver", ["lbfgs", "lm"])
def test_divergence_of_other_solvers_warns(rng, solver):
    """A loss that is not finite from the start is no convergence."""
    X, y = rng.normal(size=(50, 3)) * 1e200, rng.normal(size=50) * 1e200
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            MLPRegressor(solver=solver, **SMALL).fit(X, y)
        except ValueError:
            return
    assert [w for w in caught if w.category is ConvergenceWarning]


# ----------------------------------------------------------------------------------------------------------- imports


def test_the_package_does_not_import_scikit_learn():
    done = run_python(code="import sys, bpcore; print([name for name in sys.modules if name.startswith('sklearn')])")
    assert done.stdout == "[]\n", done.stderr


def test_without_scikit_learn_the_error_says_how_to_get_it():
    code = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "sklearn":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import bpcore
try:
    import bpcore.sklearn
except ImportError as error:
    print(error)
"""
    done = run_python(code=code)
    assert "pip install 'bpcore[sklearn]'" in done.stdout, done.stderr
