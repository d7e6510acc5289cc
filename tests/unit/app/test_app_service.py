"""What holds for every answer: problems, headers, outages; health, packs, pages, the sweep."""

from __future__ import annotations

import json
import logging
import re

import pytest
from anyio.from_thread import BlockingPortal
from app_fakes import WORKER, FakeJobClient, picture_bytes
from app_service import Service, running
from kombu.exceptions import OperationalError
from redis import exceptions as redis

from inversion_app.errors import KINDS
from inversion_app.settings import AppSettings
from inversion_worker import problems as worker_problems
from inversion_worker.client import StorageFull
from inversion_worker.contract import JobOptions, Problem

OUTSIDE = re.compile(r"""(?:src|href|url|action)\s*[=(:]\s*["']?\s*(?:https?:)?//""", re.IGNORECASE)


class TestHealth:
    def test_alive_whatever_else_is_down(self, service: Service) -> None:
        service.jobs.outage = redis.ConnectionError("gone")
        assert service.get("/livez").json() == {"status": "ok"}

    def test_ready(self, service: Service) -> None:
        assert service.get("/readyz").json() == {"status": "ready", "notes": []}

    def test_ready_and_something_to_know(self, service: Service) -> None:
        service.jobs.notes = ["Folders of other owners."]
        assert service.get("/readyz").json() == {"status": "ready", "notes": service.jobs.notes}

    @pytest.mark.parametrize("workers", [[], [WORKER.model_copy(update={"packs": []})]])
    def test_not_ready_without_a_loaded_pack(self, service: Service, workers: list[object]) -> None:
        service.jobs.announced = workers  # type: ignore[assignment]
        answer = service.get("/readyz")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/not-ready")
        assert answer.headers["retry-after"] == "3"

    def test_not_ready_without_redis(self, service: Service) -> None:
        service.jobs.outage = redis.ConnectionError("gone")
        assert service.get("/readyz").status_code == 503


class TestPacks:
    def test_each_once(self, service: Service) -> None:
        service.jobs.announced = [WORKER, WORKER.model_copy(update={"id": "w2"})]
        body = service.get("/v1/packs").json()
        assert ([pack["name"] for pack in body["packs"]], body["workers"]) == (["faces-64", "small"], 2)

    def test_none(self, service: Service) -> None:
        service.jobs.announced = []
        assert service.get("/v1/packs").json() == {"packs": [], "workers": 0}


