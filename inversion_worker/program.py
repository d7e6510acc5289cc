"""A worker process, told everything by INVERSION_ variables (see settings.py)."""

from __future__ import annotations

import argparse
import sys

import inversion_core.process  # noqa: F401  before torch: see there
from inversion_worker.bootstrap import run
from inversion_worker.core_backend import load
from inversion_worker.settings import WorkerSettings


def settings(arguments: list[str]) -> WorkerSettings:
    """The settings of the environment, and what the command line says otherwise."""
    parser = argparse.ArgumentParser(prog="python -m inversion_worker", description=__doc__)
    parser.add_argument(
        "--concurrency", type=int, metavar="SLOTS",
        help="jobs at the same time, as INVERSION_SLOTS (default: what memory and CPU threads allow)",
    )  # fmt: skip
    slots = parser.parse_args(arguments).concurrency
    return WorkerSettings() if slots is None else WorkerSettings(slots=slots)


def main() -> int:
    """Work until SIGTERM or SIGINT; the exit status."""
    return run(settings(sys.argv[1:]), load)
