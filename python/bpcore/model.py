"""A trained network with all that is needed to use it, and its file.

A model is saved as ``.npz`` or ``.safetensors``, never as a pickle: reading a file runs no code. Both formats hold the
same named arrays, one for the weights and one for the bias of each layer, and a JSON text that describes them. Files
are not trusted: every array is checked against the description, and the description against the size of the file,
before memory is allocated for it.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import math
import os
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from ._files import error_names, places, require_regular, write_atomically
from ._validation import check_matrix, check_vector, real_array
from .architecture import SEVERAL
from .network import Network

__all__ = ["Model", "ModelFileError", "check_save_path", "load", "save"]

FORMAT = "bpcore model"
VERSION = 1
MAX_DESCRIPTION = 1 << 24
"""Bytes of JSON; the names of a million features and classes fit in."""

SUFFIXES = (".npz", ".safetensors")
SCALING = ("feature_mean", "feature_scale", "target_mean", "target_scale")


class ModelFileError(ValueError):
    """A file that is not a model, or a damaged one; the message names the file."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network, its parameters, and the scaling and names of its inputs and outputs.

    Parameters
    ----------
    network : Network
    params : ndarray of shape (network.n_parameters,)
        Of the network's dtype; all finite.
    feature_mean, feature_scale : array_like of shape (n_inputs,), optional
        The network is fed ``(X - feature_mean) / feature_scale``. Both or neither; kept as float64.
    target_mean, target_scale : array_like of shape (n_outputs,), optional
        The network gives ``(Y - target_mean) / target_scale``. Both or neither; kept as float64.
    class_names : sequence of str, optional
        One for each output of a softmax; two for a single sigmoid, whose output is the probability
        of the second.
    feature_names : sequence of str, optional
        One for each input.

    Raises
    ------
    TypeError, ValueError
        If one of them is of the wrong kind, or does not fit the network.

    Examples
    --------
    >>> net = bpcore.Network([2, 1], loss="binary_cross_entropy")
    >>> model = bpcore.Model(net, np.array([1.0, 0.0, 0.0]), class_names=("no", "yes"))
    >>> model.predict([[0.0, 5.0]])
    array([[0.5, 0.5]])
    >>> model.classify([[-3.0, 0.0], [3.0, 0.0]])
    array([0, 1])
    >>> network, params = model
    """

    network: Network
    params: NDArray[Any]
    feature_mean: NDArray[np.float64] | None = None
    feature_scale: NDArray[np.float64] | None = None
    target_mean: NDArray[np.float64] | None = None
    target_scale: NDArray[np.float64] | None = None
    class_names: tuple[str, ...] | None = None
    feature_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        net, params = self.network, self.params
        if not isinstance(net, Network):
            raise TypeError(f"network must be a Network, got {type(net).__name__}")
        if not isinstance(params, np.ndarray) or params.dtype != net.dtype:
            came = f"an array of {params.dtype}" if isinstance(params, np.ndarray) else type(params).__name__
            raise TypeError(f"params must be an array of {net.dtype}, got {came}")
        real_array("params", params)
        if params.shape != (net.n_parameters,):
            raise ValueError(f"params must have shape ({net.n_parameters},), got {params.shape}")
        _check_finite("params", params, net.dtype)
        n_in, n_out = net.sizes[0], net.sizes[-1]
        for name, size in zip(SCALING, (n_in, n_in, n_out, n_out), strict=True):
            object.__setattr__(self, name, _scaling(name, getattr(self, name), size))
        for kind in ("feature", "target"):
            given = [getattr(self, f"{kind}_{part}") is not None for part in ("mean", "scale")]
            if any(given) and not all(given):
                raise ValueError(f"{kind}_mean and {kind}_scale must both be given or both be None")
        binary = net.output == "sigmoid" and n_out == 1
        if self.class_names is not None and not binary and net.output != "softmax":
            raise ValueError(f"class_names need outputs of softmax or one of sigmoid, got {n_out} of {net.output}")
        if self.class_names is not None and self.target_mean is not None:
            raise ValueError("class_names must be None where target_mean is given")
        names = _names("class_names", self.class_names, 2 if binary else n_out)
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "feature_names", _names("feature_names", self.feature_names, n_in))

    def __iter__(self) -> Iterator[Any]:
        """The network and its parameters, for ``network, params = load(path)``."""
        return iter((self.network, self.params))

    def scale(self, X: npt.ArrayLike) -> NDArray[Any]:
        """The features as the inputs of the network.

        Parameters
        ----------
        X : array_like of shape (m, n_inputs)

        Returns
        -------
        ndarray of shape (m, n_inputs)
            Of the network's dtype.

        Raises
        ------
        ValueError
            If a value is not finite, or not in that dtype.
        """
        features = check_matrix("X", X, self.network.sizes[0])
        with np.errstate(over="ignore", invalid="ignore"):
            if self.feature_mean is not None and self.feature_scale is not None:
                features = (features - self.feature_mean) / self.feature_scale
            scaled = np.ascontiguousarray(features, self.network.dtype)
        finite = np.isfinite(scaled)
        if not finite.all():
            row, column = (int(i) for i in np.argwhere(~finite)[0])
            raise ValueError(
                f"X must be finite as {self.network.dtype}, got X[{row}, {column}] = {np.asarray(X)[row, column]}"
            )
        return scaled

    def predict(self, X: npt.ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """The outputs for the rows of X, in the units of the target, or the probabilities of the classes.

        Parameters
        ----------
        X : array_like of shape (m, n_inputs)
            Unscaled; every value finite.
        threads : int, optional
            As in :meth:`Network.forward`.

        Returns
        -------
        ndarray
            Probabilities of shape (m, number of classes) if the model has classes, of the
            network's dtype; else outputs of shape (m, n_outputs), float64 if they were scaled.

        Raises
        ------
        TypeError, ValueError
            If X is of the wrong kind or shape, or holds a value that is not finite.
        """
        return self.unscale(self.network.forward(self.params, self.scale(X), threads=threads))

    def unscale(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The outputs of the network as :meth:`predict` returns them.

        Parameters
        ----------
        outputs : ndarray of shape (m, n_outputs)
            As ``network.forward`` returns them.
        """
        if self.class_names is not None and outputs.shape[1] < len(self.class_names):
            return np.hstack([1 - outputs, outputs])
        if self.target_mean is not None and self.target_scale is not None:
            return outputs * self.target_scale + self.target_mean
        return outputs

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the model; path and errors as for :func:`save`."""
        path = _checked_path(path)
        _check_finite("params", self.params, self.network.dtype)  # they may have been changed since
        description, arrays = _contents(self)
        if path.endswith(".safetensors"):
            from safetensors.numpy import save as serialize

            contents = serialize(arrays, {"bpcore": description})
            with write_atomically(path) as file:
                file.write(contents)
        else:
            arrays["description"] = np.frombuffer(description.encode(), np.uint8)
            with write_atomically(path) as file:
                np.savez(file, **cast(dict[str, Any], arrays))

    def classify(self, X: npt.ArrayLike, *, threads: int | None = None) -> NDArray[np.intp]:
        """Index of the most probable class of each row; see :meth:`predict`."""
        if self.class_names is None:
            raise ValueError("classify needs a model with class_names, got one that predicts numbers")
        classes: NDArray[np.intp] = np.argmax(self.predict(X, threads=threads), axis=1)
        return classes


def _scaling(name: str, value: npt.ArrayLike | None, size: int) -> NDArray[np.float64] | None:
    if value is None:
        return None
    array = real_array(name, value)
    if array.shape != (size,):
        raise ValueError(f"{name} must have shape ({size},), got {array.shape}")
    array = array.astype(np.float64)
    _check_finite(name, array, array.dtype)
    if name.endswith("_scale") and not (array > 0).all():
        i = int(np.argmin(array > 0))
        raise ValueError(f"{name} must be > 0, got {name}[{i}] = {array[i]:g}")
    return array


def _check_finite(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        i = int(np.argmin(finite))
        raise ValueError(f"{name} must be finite as {dtype}, got {name}[{i}] = {array[i]}")


def _names(name: str, value: Sequence[str] | None, size: int) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be a sequence of str, got {type(value).__name__}")
    if len(value) != size:
        raise ValueError(f"{name} must have {size} names, got {len(value)}")
    for i, item in enumerate(value):
        if not isinstance(item, str):
            raise TypeError(f"{name}[{i}] must be a str, got {item!r}")
        try:
            item.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name}[{i}] must be Unicode text, got {item!a}") from None
    if len(set(value)) < size:
        raise ValueError(f"{name} must be different names, got one twice")
    return tuple(value)


# ------------------------------------------------------------------------------------------- saving


def save(
    path: str | os.PathLike[str],
    network: Network,
    params: npt.ArrayLike,
    *,
    feature_mean: npt.ArrayLike | None = None,
    feature_scale: npt.ArrayLike | None = None,
    target_mean: npt.ArrayLike | None = None,
    target_scale: npt.ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
) -> None:
    """Save a network with its parameters, and the scaling and names of its inputs and outputs.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.safetensors`` for that format (package `safetensors`), in ``.npz`` or without a suffix for NumPy's.
        The file has exactly this name. It appears whole or not at all: an older file of that name stays as it was if
        anything fails.
    network : Network
    params : array_like of shape (n_parameters,)
        All finite; saved in the network's dtype.
    feature_mean, feature_scale, target_mean, target_scale, class_names, feature_names : optional
        As for :class:`Model`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or does not fit the network, or if the path has another suffix or names
        something that is not a regular file.
    OSError
        If the file cannot be written.
    ImportError
        If `safetensors` is needed and not installed.

    Examples
    --------
    >>> import os, tempfile
    >>> net = bpcore.Network([2, 3, 1], hidden="tanh")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.npz")
    ...     bpcore.save(path, net, net.initialize(seed=0))
    ...     same, params = bpcore.load(path)
    >>> same == net
    True
    """
    if not isinstance(network, Network):
        raise TypeError(f"network must be a Network, got {type(network).__name__}")
    params = check_vector("params", params, network.n_parameters, network.dtype)
    scaling: dict[str, Any] = dict(zip(SCALING, (feature_mean, feature_scale, target_mean, target_scale)))
    names: dict[str, Any] = {"class_names": class_names, "feature_names": feature_names}
    Model(network, params, **scaling, **names).save(path)


def _contents(model: Model) -> tuple[str, dict[str, NDArray[Any]]]:
    """The description of a model, and its arrays by name."""
    net = model.network
    description = json.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "sizes": net.sizes,
            "hidden": net.hidden,
            **_losses(net),
            "dtype": net.dtype.name,
            "class_names": model.class_names,
            "feature_names": model.feature_names,
        },
        ensure_ascii=False,
    )
    if len(description.encode()) > MAX_DESCRIPTION:
        raise ValueError(f"the names of classes and features must take at most {MAX_DESCRIPTION} bytes")
    arrays: dict[str, NDArray[Any]] = {}
    for i, layer in enumerate(net.layers(model.params)):
        arrays[f"layers.{i}.weight"] = layer.weights
        arrays[f"layers.{i}.bias"] = layer.bias
    for name in SCALING:
        if getattr(model, name) is not None:
            arrays[name] = getattr(model, name)
    # Little-endian on every machine, so that the file is the same everywhere.
    return description, {name: array.astype(array.dtype.newbyteorder("<")) for name, array in arrays.items()}


def _losses(net: Network) -> dict[str, Any]:
    """What of the outputs is not their number."""
    arguments = net._arguments()
    if net.loss == SEVERAL:
        return {"output": None, "loss": arguments["loss"], "loss_options": {}}
    options = {name: value for name, value in arguments.items() if name not in ("hidden", "loss", "output", "dtype")}
    return {"output": net.output, "loss": net.loss, "loss_options": options}


def check_save_path(path: str | os.PathLike[str]) -> None:
    """Raise what :func:`save` would raise for this path, before there is a model to save.

    A file is made in the folder and removed again; an existing file of that name is not touched.
    """
    path = _checked_path(path)
    target, temporary = places(path)
    require_regular(target)
    with error_names(path):
        open(temporary, "xb").close()
        os.unlink(temporary)


def _path(path: str | os.PathLike[str]) -> str:
    try:
        text = os.fspath(path)
    except TypeError:
        raise TypeError(f"path must be a str or path-like, got {type(path).__name__}") from None
    if not isinstance(text, str):
        raise TypeError(f"path must be a str, got {text!r}")
    if not text or "\0" in text:
        raise ValueError(f"path must name a file, got {text!r}")
    return text


def _checked_path(path: str | os.PathLike[str]) -> str:
    path = _path(path)
    suffix = os.path.splitext(path)[1]
    if suffix not in ("", *SUFFIXES):
        raise ValueError(f"path must end in {' or '.join(SUFFIXES)}, got {path!r}")
    if suffix == ".safetensors":
        _require_safetensors(path)
    return path


def _require_safetensors(path: str) -> None:
    if importlib.util.find_spec("safetensors") is None:
        raise ImportError(f"{path} needs the package safetensors, which is not installed (pip install safetensors)")


# ------------------------------------------------------------------------------------------ loading


def load(path: str | os.PathLike[str]) -> Model:
    """Load a model that :func:`save` wrote.

    The format is recognised by the contents. The memory used is at most a small multiple of the size of the file, and
    reading it runs no code. A changed number is noticed in ``.npz``, which has checksums, not in ``.safetensors``.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    model : Model
        ``network, params = load(path)`` takes these two out of it.

    Raises
    ------
    ModelFileError
        If the file is not a model, is damaged, or was written by a later version.
    OSError
        If it cannot be opened.
    ImportError
        If `safetensors` is needed and not installed.

    Examples
    --------
    See :func:`save`.
    """
    path = _path(path)
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ModelFileError(f"path must name a regular file, got {path}")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(9)
        file.seek(0)
        try:
            if start.startswith(b"PK\x03\x04"):
                with zipfile.ZipFile(file) as archive:
                    return _read_model(_NpzArrays(archive, size), size)
            if start[8:] == b"{":
                (length,) = struct.unpack("<Q", start[:8])
                # It may hold the description, and a little for each array.
                if length > min(size - 8, 3 * MAX_DESCRIPTION):
                    raise ModelFileError(f"its header must fit into its {size} bytes, got {length}")
                _require_safetensors(path)
                from safetensors import SafetensorError, safe_open

                try:
                    with safe_open(path, framework="numpy") as tensors:
                        return _read_model(_SafetensorsArrays(tensors), size)
                except SafetensorError as error:
                    raise ModelFileError(str(error)) from None
            if start[:1] == b"\x80":
                raise ModelFileError("it looks like a pickle, which is never read")
            raise ModelFileError("neither .npz nor .safetensors" if size else "it is empty")
        # All that zipfile, NumPy's header parser and json raise for bytes that make no sense.
        except (
            *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError),
            *(RuntimeError, NotImplementedError, OverflowError, SyntaxError, Warning),
            *(zipfile.BadZipFile, struct.error),
        ) as error:
            reason = str(error) if len(str(error)) < 300 else f"{str(error)[:300]} ..."
            raise ModelFileError(f"{path} is not a valid model file: {reason}") from None


class _Arrays(Protocol):
    """The arrays of a file by name, and the text that describes them."""

    names: frozenset[str]

    def description(self) -> str: ...
    def read(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """The array, or ModelFileError if it is not of that dtype and shape."""


class _NpzArrays:
    """Arrays of a ``.npz`` file, each member checked before it is read."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        members = archive.infolist()
        for member in members:
            # What is stored as it is cannot be larger than the file: no zip bomb.
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise ModelFileError(f"{member.filename!a} is compressed or encrypted")
            if not 0 <= member.header_offset <= size:
                raise ModelFileError(f"{member.filename!a} lies outside the file")
        if sum(member.file_size for member in members) > size:
            raise ModelFileError("its members claim more bytes than the file has")
        self._archive = archive
        self._members = {member.filename.removesuffix(".npy"): member for member in members}
        if len(self._members) < len(members):
            raise ModelFileError("two members have the same name")
        self.names = frozenset(self._members) - {"description"}

    def description(self) -> str:
        if "description" not in self._members:
            raise ModelFileError("it holds arrays, but not a model of bpcore")
        member = self._members["description"]
        if member.file_size > MAX_DESCRIPTION + 128:
            raise ModelFileError(f"its description takes {member.file_size} bytes")
        return self._read("description", np.dtype(np.uint8), None).tobytes().decode()

    def read(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        return self._read(name, dtype, shape)

    def _read(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...] | None) -> NDArray[Any]:
        data = self._archive.read(self._members[name])  # checks the CRC, too
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        if version != (1, 0):  # the others are for long or non-ASCII headers
            raise ModelFileError(f"{name} has version {version} of the .npy format")
        found_shape, fortran, found = np.lib.format.read_array_header_1_0(file)
        shape = (len(data) - file.tell(),) if shape is None else shape
        if fortran:
            raise ModelFileError(f"{name} must be in C order, got Fortran order")
        if found.newbyteorder("=") != dtype or found_shape != shape:
            raise ModelFileError(f"{name} must be {dtype} of shape {shape}, got {found} of shape {found_shape}")
        if len(data) - file.tell() != math.prod(shape) * dtype.itemsize:
            raise ModelFileError(f"{name} does not have the bytes of an array of shape {shape}")
        return np.frombuffer(data, found, offset=file.tell()).reshape(shape)


