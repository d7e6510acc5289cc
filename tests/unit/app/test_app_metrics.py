"""What machines and people learn of a running service: /metrics, JSON lines, request ids."""

from __future__ import annotations

import io
import json
import logging
import uuid

import pytest
from anyio.from_thread import BlockingPortal
from app_fakes import FakeJobClient, picture_bytes
from app_keyring import Ring, bearer, stores_of
from app_service import Service, running
from prometheus_client.parser import text_string_to_metric_families

from inversion_app.keys import Scope
from inversion_app.settings import AppSettings
from inversion_worker.client import Figures, logs
from inversion_worker.contract import STEP_BUCKETS_S, WorkerFigures

pytestmark = pytest.mark.unit

WORKER = WorkerFigures(
    worker="w1",
    device="cuda:0",
    slots=4,
    running=3,
    frames=21,
    step_seconds=12.5,
    steps_by_bucket=[*range(len(STEP_BUCKETS_S)), 2],
    answers={"look": (7, 1.25)},
    process_memory_bytes=1000,
    device_memory_bytes=2000,
)
FIGURES = Figures(
    queued=5,
    running=3,
    oldest_queued_s=61.5,
    webhooks=2,
    totals={"submitted": 20, "succeeded": 9, "failed": 2, "failed:/problems/no-face-found": 2},
    workers=[WORKER],
)


def samples(text: str) -> dict[tuple[str, str], float]:
    """Value by name and labels."""
    return {
        (sample.name, ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class TestMetrics:
    def test_jobs_queue_and_workers(self, service: Service) -> None:
        service.jobs.counted = FIGURES
        answer = service.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        found = samples(answer.text)
        own = "device=cuda:0,"
        assert found["inversion_answer_seconds_count", "device=cuda:0,kind=look,worker=w1"] == 7
        assert found["inversion_answer_seconds_sum", "device=cuda:0,kind=look,worker=w1"] == 1.25
        expected = {
            ("inversion_jobs", "state=queued"): 5,
            ("inversion_jobs", "state=running"): 3,
            ("inversion_jobs_submitted_total", ""): 20,
            ("inversion_jobs_ended_total", "outcome=submitted"): None,
            ("inversion_jobs_ended_total", "outcome=succeeded"): 9,
            ("inversion_jobs_ended_total", "outcome=canceled"): 0,
            ("inversion_job_errors_total", "type=no-face-found"): 2,
            ("inversion_queue_depth", ""): 5,
            ("inversion_queue_oldest_seconds", ""): 61.5,
            ("inversion_webhooks_waiting", ""): 2,
            ("inversion_worker_slots", f"{own}worker=w1"): 4,
            ("inversion_worker_batch_fill", f"{own}worker=w1"): 0.75,
            ("inversion_frames_total", f"{own}worker=w1"): 21,
            ("inversion_worker_memory_bytes", f"{own}of=process,worker=w1"): 1000,
            ("inversion_worker_memory_bytes", f"{own}of=device,worker=w1"): 2000,
            ("inversion_step_seconds_count", f"{own}worker=w1"): sum(WORKER.steps_by_bucket),
            ("inversion_step_seconds_sum", f"{own}worker=w1"): 12.5,
            ("inversion_step_seconds_bucket", f"{own}le=0.02,worker=w1"): 3,
        }
        assert {name: found.get(name) for name in expected} == expected

    def test_requests_by_route_and_never_by_address(self, service: Service) -> None:
        job_id = service.submitted()
        for path in (f"/v1/inversions/{job_id}", "/v1/inversions/another", f"/nowhere/{job_id}"):
            service.get(path)
        service.request("BREW", "/v1/packs")
        text = service.get("/metrics").text
        found = samples(text)
        route = "route=/v1/inversions/{inversion_id}"
        assert found["inversion_http_requests_total", f"method=GET,{route},status=200"] == 1
        assert found["inversion_http_requests_total", f"method=GET,{route},status=404"] == 1
        assert found["inversion_http_request_seconds_count", f"method=GET,{route}"] == 2
        assert job_id not in text
        assert "BREW" not in text

    def test_for_an_admin_alone_where_keys_are_asked_for(self, portal: BlockingPortal) -> None:
        ring = Ring()
        with running(portal, AppSettings(auth="on"), FakeJobClient(), stores_of(ring)) as service:
            assert service.get("/metrics", headers=bearer(ring.make("acme"))).status_code == 403
            assert service.get("/metrics", headers=bearer(ring.make("ops", Scope.ADMIN))).status_code == 200


class TestLogs:
    def lines(self, log: logging.Logger, form: logs.LogFormat) -> tuple[logging.Handler, io.StringIO]:
        handler, written = logs.handler(form, "%(levelname)s %(message)s"), io.StringIO()
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(written)
        log.addHandler(handler)
        log.setLevel("INFO")
        log.propagate = False
        return handler, written

    def test_json_says_what_a_line_is_about(self) -> None:
        log = logging.getLogger(f"test.{uuid.uuid4().hex}")
        _, written = self.lines(log, "json")
        with logs.about(request_id="r1"), logs.about(job_id="j1", nothing=""):
            log.info("hello %s", "there", extra={"took_ms": 3.5})
        log.warning("alone")
        first, second = [json.loads(line) for line in written.getvalue().splitlines()]
        assert first.pop("time").startswith("20")
        assert first == {
            "level": "INFO", "logger": log.name, "message": "hello there", "request_id": "r1", "job_id": "j1", "took_ms": 3.5,
        }  # fmt: skip
        assert "request_id" not in second

    def test_an_error_is_one_line(self) -> None:
        log = logging.getLogger(f"test.{uuid.uuid4().hex}")
        _, written = self.lines(log, "json")
        try:
            raise RuntimeError("inside")
        except RuntimeError:
            log.exception("failed")
        (line,) = written.getvalue().splitlines()
        assert "RuntimeError: inside" in json.loads(line)["error"]

    def test_text_stays_text(self) -> None:
        log = logging.getLogger(f"test.{uuid.uuid4().hex}")
        _, written = self.lines(log, "text")
        with logs.about(request_id="r1"):
            log.info("hello")
        assert written.getvalue() == "INFO hello\n"

    def test_a_request_says_all_it_knows(self, service: Service) -> None:
        log = logging.getLogger("inversion_app.middleware")
        handler, written = self.lines(log, "json")
        try:
            answer = service.upload(headers={"X-Request-ID": "editor-7"})
            job_id = answer.json()["id"]
            service.get(f"/v1/inversions/{job_id}")
            files = [("image", ("a", picture_bytes()))]
            batch_id = service.post("/v1/batches", files=files).json()["id"]
        finally:
            log.removeHandler(handler)
            log.propagate = True
        submit, look, batch = [json.loads(line) for line in written.getvalue().splitlines()]
        assert (submit["job_id"], batch["batch_id"]) == (job_id, batch_id)
        assert (submit["request_id"], submit["status"], submit["method"]) == ("editor-7", 202, "POST")
        assert (look["job_id"], look["path"]) == (job_id, f"/v1/inversions/{job_id}")
        assert look["request_id"] != "editor-7"
        assert "face.jpg" not in written.getvalue()