class TestProblems:
    @pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
    def test_no_such_method(self, service: Service, method: str) -> None:
        answer = service.request(method, "/v1/batches")
        assert (answer.status_code, answer.json()["type"]) == (405, "/problems/method-not-allowed")
        assert answer.headers["allow"] == "POST"

    @pytest.mark.parametrize("path", ["/nowhere", "/static/nothing.js", "/static/../main.py", "/docs/assets/x", "/v1"])
    def test_no_such_address(self, service: Service, path: str) -> None:
        answer = service.get(path)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
        assert answer.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize(
        "outage",
        [
            redis.ConnectionError("redis://secret@host"),
            redis.TimeoutError("late"),
            redis.OutOfMemoryError("full"),
            OperationalError("broker"),
            OSError("disk"),
        ],
    )
    def test_outages_are_503(self, service: Service, outage: Exception) -> None:
        job_id = service.submitted()
        service.jobs.outage = outage
        photo = {"image": ("a.png", picture_bytes())}
        for answer in (
            service.get(f"/v1/inversions/{job_id}"),
            service.post("/v1/inversions", files=photo),
            service.get("/v1/packs"),
        ):
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/service-unavailable")
            assert answer.headers["retry-after"] == "5"
            assert str(outage) not in answer.text

    def test_full_storage_is_507(self, service: Service) -> None:
        service.jobs.outage = StorageFull("no room")
        answer = service.get("/v1/packs")
        assert (answer.status_code, answer.json()["type"]) == (507, "/problems/storage-full")

    def test_our_own_faults_tell_nothing_but_a_request_id(
        self, service: Service, caplog: pytest.LogCaptureFixture
    ) -> None:
        service.jobs.outage = ZeroDivisionError("secret internals")
        answer = service.get("/v1/packs", headers={"X-Request-ID": "trace-7"})
        assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-request-id"] == "trace-7"
        assert "secret" not in answer.text
        logged = [record for record in caplog.records if record.exc_info and record.name == "inversion_app.middleware"]
        assert "trace-7" in logged[0].getMessage()

    def test_the_list(self, service: Service) -> None:
        body = service.get("/problems").json()
        assert [kind["type"] for kind in body["problems"]] == [f"/problems/{slug}" for slug in KINDS]
        page = service.get("/problems", headers={"Accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
        assert all(f'id="{slug}"' in page.text for slug in KINDS)

    @pytest.mark.parametrize("slug", KINDS)
    def test_each_type_is_an_address(self, service: Service, slug: str) -> None:
        assert service.get(f"/problems/{slug}").json()["title"] == KINDS[slug].title
        assert KINDS[slug].remedy in service.get(f"/problems/{slug}", headers={"Accept": "text/html"}).text.replace(
            "&#x27;", "'"
        )

    def test_unknown_type(self, service: Service) -> None:
        assert service.get("/problems/bad-luck").status_code == 404

    def test_what_a_worker_says_is_in_the_list(self) -> None:
        said = [value for value in vars(worker_problems).values() if isinstance(value, Problem)]
        assert said
        for problem in said:
            kind = KINDS[problem.type.removeprefix("/problems/")]
            assert kind.status == problem.status


class TestHeaders:
    @pytest.mark.parametrize(
        "path", ["/", "/docs", "/livez", "/nowhere", "/openapi.json", "/static/app.js", "/problems"]
    )
    def test_browsers_are_kept_strict(self, service: Service, path: str) -> None:
        headers = service.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-request-id"]

    def test_no_cache_keeps_what_is_personal(self, service: Service) -> None:
        job_id = service.submitted()
        service.jobs.start(job_id)
        service.jobs.step(job_id, 0, 0.5)
        service.jobs.succeed(job_id)
        for below in ("", "/frames", "/frames/0", "/image", "/aligned", "/latents", "/events", "/frames/3"):
            assert service.get(f"/v1/inversions/{job_id}{below}").headers["cache-control"] == "private, no-store"

    @pytest.mark.parametrize("given", ["a b", "x" * 65, "<script>", "new\tline", ""])
    def test_a_request_id_that_would_spoil_a_log_is_replaced(self, service: Service, given: str) -> None:
        answered = service.get("/livez", headers={"X-Request-ID": given}).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{32}", answered)

    def test_logs_hold_a_line_for_each_request_and_nothing_of_the_photo(
        self, service: Service, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            answer = service.upload(b"\xff\xd8\xffphoto bytes", steps="3")
        assert answer.status_code == 422
        text = caplog.text
        assert f"request_id={answer.headers['x-request-id']} POST /v1/inversions 422" in text
        assert "photo bytes" not in text
        assert "face.jpg" not in text


class TestPages:
    @pytest.mark.parametrize("path", ["/", "/docs", "/problems"])
    def test_no_outside_address(self, service: Service, path: str) -> None:
        page = service.get(path, headers={"Accept": "text/html"}).text
        assert not OUTSIDE.search(page)
        for asset in re.findall(r'(?:src|href)="(/[^"#]+\.(?:js|css|svg))"', page):
            assert service.get(asset).status_code == 200, asset

    @pytest.mark.parametrize(
        "name", ["app.js", "api.js", "chart.js", "form.js", "key.js", "player.js", "style.css", "docs.js"]
    )
    def test_own_files_name_no_outside_address(self, service: Service, name: str) -> None:
        text = service.get(f"/static/{name}").text
        assert set(re.findall(r"https?://[^\"'\s)]+", text)) <= {"http://www.w3.org/2000/svg"}

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (86_400, "1 day"),
            (3 * 86_400, "3 days"),
            (5400, "90 minutes"),
            (3600, "1 hour"),
            (1, "1 second"),
            (0.2, "0 seconds"),
        ],
    )
    def test_says_how_long_photos_are_kept(self, portal: BlockingPortal, seconds: float, text: str) -> None:
        with running(portal, AppSettings(ttl_s=seconds), FakeJobClient()) as service:
            assert f"deleted {text} after the end," in service.get("/").text

    def test_icon(self, service: Service) -> None:
        assert service.get("/favicon.ico").headers["content-type"] == "image/svg+xml"


class TestOpenApi:
    def test_every_answer_to_a_mistake_is_a_problem_document(self, service: Service) -> None:
        document = service.get("/openapi.json").json()
        for path, operations in document["paths"].items():
            for operation in operations.values():
                for status, response in operation["responses"].items():
                    if int(status) >= 400:
                        assert list(response["content"]) == ["application/problem+json"], (path, status)

    def test_every_reference_exists(self, service: Service) -> None:
        document = service.get("/openapi.json").json()
        for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)):
            assert name in document["components"]["schemas"]

    def test_the_form_has_the_image_and_every_option(self, service: Service) -> None:
        operation = service.get("/openapi.json").json()["paths"]["/v1/inversions"]["post"]
        form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert list(form["properties"]) == [
            "image", "mask", "latents", "source", *JobOptions.model_fields, "metadata"
        ]  # fmt: skip
        assert "required" not in form, "`source` may be in the place of `image`"
        assert form["properties"]["start"]["enum"] == ["", "encoder", "mean", "random", "latents"]
        assert form["properties"]["pack"]["default"] == ""


class TestSweep:
    def test_again_and_again_and_an_outage_does_not_end_it(self, portal: BlockingPortal) -> None:
        jobs = FakeJobClient()
        jobs.outage = redis.ConnectionError("gone")
        with running(portal, AppSettings(sweep_every_s=0.01), jobs) as service:
            service.pause(0.1)
        assert jobs.sweeps > 2
        assert not jobs.closed  # who hands a client in keeps it