class _SafetensorsArrays:
    """Arrays of a ``.safetensors`` file; the package has checked that each lies within the file."""

    def __init__(self, tensors: Any) -> None:
        self._tensors = tensors
        self.names = frozenset(tensors.keys())

    def description(self) -> str:
        metadata: Mapping[str, str] | None = self._tensors.metadata()
        if not metadata or "bpcore" not in metadata:
            raise ModelFileError("it holds tensors, but not a model of bpcore")
        return metadata["bpcore"]

    def read(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        tensor = self._tensors.get_slice(name)
        expected = {"float32": "F32", "float64": "F64"}[dtype.name]
        found, found_shape = tensor.get_dtype(), tuple(tensor.get_shape())
        if found != expected or found_shape != shape:
            raise ModelFileError(f"{name} must be {expected} of shape {shape}, got {found} of shape {found_shape}")
        array: NDArray[Any] = self._tensors.get_tensor(name)
        return array


def _read_model(arrays: _Arrays, size: int) -> Model:
    """Build the model; any mistake in the file is a ModelFileError, TypeError, ValueError or KeyError."""
    text = arrays.description()
    if len(text) > MAX_DESCRIPTION:
        raise ModelFileError(f"its description has {len(text)} characters")
    about = json.loads(text)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ModelFileError("it holds arrays, but not a model of bpcore")
    version = about.get("version")
    if type(version) is not int or version != VERSION:
        raise ModelFileError(f"the version of the format must be {VERSION}, got {version!r}")
    sizes, hidden, dtype_name = (_field(about, key) for key in ("sizes", "hidden", "dtype"))
    if not isinstance(sizes, list) or not all(type(n) is int and n > 0 for n in sizes):
        raise ModelFileError("sizes are not positive integers")
    if dtype_name not in ("float32", "float64"):
        raise ModelFileError(f"dtype must be float32 or float64, got {dtype_name!r}")
    dtype = np.dtype(dtype_name)
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        shapes[f"layers.{i}.weight"] = (n_out, n_in)
        shapes[f"layers.{i}.bias"] = (n_out,)
    if sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize > size:
        raise ModelFileError("sizes claim more parameters than the file holds")
    unknown = arrays.names - shapes.keys() - set(SCALING)
    missing = shapes.keys() - arrays.names
    if unknown or missing:
        name = min(missing or unknown)
        raise ModelFileError(f"{name!a} is {'missing' if missing else 'not part of a model'}")
    if not isinstance(hidden, list):  # Network would take a name, too
        raise ModelFileError("hidden is not a list")
    output, loss = _field(about, "output"), _field(about, "loss")
    if not (isinstance(output, str) and isinstance(loss, str)) and not (output is None and isinstance(loss, list)):
        raise ModelFileError("output and loss are not names, nor loss a list of heads")
    options: Any = about.get("loss_options", {})
    if not isinstance(options, dict) or not all(type(value) in (int, float) for value in options.values()):
        raise ModelFileError("loss_options is not an object of numbers")
    net = Network(sizes, hidden, loss, output, dtype, **options)

    params = np.empty(net.n_parameters, dtype)
    for i, layer in enumerate(net.layers(params)):
        for part, view in (("weight", layer.weights), ("bias", layer.bias)):
            name = f"layers.{i}.{part}"
            view[...] = arrays.read(name, dtype, shapes[name])
    n_in, n_out = sizes[0], sizes[-1]
    scaling = {
        name: arrays.read(name, np.dtype(np.float64), (n_in if "feature" in name else n_out,))
        for name in SCALING
        if name in arrays.names
    }
    return Model(
        net,
        params,
        **scaling,
        class_names=_field(about, "class_names"),
        feature_names=_field(about, "feature_names"),
    )


def _field(about: Mapping[str, Any], key: str) -> Any:
    if key not in about:
        raise ModelFileError(f"its description has no {key!r}")
    return about[key]
