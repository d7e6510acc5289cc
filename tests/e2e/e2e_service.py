"""A port of one's own, and waiting for the service that listens on it."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.error
import urllib.request

PATIENCE_S = 60


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_ready(url: str, process: subprocess.Popen[bytes], patience_s: float = PATIENCE_S) -> None:
    """Until /readyz says yes; fails at once when the process ends."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except urllib.error.HTTPError as error:
            reason = error.read().decode()
            error.close()
        except OSError as error:
            reason = str(error)
        assert process.poll() is None, "the service has ended; see what it said"
        assert time.monotonic() < deadline, reason
        time.sleep(0.1)
