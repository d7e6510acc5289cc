"""A real API process, and requests to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

PATIENCE_S = 60.0


class ApiProcess:
    """uvicorn with the application, on a port of its own; what it says is in `log`."""

    def __init__(self, env: Mapping[str, object], log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        command = [
            "uvicorn",
            "inversion_app.main:create_app",
            "--factory",
            "--port",
            str(self.port),
            "--log-level",
            "warning",
        ]
        variables = os.environ | {name: str(value) for name, value in env.items()}
        with open(log, "ab") as out:
            self._process = subprocess.Popen([sys.executable, "-m", *command], env=variables, stdout=out, stderr=out)

    @property
    def said(self) -> str:
        """Its log until now."""
        return self._log.read_text()

    def wait_ready(self) -> None:
        """Until it takes requests."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                httpx.get(f"{self.url}/livez", timeout=5)
                return
            except httpx.TransportError:
                assert self._process.poll() is None, self.said
                assert time.monotonic() < deadline, self.said
                time.sleep(0.05)

    def kill(self) -> None:
        """kill -9: it gets no chance to say a word."""
        self._process.kill()
        self._process.wait()
