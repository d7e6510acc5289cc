"""The event stream: order, data, replay, keep-alive, and its end."""

from __future__ import annotations

import json
from concurrent.futures import Future
from typing import Any

import pytest
from app_service import Service
from redis.exceptions import ConnectionError as RedisConnectionError

URL = "/v1/inversions"


def parse(text: str) -> list[tuple[str, str, Any]]:
    """(id, event, data) of each event in a stream; comments are left out."""
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        lines = [line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            fields = dict(lines)
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


def run(service: Service, job_id: str) -> None:
    """All that a worker would say of a short inversion."""
    service.jobs.start(job_id)
    service.jobs.step(job_id, 0, 0.5)
    service.jobs.step(job_id, 5, 0.25)
    service.jobs.succeed(job_id)


def test_everything_in_order_with_addresses(service: Service) -> None:
    job_id = service.submitted()
    run(service, job_id)
    answer = service.get(f"{URL}/{job_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert parse(answer.text) == [
        ("1-0", "queued", {}),
        ("2-0", "started", {"attempt": 1, "steps": 100, "aligned": f"{URL}/{job_id}/aligned"}),
        ("3-0", "frame", {"step": 0, "loss": 0.5, "url": f"{URL}/{job_id}/frames/0"}),
        ("4-0", "frame", {"step": 5, "loss": 0.25, "url": f"{URL}/{job_id}/frames/5"}),
        ("5-0", "done", {"step": 5, "loss": 0.25, "links": service.get(f"{URL}/{job_id}").json()["links"]}),
    ]


def test_no_key_of_the_store_is_told(service: Service) -> None:
    job_id = service.submitted()
    run(service, job_id)
    assert "_key" not in service.get(f"{URL}/{job_id}/events").text


@pytest.mark.parametrize(("last", "first"), [("0", "1-0"), ("3-0", "4-0"), ("4", "5-0")])
def test_replay_after_the_last_event_seen(service: Service, last: str, first: str) -> None:
    job_id = service.submitted()
    run(service, job_id)
    answer = service.get(f"{URL}/{job_id}/events", headers={"Last-Event-ID": last})
    assert parse(answer.text)[0][0] == first


def test_nothing_is_left_to_say(service: Service) -> None:
    job_id = service.submitted()
    run(service, job_id)
    answer = service.get(f"{URL}/{job_id}/events", headers={"Last-Event-ID": "5-0"})
    assert (answer.status_code, answer.content) == (204, b"")  # with a 200 an EventSource would connect for ever


@pytest.mark.parametrize("wrong", ["x", "-1", "1-", "1-2-3", "$", "9" * 40])
def test_wrong_last_event_id(service: Service, wrong: str) -> None:
    answer = service.get(f"{URL}/{service.submitted()}/events", headers={"Last-Event-ID": wrong})
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/option-invalid"


def test_follows_a_running_inversion_and_keeps_the_line_open(service: Service) -> None:
    """The stream is opened first; what happens afterwards arrives, with comments in the silence."""
    job_id = service.submitted()
    stream: Future[Any] = service.start(f"{URL}/{job_id}/events")
    service.pause(0.2)  # four keep-alive intervals
    run(service, job_id)
    text = stream.result(timeout=10).text
    assert [kind for _, kind, _ in parse(text)] == ["queued", "started", "frame", "frame", "done"]
    assert text.count(": ping") >= 2


def test_ends_when_the_inversion_is_deleted(service: Service) -> None:
    job_id = service.submitted()
    stream: Future[Any] = service.start(f"{URL}/{job_id}/events")
    service.pause(0.05)
    assert service.request("DELETE", f"{URL}/{job_id}").status_code == 204
    assert [kind for _, kind, _ in parse(stream.result(timeout=10).text)] == ["queued", "deleted"]


def test_an_outage_ends_the_stream_without_noise(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    job_id = service.submitted()
    stream: Future[Any] = service.start(f"{URL}/{job_id}/events")
    service.pause(0.05)
    service.jobs.outage = RedisConnectionError("gone")
    assert [kind for _, kind, _ in parse(stream.result(timeout=10).text)] == ["queued"]
    assert not [record for record in caplog.records if record.exc_info]
