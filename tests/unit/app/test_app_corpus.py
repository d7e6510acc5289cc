"""The corpus of strangers' pictures through the API: how each is answered, how soon, and with how much memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from anyio.from_thread import BlockingPortal
from app_fakes import FakeJobClient
from app_service import Service, running
from corpus import broken, sound

from inversion_app.errors import KINDS
from inversion_app.settings import AppSettings

pytestmark = pytest.mark.unit

MOST_S = 2.0
MOST_MORE_BYTES = 300 * 2**20
LINUX = Path("/proc/self/clear_refs").exists()


@pytest.fixture
def roomy(portal: BlockingPortal) -> Iterator[Service]:
    with running(portal, AppSettings(), FakeJobClient()) as service:
        yield service


def test_each_broken_one_is_refused_soon_and_cheaply(roomy: Service) -> None:
    roomy.upload(sound()[0].data)  # the decoding process is there, with all of its imports
    memory = Memory()
    for one in broken():
        answer, took_s = timed(roomy, one.data)
        if took_s > MOST_S:  # another program may have had the processor
            answer, took_s = timed(roomy, one.data)
        assert 400 <= answer.status_code < 500, (one.name, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert KINDS[answer.json()["type"].removeprefix("/problems/")].status == answer.status_code
        assert took_s < MOST_S, (one.name, took_s)
    assert not roomy.jobs.files
    if LINUX:
        assert memory.more_bytes() < MOST_MORE_BYTES  # more than all of them together is more than each


def timed(service: Service, photo: bytes) -> tuple[httpx.Response, float]:
    service.jobs.files.clear()
    began = time.monotonic()
    answer = service.upload(photo)
    return answer, time.monotonic() - began


def test_each_sound_one_is_accepted(roomy: Service) -> None:
    for one in sound():
        assert roomy.upload(one.data).status_code == 202, one.name


class Memory:
    """The most memory of this process and its children since this object was made (Linux)."""

    def __init__(self) -> None:
        self._before = {}
        if LINUX:
            for pid in pids():
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): the peak begins anew
            self._before = {pid: peak_bytes(pid) for pid in pids()}

    def more_bytes(self) -> int:
        return max(peak_bytes(pid) - self._before.get(pid, 0) for pid in pids())


def pids() -> list[int]:
    tasks = Path("/proc/self/task").iterdir()
    children = {int(pid) for task in tasks for pid in (task / "children").read_text().split()}
    return [os.getpid(), *sorted(children)]


def peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
