"""The command ``bpcore``: train a network, predict with it, say what is installed, and how fast it is."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from bpcore import __version__

from . import bench, info, predict, train
from .train import INTERRUPTED

__all__ = ["main"]


class UsageError(ValueError):
    """A command line that cannot be understood."""


class _Parser(argparse.ArgumentParser):
    """One line for an error, as for every other error of the command."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, without the program's name; by default those of the process.

    Returns
    -------
    status : int
        0; 2 after an error, which is reported in one line on stderr; 130 after Ctrl-C.
    """
    parser = _Parser(
        prog="bpcore",
        description="Train dense feed-forward networks on the CPU, and use them.",
    )
    parser.add_argument("--version", action="version", version=f"bpcore {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for module in (train, predict, info, bench):
        module.add_parser(commands)
    # A name that the terminal cannot show is no reason to stop.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = parser.parse_args(argv)
        run: Callable[[argparse.Namespace], int] = arguments.run
        status = run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("bpcore: interrupted", file=sys.stderr)
        return INTERRUPTED
    except MemoryError as error:
        return _fail(f"not enough memory: {error}" if str(error) else "not enough memory")
    except OSError as error:
        if error.filename is not None and error.errno is not None:
            return _fail(f"{error.filename}: {os.strerror(error.errno)}")  # the same words on every system
        # The reader of the output has gone, as `head` does; EINVAL is what Windows makes of it.
        if error.errno in (errno.EPIPE, errno.EINVAL):
            # Python would complain at exit, too.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        return _fail(str(error))
    # What a library says of its arguments is for the user to read; see train.py for the others.
    except (ValueError, FloatingPointError, ImportError) as error:
        return _fail(str(error))
    return status


def _fail(message: str) -> int:
    """Print an error in one line, without control characters that a file may have put in it."""
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    encoding = sys.stderr.encoding or "ascii"
    printable = printable.encode(encoding, "backslashreplace").decode(encoding)
    print(f"bpcore: error: {printable}", file=sys.stderr)
    return 2
