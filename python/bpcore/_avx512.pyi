"""Types of a compiled core."""

from ._baseline import *
