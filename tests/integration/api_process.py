"""A real API process, and requests to it."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import httpx

PATIENCE_S = 60.0


def _limit_descriptors(number: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


class ApiProcess:
    """`python -m inversion_app` on a port of its own, open where nothing else is said; what it says is in `log`."""

    def __init__(self, env: Mapping[str, object], log: Path, descriptors: int | None = None) -> None:
        """`descriptors` is how many files and sockets it may have open; None leaves that as it is."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        command = ["inversion_app", "--port", str(self.port), "--log-level", "warning"]
        variables = os.environ | {"INVERSION_AUTH": "off"} | {name: str(value) for name, value in env.items()}
        with open(log, "ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=variables,
                stdout=out,
                stderr=out,
                preexec_fn=None if descriptors is None else partial(_limit_descriptors, descriptors),
            )

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
