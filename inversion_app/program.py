"""The HTTP service as a program: uvicorn and its options, with connections of our own."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from uvicorn.main import main as uvicorn

from inversion_app.connections import backlog, soft_limit


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; `argv` are options of uvicorn, such as --host, --port and --ssl-certfile."""
    given = sys.argv[1:] if argv is None else argv
    return int(uvicorn(args=arguments(given), prog_name="python -m inversion_app"))


def arguments(given: Sequence[str]) -> list[str]:
    """uvicorn's command line for this service; what is `given` comes last and wins."""
    ours = ["--factory", "--http", "inversion_app.connections:from_settings", "--ws", "none"]
    return ["inversion_app.main:create_app", *ours, "--backlog", str(backlog(soft_limit())), *given]
