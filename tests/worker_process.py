"""A worker subprocess, and how tests follow the jobs that it runs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anyio

from inversion_worker.client import JobClient
from inversion_worker.contract import ArtifactKey, JobEvent, JobRecord, JobStatus

FAKE_WORKER = [str(Path(__file__).with_name("fake_worker.py"))]
REAL_WORKER = ["-m", "inversion_worker"]
PATIENCE_S = 60.0


class WorkerProcess:
    """One worker subprocess; what it says is in `log`."""

    def __init__(self, arguments: list[str], env: dict[str, str], log: Path) -> None:
        self._log = log
        with open(log, "ab") as out:
            self._process = subprocess.Popen([sys.executable, *arguments], env=env, stdout=out, stderr=out)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def said(self) -> str:
        """Its log until now."""
        return self._log.read_text()

    def kill(self) -> None:
        """kill -9: it gets no chance to say a word."""
        self._process.kill()
        self._process.wait()

    def stop(self, timeout_s: float = 20.0) -> int:
        """SIGTERM; the exit status."""
        self.send_stop()
        return self._process.wait(timeout_s)

    def send_stop(self) -> None:
        """SIGTERM, without waiting."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Until it ends by itself; the exit status."""
        return self._process.wait(timeout_s)

    def wait_ready(self) -> None:
        """Until it takes jobs."""
        deadline = time.monotonic() + PATIENCE_S
        while "ready worker=" not in self.said:
            assert self._process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)


StartWorker = Callable[..., WorkerProcess]
"""`start_worker(FAKE_STEP_S=0.05)` sets variables, `real=True` runs the library, `ready=False` does not wait, `shifted_days=2`
is wrong about the time."""


async def follow(client: JobClient, job_id: str) -> list[JobEvent]:
    """All events until the end."""
    with anyio.fail_after(PATIENCE_S):
        return [event async for _, event in client.events(job_id)]


async def record_of(client: JobClient, job_id: str) -> JobRecord:
    """The record, which must be there."""
    record = await client.get(job_id)
    assert record is not None
    return record


async def finished(client: JobClient, job_id: str) -> JobRecord:
    """The record when the job has ended."""
    await follow(client, job_id)
    return await record_of(client, job_id)


async def until(client: JobClient, job_id: str, holds: Callable[[JobRecord], bool]) -> JobRecord:
    """The record as soon as `holds` says so."""
    with anyio.fail_after(PATIENCE_S):
        while not holds(record := await record_of(client, job_id)):
            await anyio.sleep(0.02)
    return record


async def at_step(client: JobClient, job_id: str, step: int) -> JobRecord:
    """The record when the job has got that far."""
    return await until(client, job_id, lambda record: record.step is not None and record.step >= step)


async def read(client: JobClient, key: str) -> bytes:
    """Bytes that must be there."""
    data = await client.read(key)
    assert data is not None, key
    return data


async def result(client: JobClient, job_id: str) -> dict[str, object]:
    """All of a job's result that must not depend on what happened on the way."""
    record = await finished(client, job_id)
    assert record.status is JobStatus.SUCCEEDED, record
    keys = [ArtifactKey.frame(job_id, step) for step in record.frames]
    keys += [ArtifactKey.latents(job_id), ArtifactKey.image(job_id)]
    same = {"loss", "step", "best_step", "best_loss", "frames"}
    return {key.split("/", 1)[1]: await read(client, key) for key in keys} | record.model_dump(include=same)


def own_folder(artifacts_dir: Path) -> Path:
    """The folder of the only service that has used the store; one folder in it for each job."""
    (own,) = artifacts_dir.glob("inversion-*")
    return own


def stored_in(artifacts_dir: Path) -> list[str]:
    """The jobs that have a folder, and whatever else lies in the store that is no mark of an owner."""
    paths = [path for path in artifacts_dir.iterdir() if not path.name.startswith("inversion-")]
    paths += artifacts_dir.glob("inversion-*/*")
    return sorted(path.name for path in paths if path.name != "OWNER.txt")
