"""A saved model comes back bit for bit; a damaged or hostile file gives a ModelFileError and nothing else."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import MODEL_SUFFIXES, needs_safetensors

import bpcore
from bpcore import model as model_module
from bpcore.architecture import CANONICAL_OUTPUT
from bpcore.model import Model, ModelFileError, check_save_path, load, save


def classifier(dtype: str = "float32") -> Model:
    net = bpcore.Network([4, 6, 5, 3], hidden=["relu", "tanh"], loss="cross_entropy", dtype=dtype)
    return Model(
        net,
        net.initialize(seed=1),
        feature_mean=np.arange(4.0),
        feature_scale=np.arange(1.0, 5.0),
        class_names=("a", "ö, \n", "\U0001f600"),
        feature_names=("w", "", 'x"', "z"),
    )


def regressor(dtype: str = "float64") -> Model:
    net = bpcore.Network([2, 3, 2], "gelu", "squared_error", "softplus", dtype)
    return Model(net, net.initialize(seed=2), target_mean=[1.0, -2.0], target_scale=[3.0, 0.5])


MODELS = {
    "classifier": classifier,
    "regressor": regressor,
    "plain": lambda: Model(n := bpcore.Network([3, 1]), n.initialize(seed=3)),
    "binary": lambda: Model(
        n := bpcore.Network([2, 1], loss="binary_cross_entropy"),
        n.initialize(seed=4),
        class_names=["no", "yes"],
    ),
}


@pytest.fixture(params=MODEL_SUFFIXES)
def path(request, tmp_path) -> str:
    return str(tmp_path / f"model{request.param}")


@pytest.fixture(params=MODELS)
def model(request) -> Model:
    return MODELS[request.param]()


# --------------------------------------------------------------------------------------------------------- the model


def test_predictions_are_the_forward_pass_between_the_scalings(rng):
    X = rng.normal(size=(7, 4))
    model = classifier()
    scaled = ((X - [0, 1, 2, 3]) / [1, 2, 3, 4]).astype(np.float32)
    expected = model.network.forward(model.params, scaled)
    np.testing.assert_array_equal(model.predict(X), expected)
    np.testing.assert_array_equal(model.classify(X), expected.argmax(axis=1))
    model = regressor()
    expected = model.network.forward(model.params, X[:, :2]) * [3.0, 0.5] + [1.0, -2.0]
    np.testing.assert_array_equal(model.predict(X[:, :2]), expected)


def test_a_sigmoid_gives_both_probabilities(rng):
    model, X = MODELS["binary"](), rng.normal(size=(5, 2))
    a = model.network.forward(model.params, X)
    np.testing.assert_array_equal(model.predict(X), np.column_stack([1 - a[:, 0], a[:, 0]]))
    np.testing.assert_array_equal(model.classify(X), a[:, 0] > 0.5)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"network": None}, TypeError, "network must be a Network, got NoneType"),
        ({"params": [1.0]}, TypeError, "params must be an array of float32, got list"),
        ({"params": np.zeros(83)}, TypeError, "params must be an array of float32, got an array of float64"),
        ({"params": np.zeros(3, "f4")}, ValueError, "params must have shape (83,), got (3,)"),
        ({"params": np.full(83, np.nan, "f4")}, ValueError, "params must be finite"),
        ({"feature_mean": None}, ValueError, "feature_mean and feature_scale must both be given"),
        ({"feature_scale": np.ones(3)}, ValueError, "feature_scale must have shape (4,), got (3,)"),
        ({"feature_scale": [1, 0, 1, 1]}, ValueError, "feature_scale must be > 0, got feature_scale["),
        ({"feature_scale": [1, -1, 1, 1]}, ValueError, "feature_scale must be > 0, got feature_scale["),
        ({"feature_mean": [1, np.inf, 1, 1]}, ValueError, "feature_mean must be finite"),
        ({"feature_mean": list("abcd")}, TypeError, f"feature_mean must hold real numbers, got dtype {np.dtype('U1')}"),
        (
            {"target_mean": np.ones(3), "target_scale": np.ones(3)},
            ValueError,
            "class_names must be None where target_mean is given",
        ),
        ({"class_names": ["a", "b"]}, ValueError, "class_names must have 3 names, got 2"),
        ({"class_names": "abc"}, TypeError, "class_names must be a sequence of str, got str"),
        ({"class_names": {"a", "b", "c"}}, TypeError, "class_names must be a sequence of str, got set"),
        ({"class_names": ["a", "b", 3]}, TypeError, "class_names[2] must be a str, got 3"),
        ({"class_names": ["a", "b", "b"]}, ValueError, "class_names must be different names, got one twice"),
        ({"class_names": ["a", "b", "\ud800"]}, ValueError, "class_names[2] must be Unicode text, got '\\ud800'"),
        ({"feature_names": ["a"]}, ValueError, "feature_names must have 4 names, got 1"),
    ],
)
def test_what_does_not_fit_the_network_is_refused(change, kind, message):
    model = classifier()
    fields = {name: getattr(model, name) for name in model.__dataclass_fields__}
    with pytest.raises(kind, match=re.escape(message)):
        Model(**(fields | change))


def test_class_names_need_probabilities():
    net = bpcore.Network([2, 2])
    with pytest.raises(ValueError, match="class_names need outputs of softmax or one of sigmoid, got 2 of identity"):
        Model(net, net.initialize(0), class_names=["a", "b"])
    with pytest.raises(ValueError, match="classify needs a model with class_names"):
        Model(net, net.initialize(0)).classify(np.ones((1, 2)))


@pytest.mark.parametrize(
    ("X", "kind", "message"),
    [
        (np.ones(4), ValueError, "X must have shape (rows, 4), got (4,)"),
        (np.ones((2, 3)), ValueError, "X has 3 columns, but the network has 4 inputs"),
        ([["a"] * 4], TypeError, f"X must hold real numbers, got dtype {np.dtype('U1')}"),
        (np.ma.masked_array(np.ones((2, 4)), True), TypeError, "X must not be a masked array"),
        ([[1, 2], [3]], TypeError, "X must be an array of real numbers"),
        ([[1, 2, np.nan, 3]], ValueError, "X must be finite as float32, got X[0, 2] = nan"),
        ([[1, 2, 3, 4], [1e300, 2, 3, 4]], ValueError, "X must be finite as float32, got X[1, 0] = 1e+300"),
    ],
)
def test_bad_input_is_refused(X, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        classifier().predict(X)


# ------------------------------------------------------------------------------------------------------- there and back


def test_round_trip(path, model, rng):
    model.save(path)
    loaded = load(path)
    assert loaded.network == model.network
    assert loaded.params.dtype == model.params.dtype
    assert loaded.params.tobytes() == model.params.tobytes()
    for name in ("feature_mean", "feature_scale", "target_mean", "target_scale"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(model, name), strict=True)
    assert loaded.class_names == model.class_names
    assert loaded.feature_names == model.feature_names
    X = rng.normal(size=(5, model.network.sizes[0]))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


@pytest.mark.parametrize("loss", CANONICAL_OUTPUT)
def test_every_loss_comes_back(path, loss):
    net = bpcore.Network([2, 3, 2], "elu", loss)
    Model(net, net.initialize(0)).save(path)
    assert load(path).network == net


@needs_safetensors
def test_the_arrays_are_open_to_other_programs(tmp_path):
    import safetensors.numpy

    model = classifier()
    model.save(tmp_path / "m.npz")
    model.save(tmp_path / "m.safetensors")
    tensors = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as arrays:
        assert {*arrays.files} == {*tensors, "description"}
        for i, layer in enumerate(model.network.layers(model.params)):
            for found in (arrays, tensors):
                np.testing.assert_array_equal(found[f"layers.{i}.weight"], layer.weights)
                np.testing.assert_array_equal(found[f"layers.{i}.bias"], layer.bias)
        assert json.loads(arrays["description"].tobytes())["class_names"] == list(model.class_names)


def test_the_same_model_gives_the_same_bytes(path, model):
    model.save(path)
    first = Path(path).read_bytes()
    load(path).save(path)
    assert Path(path).read_bytes() == first


def test_other_byte_order_is_read(tmp_path):
    model = classifier()
    model.save(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as arrays:
        swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in arrays.items()}
    np.savez(tmp_path / "swapped.npz", **swapped)
    loaded = load(tmp_path / "swapped.npz")
    assert loaded.params.dtype.isnative
    np.testing.assert_array_equal(loaded.params, model.params)


def test_the_format_is_told_from_the_contents(tmp_path, path):
    classifier().save(path)
    os.replace(path, tmp_path / "model.bin")
    assert load(tmp_path / "model.bin").network == classifier().network


def test_a_path_without_suffix_is_npz_of_that_very_name(tmp_path):
    classifier().save(tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]
    assert zipfile.is_zipfile(tmp_path / "model")
    load(tmp_path / "model")


# -------------------------------------------------------------------------------------------------------------- saving


def test_saving_is_atomic(path, tmp_path, monkeypatch):
    """Whatever fails, the old file stays and no other is left."""
    classifier().save(path)
    before = Path(path).read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(model_module.os, name, fail)
            with pytest.raises(OSError, match=r"No space left on device: .*model\."):
                regressor().save(path)
        assert os.listdir(tmp_path) == [os.path.basename(path)]
        assert Path(path).read_bytes() == before

    with monkeypatch.context() as patch:  # Ctrl-C while bytes are being written
        patch.setattr(model_module.os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            regressor().save(path)
    assert os.listdir(tmp_path) == [os.path.basename(path)]
    regressor().save(path)
    assert load(path).network == regressor().network


def test_a_link_is_followed(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    real = tmp_path / "there" / "real.npz"
    # Windows lets few users make links; what is tested is which name is written.
    monkeypatch.setattr(model_module.os.path, "realpath", lambda path: str(real))
    classifier().save(tmp_path / "link.npz")
    assert os.listdir(tmp_path / "there") == ["real.npz"]
    assert os.listdir(tmp_path) == ["there"]


@pytest.mark.parametrize("name", ["model.pkl", "model.npy", "model.v1", "model.NPZ"])
def test_other_suffixes_are_refused(tmp_path, name):
    for call in (check_save_path, lambda path: classifier().save(path)):
        with pytest.raises(ValueError, match=r"path must end in \.npz or \.safetensors, got"):
            call(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_bad_places_are_refused(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    for call in (check_save_path, lambda path: classifier().save(path)):
        with pytest.raises(ValueError, match="path must name a regular file"):
            call(tmp_path / "folder.npz")
        with pytest.raises(FileNotFoundError, match=r"nix\W+model\.npz"):
            call(tmp_path / "nix" / "model.npz")
        with pytest.raises(TypeError):
            call(3.5)
        with pytest.raises(TypeError, match="path must be a str, got b'model.npz'"):
            call(b"model.npz")
    assert os.listdir(tmp_path) == ["folder.npz"]


def test_the_check_leaves_everything_as_it_was(tmp_path):
    path = tmp_path / "model.npz"
    check_save_path(path)
    assert os.listdir(tmp_path) == []
    path.write_text("old")
    check_save_path(path)
    assert os.listdir(tmp_path) == ["model.npz"]
    assert path.read_text() == "old"


@needs_safetensors
def test_without_the_package_safetensors(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    classifier().save(path)
    monkeypatch.setattr(model_module.importlib.util, "find_spec", lambda name: None)
    for call in (check_save_path, lambda path: classifier().save(path), load):
        with pytest.raises(ImportError, match=r"needs the package safetensors, which is not installed"):
            call(path)
    classifier().save(tmp_path / "model.npz")


@pytest.mark.parametrize("suffix", MODEL_SUFFIXES)
def test_a_network_and_its_parameters(tmp_path, suffix, dtype):
    """The short way; parameters of another real dtype are cast, as in every call."""
    net = bpcore.Network([3, 4, 2], "tanh", "cross_entropy", dtype=dtype)
    params = np.random.default_rng(1).normal(size=net.n_parameters)
    bpcore.save(tmp_path / f"m{suffix}", net, params, class_names=["no", "yes"])
    model = bpcore.load(tmp_path / f"m{suffix}")
    assert isinstance(model, bpcore.Model)
    assert model.class_names == ("no", "yes")
    loaded_net, loaded = model
    assert loaded_net == net
    assert loaded.dtype == dtype
    np.testing.assert_array_equal(loaded, params.astype(dtype))
    bpcore.save(tmp_path / "list", net, params.tolist())
    np.testing.assert_array_equal(bpcore.load(tmp_path / "list").params, loaded)


def test_what_is_saved_can_be_read(tmp_path):
    model = classifier()
    path = tmp_path / "m.npz"
    with pytest.raises(TypeError, match="network must be a Network, got ndarray"):
        save(path, model.params, model.network)
    with pytest.raises(ValueError, match=r"params must have shape \(\d+,\), got \(3,\)"):
        save(path, model.network, np.zeros(3))
    with pytest.raises(ValueError, match="feature_mean and feature_scale must both be given or both be None"):
        save(path, *model, feature_mean=np.zeros(model.network.sizes[0]))
    model.params[5] = np.inf
    with pytest.raises(ValueError, match="params must be finite"):
        model.save(path)
    with pytest.raises(ValueError, match="params must be finite"):
        save(path, *model)
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------------------------------------- damaged and hostile


def refused(path: str | os.PathLike[str], message: str = "") -> None:
    """Loading raises a ModelFileError that names the file."""
    with pytest.raises(ModelFileError, match=re.escape(message) or None) as caught:
        load(path)
    assert os.fspath(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


def parts(suffix: str, tmp_path) -> tuple[dict, dict[str, np.ndarray]]:
    """Description and arrays of a sound file."""
    classifier().save(tmp_path / "sound.npz")
    with np.load(tmp_path / "sound.npz") as loaded:
        arrays = dict(loaded)
    return json.loads(arrays.pop("description").tobytes()), arrays


def write(path: str, description: object, arrays: dict[str, np.ndarray]) -> None:
    """A file of either format with this description (text if not JSON), whatever it says."""
    text = description if isinstance(description, str) else json.dumps(description)
    if path.endswith(".npz"):
        np.savez(path, description=np.frombuffer(text.encode(), np.uint8), **arrays)
    else:
        import safetensors.numpy

        safetensors.numpy.save_file(arrays, path, {"bpcore": text})


def test_the_helper_writes_a_sound_file(path, tmp_path):
    write(path, *parts(path, tmp_path))
    assert load(path).network == classifier().network


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "it holds arrays, but not a model of bpcore"),
        ({"version": 2}, "the version of the format must be 1, got 2"),
        ({"version": True}, "must be 1, got True"),
        ({"version": None}, "must be 1, got None"),
        ({"sizes": [4, 6, 5]}, ""),
        ({"sizes": [4, 6, 5, 4]}, "layers.2.weight must be"),
        ({"sizes": [4, 6, 5, 0]}, "sizes are not positive integers"),
        ({"sizes": [4, 6, 5, -3]}, "sizes are not positive integers"),
        ({"sizes": [4, 6, 5.0, 3]}, "sizes are not positive integers"),
        ({"sizes": [4, 6, True, 3]}, "sizes are not positive integers"),
        ({"sizes": "4653"}, "sizes are not positive integers"),
        ({"sizes": []}, ""),
        ({"sizes": [4]}, ""),
        ({"sizes": [4, 6, 10**9, 3]}, "sizes claim more parameters than the file holds"),
        ({"sizes": [4, 6, 10**400, 3]}, "sizes claim more parameters than the file holds"),
        ({"hidden": ["relu", "step"]}, "hidden[1] must be one of identity"),
        ({"hidden": ["relu"]}, "hidden must name 2 activations, one for each hidden layer, got 1"),
        ({"hidden": "relu"}, "hidden is not a list"),
        ({"hidden": [["relu"], {}]}, "hidden[0] must be a name, got ['relu']"),
        ({"output": "step"}, "output must be one of"),
        ({"output": None}, "output and loss are not names, nor loss a list of heads"),
        ({"loss": "cross"}, "loss must be one of"),
        ({"loss": 1}, "output and loss are not names, nor loss a list of heads"),
        ({"output": None, "loss": [["huber", 2]]}, "loss must be for all 3 outputs of the network"),
        ({"output": None, "loss": [["huber", 3, {"delta": "a"}]]}, "loss[0]: delta must be a number"),
        ({"output": None, "loss": [["huber", 3, {"delta": 1, "size": 2}]]}, "loss[0][2] must have options among"),
        ({"output": None, "loss": [["huber", 3, 7]]}, "loss[0][2] must be a dict of options"),
        ({"output": None, "loss": [[[1], 3]]}, "loss[0]: loss must be a name"),
        ({"loss": [["huber", 3]]}, "output and loss are not names, nor loss a list of heads"),
        ({"loss": "poisson"}, ""),
        ({"dtype": "float16"}, "dtype must be float32 or float64, got 'float16'"),
        ({"dtype": "float64"}, ""),
        ({"dtype": "O"}, "dtype must be float32 or float64, got 'O'"),
        ({"dtype": ["f4"]}, "dtype must be float32 or float64, got ['f4']"),
        ({"class_names": ["a", "b"]}, "class_names must have 3 names, got 2"),
        ({"class_names": ["a", "b", 3]}, "class_names[2] must be a str, got 3"),
        ({"class_names": {"a": 1}}, "class_names must be a sequence of str, got dict"),
        ({"class_names": ["a", "b", "\ud800"]}, "must be Unicode text"),
        ({"feature_names": ["a"] * 4}, "feature_names must be different names, got one twice"),
        ({"feature_names": ["a"] * 10**5}, "feature_names must have 4 names, got 100000"),
        ({"feature_names": 7}, "feature_names must be a sequence of str, got int"),
        ({"hidden": ["relu", "x" * 10**6]}, "hidden[1] must be one of identity"),
    ],
)
def test_false_descriptions(path, tmp_path, change, message):
    description, arrays = parts(path, tmp_path)
    write(path, description | change, arrays)
    refused(path, message)


@pytest.mark.parametrize("key", ["sizes", "hidden", "output", "loss", "dtype", "class_names", "feature_names"])
def test_gaps_in_the_description(path, tmp_path, key):
    description, arrays = parts(path, tmp_path)
    del description[key]
    write(path, description, arrays)
    refused(path, f"its description has no '{key}'")


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", "NaN", '"' * 9, "[" * 100_000, '{"format": 1' + "0" * 5000 + "}"]
)
def test_descriptions_that_are_no_description(path, tmp_path, text):
    write(path, text, parts(path, tmp_path)[1])
    refused(path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("layers.0.weight", None, "'layers.0.weight' is missing"),
        ("layers.2.bias", None, "'layers.2.bias' is missing"),
        ("layers.3.bias", np.zeros(3, "f4"), "'layers.3.bias' is not part of a model"),
        ("layers.1.bias", np.zeros(4, "f4"), "layers.1.bias must be"),
        ("layers.1.bias", np.zeros((5, 1), "f4"), "layers.1.bias must be"),
        ("layers.1.bias", np.zeros(5, "f8"), "layers.1.bias must be"),
        ("layers.1.bias", np.zeros(5, "i4"), "layers.1.bias must be"),
        ("layers.1.bias", np.full(5, np.nan, "f4"), "params must be finite"),
        ("layers.1.bias", np.full(5, np.inf, "f4"), "params must be finite"),
        ("feature_mean", None, "feature_mean and feature_scale must both be given"),
        ("feature_mean", np.zeros(3), "feature_mean must be"),
        ("feature_mean", np.zeros(4, "f4"), "feature_mean must be"),
        ("feature_mean", np.full(4, np.nan), "feature_mean must be finite"),
        ("feature_scale", np.zeros(4), "feature_scale must be > 0, got feature_scale["),
        ("feature_scale", -np.ones(4), "feature_scale must be > 0, got feature_scale["),
        ("feature_scale", np.full(4, np.inf), "feature_scale must be finite"),
        ("target_scale", np.ones(3), "target_mean and target_scale must both be given"),
    ],
)
def test_false_arrays(path, tmp_path, name, array, message):
    description, arrays = parts(path, tmp_path)
    arrays.pop(name, None)
    write(path, description, arrays if array is None else arrays | {name: array})
    refused(path, message)


@needs_safetensors
def test_files_that_are_no_model(path, tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    for contents, message in {
        b"": "it is empty",
        b"x": "neither .npz nor .safetensors",
        b"a,b\n1,2\n" * 100: "neither .npz nor .safetensors",
        b"\x93NUMPY\x01\x00": "neither",
        pickle.dumps(Malicious()): "it looks like a pickle, which is never read",
        b"PK\x03\x04": "is not a zip file",
        b"PK\x05\x06" + bytes(18): "neither",
        struct.pack("<Q", 10) + b"{": "its header must fit into its 9 bytes, got 10",
        struct.pack("<Q", 2**64 - 1) + b"{": "its header must fit into its 9 bytes, got 18446744073709551615",
        struct.pack("<Q", 2) + b"{}": "it holds tensors, but not a model of bpcore",
        struct.pack("<Q", 2) + b"{]": "",
        bytes(8) + b"{}": "",
    }.items():
        Path(path).write_bytes(contents)
        refused(path, message)

    np.savez(tmp_path / "objects.npz", description=np.array([Malicious()], object))
    refused(tmp_path / "objects.npz")
    description, arrays = parts(path, tmp_path)
    bias = np.array([Malicious()] * 5, object)
    write(str(tmp_path / "objects.npz"), description, arrays | {"layers.1.bias": bias})
    refused(tmp_path / "objects.npz", "layers.1.bias must be float32 of shape (5,), got object of shape (5,)")
    assert not (tmp_path / "run").exists()

    np.savez(tmp_path / "data.npz", X=np.ones((2, 2)))
    refused(tmp_path / "data.npz", "it holds arrays, but not a model of bpcore")
    refused(tmp_path, "path must name a regular file")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nix.npz")


def rewritten(tmp_path, change, compression=zipfile.ZIP_STORED) -> str:
    """A .npz file with the members of a sound one, after ``change`` of the dict of their bytes."""
    classifier().save(tmp_path / "sound.npz")
    with zipfile.ZipFile(tmp_path / "sound.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(tmp_path / "changed.npz", "w", compression) as archive:
        for name, contents in members.items():
            archive.writestr(name, contents)
    return str(tmp_path / "changed.npz")


def test_false_members(tmp_path):
    load(rewritten(tmp_path, lambda members: None))

    def put(name: str, contents: bytes):
        return lambda members: members.update({name: contents})

    def header(**fields: object) -> bytes:
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (5,)} | fields)
        return file.getvalue()

    bias = "layers.1.bias.npy"
    for contents in (
        b"",
        b"\x93NUMPY",
        header(),
        header() + bytes(19),
        header() + bytes(21),
        header(fortran_order=True) + bytes(20),
        header(shape=(2**62,)) + bytes(20),
        header(shape=(-5,)) + bytes(20),
        header(descr="|O") + bytes(20),
        header(descr=[("a", "<f4")]) + bytes(20),
        b"\x93NUMPY\x02\x00" + header()[8:] + bytes(20),
        b"\x93NUMPY\x01\x00\xff\xff" + header()[10:] + bytes(20),
        header().replace(b"<f4", b"__i") + bytes(20),
        b"\x80\x04K\x01.",
    ):
        refused(rewritten(tmp_path, put(bias, contents)))
    refused(rewritten(tmp_path, put("layers.1.bias", header() + bytes(20))), "two members have the same name")
    refused(rewritten(tmp_path, put("other", b"text")), "'other' is not part of a model")
    refused(rewritten(tmp_path, put("\x1b[2J", b"")), r"'\x1b[2J' is not part of a model")
    refused(rewritten(tmp_path, lambda members: members.pop(bias)), "'layers.1.bias' is missing")
    refused(rewritten(tmp_path, lambda members: None, zipfile.ZIP_DEFLATED), "is compressed or encrypted")
    # A Python without the module for it can neither write nor read LZMA: the directory's word must be enough.
    lzma = Path(rewritten(tmp_path, lambda members: None))
    method = zipfile.ZIP_LZMA.to_bytes(2, "little")
    lzma.write_bytes(re.sub(rb"(PK\x01\x02.{6})\0\0", lambda m: m[1] + method, lzma.read_bytes(), flags=re.S))
    with zipfile.ZipFile(lzma) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_LZMA}
    refused(lzma, "is compressed or encrypted")


def test_zip_bombs_take_no_memory(tmp_path):
    """64 MB of zeros in 64 kB; sizes, and members of which the directory tells lies."""
    bomb = rewritten(tmp_path, lambda m: m.update({"layers.0.bias.npy": bytes(1 << 26)}), zipfile.ZIP_DEFLATED)
    classifier().save(tmp_path / "model.npz")
    sound = (tmp_path / "model.npz").read_bytes()
    entry = sound.index(b"PK\x01\x02")
    lie = sound[: entry + 20] + struct.pack("<II", 1 << 31, 1 << 31) + sound[entry + 28 :]
    (tmp_path / "lie.npz").write_bytes(lie)
    tracemalloc.start()
    try:
        refused(bomb, "is compressed")
        refused(tmp_path / "lie.npz", "its members claim more bytes than the file has")
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_arrays_in_fortran_order_are_refused(tmp_path):
    description, arrays = parts(".npz", tmp_path)
    arrays["layers.1.weight"] = np.asfortranarray(arrays["layers.1.weight"])
    write(str(tmp_path / "m.npz"), description, arrays)
    refused(tmp_path / "m.npz", "layers.1.weight must be in C order, got Fortran order")


def test_long_descriptions_are_refused(path, tmp_path, monkeypatch):
    monkeypatch.setattr(model_module, "MAX_DESCRIPTION", 1000)
    description, arrays = parts(path, tmp_path)
    names = ["x" * 300 + str(i) for i in range(4)]
    write(path, description | {"feature_names": names}, arrays)
    refused(path, "its ")
    model = classifier()
    fields = {name: getattr(model, name) for name in model.__dataclass_fields__}
    with pytest.raises(ValueError, match="take at most 1000 bytes"):
        Model(**(fields | {"feature_names": names})).save(path)


@pytest.mark.parametrize("seed", range(3))
def test_fuzz(path, seed):
    """Bytes flipped, cut out, doubled and cut off: a model or a ModelFileError, never anything else."""
    [classifier(), regressor(), MODELS["plain"]()][seed].save(path)
    sound = Path(path).read_bytes()
    rng = np.random.default_rng(seed)
    damaged = [sound[:stop] for stop in range(0, len(sound), 13)]
    for position in range(seed % 2, len(sound), 2):
        changed = bytearray(sound)
        changed[position] = rng.choice([changed[position] ^ (1 << rng.integers(8)), 0, 255, rng.integers(256)])
        damaged.append(bytes(changed))
    for _ in range(150):
        start, stop = sorted(rng.integers(0, len(sound), 2))
        damaged += [sound[:start] + sound[stop:], sound[:stop] + sound[start:]]
        changed = bytearray(sound)
        for position in rng.integers(0, len(sound), 5):
            changed[position] = rng.integers(256)
        damaged.append(bytes(changed))
    loaded = 0
    for contents in damaged:
        Path(path).write_bytes(contents)
        try:
            model = load(path)
        except ModelFileError as error:
            assert path in str(error)
        else:
            loaded += 1
            assert np.isfinite(model.params).all()
    assert loaded < len(damaged) / 2
