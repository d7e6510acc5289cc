"""`python -m inversion_app`: the HTTP service. It takes uvicorn's options: --host, --port, --ssl-certfile, ..."""

from __future__ import annotations

import sys

from uvicorn.main import main as uvicorn

from inversion_app.connections import backlog, soft_limit


def arguments(given: list[str]) -> list[str]:
    """uvicorn's command line for this service; what is `given` comes last and wins."""
    ours = ["--factory", "--http", "inversion_app.connections:from_settings", "--ws", "none"]
    return ["inversion_app.main:create_app", *ours, "--backlog", str(backlog(soft_limit())), *given]


if __name__ == "__main__":
    uvicorn(args=arguments(sys.argv[1:]), prog_name="python -m inversion_app")
