"""The client over a real socket that is cut in the middle of the event stream, again and again."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal
from app_fakes import picture_bytes
from app_service import Service
from broken_line import CuttingProxy, listening

from inversion_client import AsyncInversionClient, Event, InversionClient, Retries

pytestmark = pytest.mark.unit

JAVASCRIPT = (Path(__file__).parents[3] / "docs" / "javascript.md").read_text()
FRAMES = 150
CUTS = 25
HEAD_BYTES = 650
"""About as long as the head of an answer: some cuts fall into it, most into the events."""
PATIENT = Retries(times=10, first_s=0.001, longest_s=0.01)


@pytest.fixture
def proxy(portal: BlockingPortal, service: Service) -> Iterator[CuttingProxy]:
    lengths = random.Random(7)
    with listening(portal, service.app) as port:
        proxy = CuttingProxy(port, [HEAD_BYTES + lengths.randrange(-150, 1500) for _ in range(CUTS)])
        yield proxy
        proxy.close()


def work(service: Service, job_id: str) -> threading.Thread:
    """A worker that writes frames while somebody listens."""

    def run() -> None:
        service.jobs.start(job_id)
        for step in range(FRAMES):
            service.jobs.step(job_id, step, 1 / (step + 1))
            time.sleep(0.002)
        service.jobs.succeed(job_id)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def check(events: list[Event], proxy: CuttingProxy) -> None:
    """All of them, once, in order, although every cut was used up."""
    assert proxy.cuts == []
    assert [event.id for event in events] == [f"{number}-0" for number in range(1, FRAMES + 4)]
    assert [event.step for event in events if event.kind == "frame"] == list(range(FRAMES))
    assert [event.kind for event in events if event.kind != "frame"] == ["queued", "started", "done"]


def test_no_event_is_lost_or_doubled(service: Service, proxy: CuttingProxy) -> None:
    job_id = service.submitted()
    with InversionClient(f"http://127.0.0.1:{proxy.port}", retries=PATIENT) as client:
        working = work(service, job_id)
        check(list(client.events(job_id)), proxy)
        working.join()
        assert proxy.connections > CUTS


def test_nor_for_the_asynchronous_client(portal: BlockingPortal, service: Service, proxy: CuttingProxy) -> None:
    job_id = service.submitted()

    async def listen() -> list[Event]:
        async with AsyncInversionClient(f"http://127.0.0.1:{proxy.port}", retries=PATIENT) as client:
            return [event async for event in client.events(job_id)]

    working = work(service, job_id)
    check(portal.call(listen), proxy)
    working.join()


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_nor_for_the_javascript_of_the_docs(service: Service, proxy: CuttingProxy, tmp_path: Path) -> None:
    (script,) = re.findall(r"```js\n(.*?)```", JAVASCRIPT, re.DOTALL)
    script = script.replace("127.0.0.1:8000", f"127.0.0.1:{proxy.port}")
    assert "1000)" in script
    (tmp_path / "invert.mjs").write_text(script.replace("1000)", "10)"))  # between two connections
    (tmp_path / "face.jpg").write_bytes(picture_bytes("JPEG"))
    proxy.cuts = [4000, 900, 1500, 2000]
    command = ["node", "invert.mjs"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not service.jobs.records:
            time.sleep(0.01)
        working = work(service, next(iter(service.jobs.records)))
        said, complaints = process.communicate(timeout=60)
        working.join()
    assert process.returncode == 0, complaints
    assert proxy.cuts == []
    lines = [line.split() for line in said.splitlines()]
    assert [int(line[1]) for line in lines if line[0] == "frame"] == list(range(FRAMES))
    assert [line[0] for line in lines if line[0] != "frame"] == ["queued", "started", "done", "succeeded"]


def test_leaving_a_loop_early_ends_the_connection(service: Service, proxy: CuttingProxy) -> None:
    """Otherwise every listener that has seen enough would hold a connection."""
    job_id = service.submitted()
    proxy.cuts.clear()
    with InversionClient(f"http://127.0.0.1:{proxy.port}", retries=PATIENT) as client:
        for event in client.events(job_id):
            assert event.kind == "queued"
            break
        deadline_s = time.monotonic() + 10
        while proxy.open_connections and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert (proxy.connections, proxy.open_connections) == (1, 0)


def test_submitting_when_answers_are_cut_off(service: Service, proxy: CuttingProxy) -> None:
    """The same photo on every connection makes one inversion, whatever was lost."""
    proxy.cuts = [1, 30, 200]
    with InversionClient(f"http://127.0.0.1:{proxy.port}", retries=PATIENT) as client:
        inversion = client.submit(picture_bytes(), steps=5)
    assert proxy.connections == 4
    assert list(service.jobs.records) == [inversion.id]
