"""A real inversion-serve for tests, and a look at its processes."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children_of(pid: int) -> set[int]:
    """All descendants of a process."""
    found: set[int] = set()
    for task in Path("/proc").glob(f"{pid}/task/*/children"):
        with contextlib.suppress(OSError):
            direct = {int(each) for each in task.read_text().split()}
            found |= direct.union(*(children_of(each) for each in direct))
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that still run."""
    running = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                running.add(pid)
    return running


def wait_gone(pids: set[int], timeout_s: float = 30.0) -> set[str]:
    """What is left of them after at most that time: number, command and state of each."""
    deadline = time.monotonic() + timeout_s
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    return {_describe(pid) for pid in alive(pids)}


def _describe(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        state = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("State")]
    except OSError:
        return f"{pid} (gone by now)"
    return f"{pid} {command} {state}"


@contextmanager
def service(folder: Path, port: int, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A running inversion-serve; whatever the test left of it is killed.

    It leaves its note for our client in `folder` as well: run that with the same XDG_STATE_HOME.
    """
    ours = ("INVERSION_REDIS_URL", "INVERSION_ARTIFACTS_URL", "INVERSION_AUTH")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    env |= {"XDG_STATE_HOME": str(folder)} | settings
    command = [sys.executable, "-m", "inversion_app.serve", "--port", str(port), "--state-dir", str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What the process says up to the line with `text`. Raises AssertionError where it ends before."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"{text!r} was never said:\n{said}")


def status_of(port: int, path: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
