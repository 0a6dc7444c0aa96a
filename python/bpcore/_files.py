"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import BinaryIO, cast


@contextlib.contextmanager
def write_atomically(path: str) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when all is written.

    Raises
    ------
    ValueError
        If the path names something that is not a regular file.
    OSError
        If it cannot be written; nothing is left behind, and an older file stays.
    """
    target, temporary = places(path)
    require_regular(target)
    with error_names(path), open(temporary, "xb") as opened:
        try:
            file = cast(BinaryIO, opened)
            yield file
            file.flush()
            os.fsync(file.fileno())
            file.close()  # Windows moves closed files only
            os.replace(temporary, target)
        except BaseException:
            opened.close()
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def places(path: str) -> tuple[str, str]:
    """The file itself, where `path` is a link to it, and a new name beside it."""
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    # Cut, so that a name of full length leaves room.
    return target, os.path.join(folder, f".{name[:40]}.{secrets.token_hex(8)}.tmp")


def require_regular(path: str) -> None:
    # Moving a file onto /dev/null would replace the device.
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"path must name a regular file, got {path}")


@contextlib.contextmanager
def error_names(path: str) -> Iterator[None]:
    """Let an OSError name the file that was asked for, not the temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(error.errno, os.strerror(error.errno), path) from error
