"""The client's progress bar: what a terminal shows of one that is waited for."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from anyio.from_thread import BlockingPortal
from app_clients import BlockingLine, Line
from app_fakes import picture_bytes
from app_service import Service

import inversion_client as ic
from inversion_client.bar import ProgressBar

pytestmark = pytest.mark.unit


class Terminal(io.StringIO):
    """A file that is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def client(portal: BlockingPortal, service: Service) -> Iterator[ic.InversionClient]:
    with ic.InversionClient(transport=BlockingLine(portal, Line(service.app))) as client:
        yield client


def test_an_inversion(client: ic.InversionClient, service: Service) -> None:
    inversion = client.submit(picture_bytes(), steps=10)
    shown = Terminal()
    bar = ProgressBar("face", shown)

    def on_progress(now: ic.Inversion) -> None:
        bar(now)
        if now.step is None:
            service.jobs.start(now.id)
            service.jobs.step(now.id, 0, 0.5)
        elif now.step < 10:
            service.jobs.step(now.id, 10, 0.25)
        else:
            service.jobs.succeed(now.id)

    client.wait(inversion, on_progress=on_progress)
    first, *_, last = shown.getvalue().strip().split("\r")
    assert first.startswith("face:   0%")
    assert " 0/10 " in first
    assert "100%" in last
    assert " 10/10 " in last
    assert "loss=0.2500" in last


def test_a_batch(client: ic.InversionClient, service: Service) -> None:
    batch = client.submit_batch([picture_bytes(), picture_bytes()], steps=1)
    first, second = (each.id for each in batch.inversions if each is not None)
    service.jobs.run(first)
    service.jobs.fail(second)
    shown = Terminal()
    client.wait_batch(batch, on_progress=ProgressBar(file=shown))
    assert batch.id[:8] in shown.getvalue()
    assert " 2/2 " in shown.getvalue()


def test_a_file_gets_none(client: ic.InversionClient, service: Service) -> None:
    inversion = client.submit(picture_bytes())
    service.jobs.run(inversion.id)
    shown = io.StringIO()
    client.wait(inversion, on_progress=ProgressBar(file=shown))
    assert shown.getvalue() == ""
