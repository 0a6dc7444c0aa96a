"""bpcore below Python: C functions for Cython code to cimport, the table for C and C++, and the same for ctypes.

``from bpcore.capi cimport ...`` imports the functions that capi.pxd declares; ``bpcore.h``, in the folder that
:func:`bpcore.get_include` returns, documents them. They are those of the backend that bpcore selected at import.
"""

# Free functions over an opaque struct: a cdef class would have a table of methods, and their order would be part of
# the ABI. Each is one jump through the backend's table.

from cpython.pycapsule cimport PyCapsule_GetPointer

from types import MappingProxyType

from ._dispatch import core, name

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
        ``array.ctypes.data``, and 0 for NULL. ctypes releases the GIL during a call.
    """
    import ctypes

    kinds = {"double": ctypes.c_double, "int": ctypes.c_int, "ssize_t": ctypes.c_ssize_t, "size_t": ctypes.c_size_t,
             "int64": ctypes.c_int64, "char_p": ctypes.c_char_p}
    addresses = <size_t *>&c_table.error_message
    found = {}
    for i, (function, types) in enumerate(SIGNATURES.items()):
        found[function] = ctypes.CFUNCTYPE(*(kinds[kind] for kind in types))(addresses[i])
    return MappingProxyType(found)
