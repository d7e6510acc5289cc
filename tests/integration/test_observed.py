"""What is seen of one upload from outside: one trace through both processes, figures, lines of JSON."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import httpx
import pytest
from api_process import ApiProcess
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from worker_process import StartWorker, finished

from inversion_worker.client import JobClient
from inversion_worker.contract import JobOptions
from inversion_worker.settings import WorkerSettings

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


class Collector:
    """An OTLP endpoint that keeps every span with the name of its service."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
                for resource in request.resource_spans:
                    (service,) = [
                        each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
                    ]
                    collector.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Silence."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


async def test_one_upload_is_one_trace_and_json_lines_share_its_ids(
    settings: WorkerSettings,
    client: JobClient,
    start_worker: StartWorker,
    collector: Collector,
    photo: bytes,
    tmp_path: Path,
) -> None:
    env = {
        "INVERSION_REDIS_URL": settings.redis_url,
        "INVERSION_ARTIFACTS_URL": settings.artifacts_url,
        "INVERSION_LOG_FORMAT": "json",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    api = ApiProcess(env, tmp_path / "api.log")
    try:
        worker = start_worker(**env)
        api.wait_ready()
        trace = "0af7651916cd43dd8448eb211c80319c"
        headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Request-ID": "editor-7"}
        answer = httpx.post(f"{api.url}/v1/inversions", files={"image": photo}, data={"steps": "3"}, headers=headers)
        job_id = answer.json()["id"]
        assert trace not in answer.text
        assert "editor-7" not in answer.text
        await finished(client, job_id)
        names = {
            ("inversion-app", "POST /v1/inversions"),
            ("inversion-worker", "inversion"),
            ("inversion-worker", "finish"),
        }
        with anyio.fail_after(20):
            while not names <= {(service, span.name) for service, span in collector.spans}:
                await anyio.sleep(0.05)
    finally:
        api.kill()
    by_name = {span.name: span for _, span in collector.spans if span.trace_id.hex() == trace}
    assert {"POST /v1/inversions", "inversion", "prepare", "finish"} <= set(by_name)
    assert by_name["prepare"].parent_span_id == by_name["inversion"].span_id
    assert by_name["POST /v1/inversions"].parent_span_id.hex() == "b7ad6b7169203331"
    attributes = {each.key: each.value for each in by_name["inversion"].attributes}
    assert attributes["inversion.id"].string_value == job_id

    lines = [json.loads(line) for line in worker.said.splitlines()]
    about = [line for line in lines if line.get("job_id") == job_id]
    assert about
    assert all(line["request_id"] == "editor-7" for line in about)
    assert [line for line in map(json.loads, api.said.splitlines()) if line.get("request_id") == "editor-7"]


async def test_figures_of_what_has_been_done(
    client: JobClient, start_worker: StartWorker, photo: bytes, plain_photo: bytes
) -> None:
    waiting = await client.submit(photo, JobOptions(steps=4, frame_every=2))
    await anyio.sleep(0.2)
    figures = await client.figures()
    assert (figures.queued, figures.running, figures.workers) == (1, 0, [])
    assert figures.oldest_queued_s >= 0.2
    start_worker()
    await finished(client, waiting.id)
    await finished(client, (await client.submit(plain_photo, JobOptions(steps=1))).id)
    with anyio.fail_after(20):
        while not (figures := await client.figures()).workers or sum(figures.workers[0].steps_by_bucket) < 5:
            await anyio.sleep(0.1)
    assert figures.totals == {"submitted": 2, "succeeded": 1, "failed": 1, "failed:/problems/no-face-found": 1}
    (worker,) = figures.workers
    assert (worker.frames, sum(worker.steps_by_bucket), worker.running) == (3, 5, 0)
    assert worker.step_seconds >= 0.04
    assert worker.process_memory_bytes is not None
    assert (figures.oldest_queued_s, figures.queued) == (0, 0)
