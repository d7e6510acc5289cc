"""HEAD is answered as GET is, without the body."""

from __future__ import annotations

import logging

import pytest
from app_service import Service

pytestmark = pytest.mark.unit


def finished(service: Service) -> str:
    job_id = service.submitted()
    service.jobs.run(job_id)
    return f"/v1/inversions/{job_id}"


@pytest.mark.parametrize("path", ["", "/image", "/latents", "/events"])
def test_the_head_of_a_get(service: Service, path: str) -> None:
    url = finished(service) + path
    whole, head = service.get(url), service.request("HEAD", url)
    assert (head.status_code, head.content) == (200, b"")
    assert whole.content
    for name in ("content-type", "content-length", "etag", "cache-control"):
        assert head.headers.get(name) == whole.headers.get(name), name


def test_a_stream_ends_after_its_head(service: Service) -> None:
    url = f"/v1/inversions/{service.submitted()}/events"  # waits in the queue: its stream has no end
    answer = service.start(url, "HEAD").result(timeout=5)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(("url", "status"), [("/v1/inversions/nobody", 404), ("/v1/packs", 200), ("/", 200)])
def test_elsewhere(service: Service, url: str, status: int) -> None:
    head = service.request("HEAD", url)
    assert (head.status_code, head.content) == (status, b"")


def test_where_there_is_no_get(service: Service) -> None:
    head = service.request("HEAD", "/v1/batches")
    assert (head.status_code, head.content, head.headers["allow"]) == (405, b"", "POST")
    assert service.request("PUT", "/v1/packs").headers["allow"] == "GET, HEAD"


def test_the_log_says_what_came(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "inversion_app"):
        service.request("HEAD", "/v1/packs")
    assert any(" HEAD /v1/packs 200" in record.getMessage() for record in caplog.records)
