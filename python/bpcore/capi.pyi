from collections.abc import Callable, Mapping
from typing import Any

ABI_VERSION: int
_C_API: object

def functions() -> Mapping[str, Callable[..., Any]]: ...
