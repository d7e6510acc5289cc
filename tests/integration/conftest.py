"""A real Valkey, real worker processes and real files, all of their own for each test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from worker.client import JobClient
from worker.settings import WorkerSettings
from worker.valkey import EmbeddedValkey

TESTS = Path(__file__).parent.parent
FAKE_WORKER = [str(TESTS / "fake_worker.py")]
REAL_WORKER = ["-m", "worker"]
START_TIMEOUT_S = 60.0


class WorkerProcess:
    """One worker subprocess; what it says is in `log`."""

    def __init__(self, arguments: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        with open(log, "ab") as out:
            self._process = subprocess.Popen([sys.executable, *arguments], env=env, stdout=out, stderr=out)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """kill -9: it gets no chance to say a word."""
        self._process.kill()
        self._process.wait()

    def stop(self, timeout_s: float = 20.0) -> int:
        """SIGTERM; the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout_s)

    def wait_ready(self) -> None:
        """Until it takes jobs."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while "ready worker=" not in self.log.read_text():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)


StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked `anyio` run in asyncio, as the service does."""
    return "asyncio"


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey server that only this test knows."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def artifacts_dir(tmp_path: Path) -> Path:
    """The folder of the artifact store; one folder in it for each job."""
    path = tmp_path / "artifacts"
    path.mkdir()
    return path


@pytest.fixture
def settings(valkey: EmbeddedValkey, artifacts_dir: Path) -> WorkerSettings:
    """Settings for that server and folder, everything else as shipped."""
    return WorkerSettings(redis_url=valkey.url, artifacts_url=f"file://{artifacts_dir}")


@pytest.fixture
async def client(settings: WorkerSettings, anyio_backend: str) -> AsyncIterator[JobClient]:
    """A client of that server and folder."""
    client = JobClient.from_settings(settings)
    yield client
    await client.close()


@pytest.fixture
def start_worker(settings: WorkerSettings, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts worker processes; `start_worker(FAKE_STEP_S=0.05)` sets variables, `real=True` runs the library.

    Whatever still runs when the test ends is stopped.
    """
    started: list[WorkerProcess] = []

    def start(*, real: bool = False, ready: bool = True, **env: object) -> WorkerProcess:
        place = {"INVERSION_REDIS_URL": settings.redis_url, "INVERSION_ARTIFACTS_URL": settings.artifacts_url}
        variables = {**os.environ, **place, **{name: str(value) for name, value in env.items()}}
        log = tmp_path / f"worker-{len(started)}.log"
        started.append(WorkerProcess(REAL_WORKER if real else FAKE_WORKER, variables, log))
        if ready:
            started[-1].wait_ready()
        return started[-1]

    yield start
    for worker in started:
        worker.stop()
