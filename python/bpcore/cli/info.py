"""``bpcore info``: what is installed, what is in use, and why."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
from typing import Any

import numpy as np

import bpcore
from bpcore import __version__
from bpcore._dispatch import available_backends, cpu_features, default_threads, reason


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    description = "Say which version and backend are in use, and why."
    parser: argparse.ArgumentParser = commands.add_parser(
        "info", help="say which version and backend are in use", description=description
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`bpcore.cli.main` for what it returns and how errors end."""
    machine = f"{platform.system()} {platform.machine()}"
    lines = {
        "bpcore": __version__,
        "backend": f"{bpcore.backend} ({reason})",
        "available": ", ".join(available_backends()),
        "CPU features": " ".join(cpu_features()) or "none that matters here",
        "threads": str(default_threads()),
        "NumPy": np.__version__,
        "Python": f"{platform.python_implementation()} {platform.python_version()}, {machine}",
        "safetensors": _version("safetensors"),
        "tqdm": _version("tqdm"),
    }
    for label, value in lines.items():
        print(f"{label:<14} {value}")
    return 0


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
