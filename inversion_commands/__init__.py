"""The installed programs: each says in one sentence which extra is missing, instead of ending in a traceback.

The standard library alone is imported here, because anything else may not be installed. The functions without
arguments are the entry points of pyproject.toml.
"""

from __future__ import annotations

import sys
from importlib import import_module

EXIT_NOT_INSTALLED = 2


def inversion() -> int:
    """`inversion`"""
    return start("inversion", "inversion_core.cli", "core")


def submit() -> int:
    """`inversion-submit`"""
    return start("inversion-submit", "inversion_client.command", "client")


def serve() -> int:
    """`inversion-serve`"""
    return start("inversion-serve", "inversion_app.serve", "app,worker,embedded")


def keys() -> int:
    """`inversion-keys`"""
    return start("inversion-keys", "inversion_app.keys_command", "app")


def api() -> int:
    """`python -m inversion_app`"""
    return start("python -m inversion_app", "inversion_app.program", "app")


def worker() -> int:
    """`python -m inversion_worker`"""
    return start("python -m inversion_worker", "inversion_worker.program", "worker")


def start(program: str, module: str, extras: str) -> int:
    """Call `main()` of the module and return its exit status; 2 where a package of the extras is not installed."""
    try:
        return int(import_module(module).main())  # some import what they need as late as they can
    except ModuleNotFoundError as error:
        if is_ours(error.name):
            raise
        print(f"{program} needs {error.name}. {remedy(extras)}", file=sys.stderr)
        return EXIT_NOT_INSTALLED


def remedy(extras: str) -> str:
    """What to do where packages of these extras (separated by commas) are missing."""
    return f"It is not installed: pip install 'stylegan-inversion[{extras}]'"


def is_ours(module: str | None) -> bool:
    """Whether a module that was not found is a part of our own packages: that is our mistake, not a missing extra."""
    package, _, part = (module or "").partition(".")
    return not package or (package.startswith("inversion_") and bool(part))
