"""bpcore below Python: C functions for Cython code to cimport, the table for C and C++, and the same for ctypes.

``from bpcore.capi cimport ...`` imports the functions that capi.pxd declares; ``bpcore.h``, in the folder that
:func:`bpcore.get_include` returns, documents them. They are those of the backend that bpcore selected at import.
"""

# Free functions over an opaque struct: a cdef class would have a table of methods, and their order would be part of
# the ABI. Each is one jump through the backend's table.

from cpython.pycapsule cimport PyCapsule_GetPointer

from types import MappingProxyType

import numpy as np

from ._dispatch import core, name
from .architecture import SEVERAL, Architecture

include "bindings/api.pyx"
include "bindings/capi_functions.pyx"

if not hasattr(core, "_C_API"):
    raise ImportError(f"bpcore.capi needs a compiled backend, got {name!r}, which has no functions for C")

_C_API = core._C_API
cdef const bpcore_api *c_table = <const bpcore_api *>PyCapsule_GetPointer(_C_API, "bpcore.capi._C_API")

#: The version of the table: raised when a function changes or is removed.
ABI_VERSION = API_VERSION

if c_table.abi_version != API_VERSION:
    raise ImportError(f"the backend's ABI must have version {API_VERSION}, as bpcore.capi, got {c_table.abi_version}")


def functions():
    """The functions of the table, for ctypes and Numba.

    Returns
    -------
    functions : Mapping[str, ctypes function]
        By the names of ``bpcore.h``, with argument and result types. Pointers are integers: pass addresses, as in
        ``array.ctypes.data``, and 0 for NULL. ctypes releases the GIL during a call. :class:`Plan` makes the plan and
        the workspace that they take; the enums ``Activation`` and ``Loss`` have the numbers of ``bpcore.h``.
    """
    import ctypes

    kinds = {"double": ctypes.c_double, "int": ctypes.c_int, "ssize_t": ctypes.c_ssize_t, "size_t": ctypes.c_size_t,
             "int64": ctypes.c_int64, "char_p": ctypes.c_char_p}
    addresses = <size_t *>&c_table.error_message
    found = {}
    for i, (function, types) in enumerate(SIGNATURES.items()):
        found[function] = ctypes.CFUNCTYPE(*(kinds[kind] for kind in types))(addresses[i])
    return MappingProxyType(found)


cdef object aligned_bytes(size_t size):
    """New memory at the start of a cache line."""
    block = np.empty(size + 63, np.uint8)
    cdef size_t first = -<size_t>block.ctypes.data % 64
    return block[first:first + size]


cdef class Plan:
    """What the C functions need of a network: a plan and a workspace, in memory that this object owns.

    Both are valid as long as the object. Any number of threads may share a plan; each needs a workspace of its own.
    A copy or a pickle makes memory of its own.

    Parameters
    ----------
    network : Network

    Attributes
    ----------
    network : Network
    dtype : dtype
        That of the network: the arrays whose addresses the functions take must have it.
    n_parameters : int
    address : int
        The plan, a ``bpcore_plan *``.
    workspace : int
        The address of a workspace, for one thread at a time.
    functions : Mapping[str, ctypes function]
        Those of :func:`functions` for the dtype, without ``_f32`` or ``_f64`` in their names: "forward", "accumulate".

    Raises
    ------
    TypeError
        If ``network`` is no network.

    Examples
    --------
    >>> net = bpcore.Network([2, 1])
    >>> plan = bpcore.capi.Plan(net)
    >>> params, X, out = np.array([3.0, 4.0, 0.0]), np.ones((2, 2)), np.empty((2, 1))
    >>> forward = plan.functions["forward"]
    >>> forward(plan.address, plan.workspace, params.ctypes.data, X.ctypes.data, len(X), out.ctypes.data)
    0
    >>> out
    array([[7.],
           [7.]])
    """

    cdef readonly object network
    cdef readonly object dtype
    cdef readonly Py_ssize_t n_parameters
    cdef readonly size_t address
    cdef readonly size_t workspace
    cdef readonly object functions
    cdef object memory  # of both

    def __cinit__(self, network):
        if not isinstance(network, Architecture):
            raise TypeError(f"network must be a Network, got {network!r}")
        suffix, other = ("_f32", "_f64") if network.dtype == np.float32 else ("_f64", "_f32")
        self.network, self.dtype = network, network.dtype
        self.functions = MappingProxyType(
            {name.removesuffix(suffix): call for name, call in functions().items() if not name.endswith(other)}
        )
        memory = aligned_bytes(plan_bytes_heads(len(network.sizes) - 1, len(network.heads)))
        error = self.init_plan(memory)
        if error:
            raise ValueError(f"network must be one for C, got {network!r}: {error_message(error).decode()}")
        self.address = memory.ctypes.data
        self.n_parameters = n_parameters(<const bpcore_plan *>self.address)
        workspace = self.new_workspace()
        self.workspace = workspace.ctypes.data
        self.memory = memory, workspace

    cdef int init_plan(self, memory) except -1:
        """Make the plan of the network; returns an error code."""
        heads, n_layers = self.network.heads, len(self.network.sizes) - 1
        sizes = np.array(self.network.sizes, np.intp)
        hidden = np.array([Activation[name.upper()] for name in self.network.hidden], np.intc)
        n_outputs = np.array([head.n_outputs for head in heads], np.intp)
        outputs = np.array([Activation[head.output.upper()] for head in heads], np.intc)
        losses = np.array([Loss[head.loss.upper()] for head in heads], np.intc)
        parameters = np.array([head.parameter or 0 for head in heads], np.float64)
        weights = np.array([head.weight for head in heads], np.float64)
        if self.network.loss == SEVERAL:
            arrays = n_outputs, outputs, losses, parameters, weights
            return self.functions["plan_init_heads"](
                memory.ctypes.data, memory.nbytes, n_layers, sizes.ctypes.data, hidden.ctypes.data, len(heads),
                *(array.ctypes.data for array in arrays)
            )
        activations = np.concatenate([hidden, outputs])
        error = self.functions["plan_init"](
            memory.ctypes.data, memory.nbytes, n_layers, sizes.ctypes.data, activations.ctypes.data, losses[0]
        )
        if not error and self.network.loss_parameter is not None:
            error = self.functions["plan_set_loss_parameter"](memory.ctypes.data, parameters[0])
        return error

    def new_workspace(self):
        """A workspace for a further thread.

        Returns
        -------
        workspace : ndarray of uint8
            ``workspace.ctypes.data`` is its address, which is valid as long as the array. It begins a cache line.

        Examples
        --------
        >>> plan = bpcore.capi.Plan(bpcore.Network([2, 1]))
        >>> plan.new_workspace().ctypes.data % 64
        0
        """
        return aligned_bytes(workspace_bytes(<const bpcore_plan *>self.address))

    def __reduce__(self):
        return Plan, (self.network,)

    def __repr__(self):
        return f"Plan({self.network!r})"
