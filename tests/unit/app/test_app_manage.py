"""List, retry, expiry and usage; and the further results: forms of the code, metrics, animation, strip, pasted."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from app_fakes import FACES
from app_service import Service
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load

from inversion_app.negotiation import chosen
from inversion_app.sheets import animation, evenly, strip
from inversion_worker.client import QueueFull
from inversion_worker.contract import ArtifactKey, JobStatus

URL = "/v1/inversions"


def slug(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return str(answer.json()["type"]).removeprefix("/problems/")


def finished(service: Service, **fields: str) -> str:
    job_id = service.submitted(**fields)
    service.jobs.run(job_id)
    return job_id


class TestList:
    def ids(self, service: Service, **query: Any) -> list[str]:
        answer = service.get(URL, params=query)
        assert answer.status_code == 200, answer.text
        return [inversion["id"] for inversion in answer.json()["inversions"]]

    def test_pages(self, service: Service) -> None:
        made = [service.submitted() for _ in range(5)]
        for number, job_id in enumerate(made):
            service.jobs.change(job_id, created_at=datetime(2026, 1, 1 + number, tzinfo=UTC))
        seen = []
        url: str | None = f"{URL}?limit=2"
        while url is not None:
            answer = service.get(url)
            body = answer.json()
            seen.append([inversion["id"] for inversion in body["inversions"]])
            url = body["next"]
            assert answer.headers.get("link") == (f'<{url}>; rel="next"' if url else None)
        assert seen == [[made[4], made[3]], [made[2], made[1]], [made[0]]]

    def test_the_next_page_keeps_the_filters(self, service: Service) -> None:
        for _ in range(3):
            service.submitted(pack="faces-64")
        after = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        query = {"status": "queued", "pack": "faces-64", "limit": 1, "created_after": after}
        next_ = service.get(URL, params=query).json()["next"]
        kept = httpx.URL(next_).params
        assert (kept["status"], kept["pack"], kept["limit"]) == ("queued", "faces-64", "1")
        assert datetime.fromisoformat(kept["created_after"]) == datetime.fromisoformat(after)
        assert len(service.get(next_).json()["inversions"]) == 1

    def test_filters(self, service: Service) -> None:
        queued, done = service.submitted(), finished(service)
        assert set(self.ids(service)) == {queued, done}
        assert self.ids(service, status="queued") == [queued]
        assert self.ids(service, pack="faces-64") == [done]
        assert self.ids(service, created_after="2999-01-01T00:00:00Z") == []
        assert self.ids(service, created_before="2000-01-01T00:00:00+01:00") == []

    @pytest.mark.parametrize(
        "query",
        [
            {"status": "gone"}, {"limit": 0}, {"limit": 101}, {"cursor": "x"}, {"cursor": ""}, {"cursor": "a" * 300},
            {"created_after": "yesterday"}, {"created_after": "2026-01-01T00:00:00"}, {"pack": "x" * 65},
        ],
    )  # fmt: skip
    def test_wrong_queries(self, service: Service, query: dict[str, Any]) -> None:
        answer = service.get(URL, params=query)
        assert (answer.status_code, slug(answer)) == (422, "option-invalid")
        assert f"`{next(iter(query))}`" in answer.json()["detail"]

    def test_a_filter_that_is_none_selects_nothing(self, service: Service) -> None:
        service.submitted()
        answer = service.get(URL, params={"limit": 5, "state": "failed"})
        assert (answer.status_code, slug(answer)) == (422, "option-unknown")
        assert "`state` is no query parameter. Known here: created_after," in answer.json()["detail"]

    @pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
    def test_times_at_the_end_of_the_calendar(self, service: Service, time: str) -> None:
        for name in ("created_after", "created_before"):
            assert service.get(URL, params={name: time}).status_code == 200


class TestRetry:
    def test_a_new_one_in_the_place_of_a_failed_one(self, service: Service) -> None:
        job_id = service.submitted(steps="7")
        service.jobs.fail(job_id)
        link = service.get(f"{URL}/{job_id}").json()["links"]["retry"]
        answer = service.post(link)
        body = answer.json()
        assert (answer.status_code, body["status"], body["retry_of"], body["steps"]) == (202, "queued", job_id, 7)
        assert answer.headers["location"] == body["links"]["self"] != f"{URL}/{job_id}"
        assert body["links"]["retry_of"] == f"{URL}/{job_id}"
        assert service.jobs.records[job_id].status is JobStatus.FAILED

    def test_a_canceled_one(self, service: Service) -> None:
        job_id = service.submitted()
        service.post(f"{URL}/{job_id}/cancel")
        assert service.post(f"{URL}/{job_id}/retry").status_code == 202

    def test_once_under_a_key(self, service: Service) -> None:
        failed, other = service.submitted(), service.submitted(steps="3")
        for job_id in (failed, other):
            service.jobs.fail(job_id)
        key = {"Idempotency-Key": "r1"}
        first = service.post(f"{URL}/{failed}/retry", headers=key)
        assert "idempotent-replayed" not in first.headers
        service.jobs.no_room = QueueFull("At most 5.")  # what is there already needs no room
        again = service.post(f"{URL}/{failed}/retry", headers=key)
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        assert again.headers["idempotent-replayed"] == "true"
        reused = service.post(f"{URL}/{other}/retry", headers=key)
        assert (reused.status_code, slug(reused)) == (422, "idempotency-key-reused")
        assert len(service.jobs.records) == 3

    def test_a_wrong_key_is_refused_as_the_document_says(self, service: Service) -> None:
        job_id = service.submitted()
        service.jobs.fail(job_id)
        answer = service.post(f"{URL}/{job_id}/retry", headers={"Idempotency-Key": "a b"})
        told = service.get("/openapi.json").json()["paths"][f"{URL}/{{inversion_id}}/retry"]["post"]["responses"]
        assert slug(answer) in told[str(answer.status_code)]["content"]["application/problem+json"]["examples"]

    def test_no_other(self, service: Service) -> None:
        for job_id in (service.submitted(), finished(service)):
            answer = service.post(f"{URL}/{job_id}/retry")
            assert (answer.status_code, slug(answer)) == (409, "not-retryable")


class TestExpiry:
    def test_gone_after_its_time_and_unknown_after_a_delete(self, service: Service) -> None:
        expired, deleted = finished(service), finished(service)
        service.jobs.expire(expired)
        service.request("DELETE", f"{URL}/{deleted}")
        for below in ("", "/frames", "/latents", "/events", "/image"):
            answer = service.get(f"{URL}/{expired}{below}")
            assert (answer.status_code, slug(answer)) == (410, "inversion-expired")
            assert service.get(f"{URL}/{deleted}{below}").status_code == 404
        assert service.request("DELETE", f"{URL}/{expired}").status_code == 410

    def test_it_may_be_chosen(self, service: Service) -> None:
        body = service.get(f"{URL}/{service.submitted(ttl='60')}").json()
        created, expires = (datetime.fromisoformat(body[name]) for name in ("created_at", "expires_at"))
        assert expires - created == timedelta(seconds=60)


class TestUsage:
    def test_days_and_total(self, service: Service) -> None:
        finished(service)
        service.jobs.fail(service.submitted())
        body = service.get("/v1/usage?days=3").json()
        counts = {"submitted": 2, "succeeded": 1, "failed": 1, "canceled": 0, "looked": 0, "rendered": 0}
        assert body["total"] == {**counts, "seconds": 1.5}
        assert len(body["days"]) == 3
        assert body["days"][-1]["submitted"] == 2

    @pytest.mark.parametrize("days", ["0", "367", "x"])
    def test_wrong_days(self, service: Service, days: str) -> None:
        assert slug(service.get(f"/v1/usage?days={days}")) == "option-invalid"

    def test_nobody_keeps_it(self, service: Service) -> None:
        for url in ("/v1/usage", URL, "/v1/batches/" + 32 * "0"):
            assert service.get(url).headers["cache-control"] == "private, no-store"


class TestCode:
    def test_every_form_says_its_pack(self, service: Service, tmp_path: Any) -> None:
        url = f"{URL}/{finished(service)}/latents"
        expected = np.arange(1280, dtype=np.float32).reshape(10, 128)
        for format in ("npy", "safetensors", "json"):
            headers = service.get(f"{url}?format={format}").headers
            assert headers["inversion-pack"] == FACES.name
            assert headers["inversion-pack-version"] == FACES.version
            assert headers["inversion-pack-digest"] == FACES.digest
        data = service.get(f"{url}?format=safetensors").content
        np.testing.assert_array_equal(load(data)["w_plus"], expected)
        (tmp_path / "code").write_bytes(data)
        with safe_open(tmp_path / "code", "numpy") as file:
            assert file.metadata() == {"pack": FACES.name, "version": FACES.version, "digest": FACES.digest}
        assert service.get(f"{url}?format=json").json()["pack"] == {
            "name": FACES.name, "version": FACES.version, "digest": FACES.digest,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("accept", "type_"),
        [
            (None, "a/1"), ("*/*", "a/1"), ("b/2", "b/2"), ("b/2, a/1", "b/2"), ("a/1;q=0.1, b/2", "b/2"),
            ("a/1;q=0, */*", "b/2"), ("b/*, */*;q=0.5", "b/2"), ("text/html, b/2;q=0.9, */*;q=0.8", "b/2"),
            ("x/y", "a/1"), ("b/2;q=x", "a/1"), ("", "a/1"), (";;,,", "a/1"), ("B/2 ; Q=1", "b/2"), ("b/2;q=7", "b/2"),
        ],
    )  # fmt: skip
    def test_negotiation(self, accept: str | None, type_: str) -> None:
        assert chosen(accept, ["a/1", "b/2"]) == type_


class TestMetrics:
    def test_json_and_csv(self, service: Service) -> None:
        url = f"{URL}/{finished(service)}/metrics"
        answer = service.get(url)
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "metrics": [{"step": 0, "loss": 0.5, "seconds": 0.1}, {"step": 5, "loss": None, "seconds": 0.2}]
        }
        for answer in (service.get(f"{url}?format=csv"), service.get(url, headers={"Accept": "text/csv"})):
            assert answer.headers["content-type"] == "text/csv; charset=utf-8"
            rows = list(csv.DictReader(io.StringIO(answer.text)))
            assert rows == [
                {"step": "0", "loss": "0.5", "seconds": "0.1"},
                {"step": "5", "loss": "", "seconds": "0.2"},
            ]

    def test_not_yet(self, service: Service) -> None:
        assert slug(service.get(f"{URL}/{service.submitted()}/metrics")) == "result-not-ready"


class TestSheets:
    def test_animation(self, service: Service) -> None:
        answer = service.get(f"{URL}/{finished(service)}/animation?frame_ms=100")
        assert answer.headers["content-type"] == "image/webp"
        picture = Image.open(io.BytesIO(answer.content))
        assert (picture.format, picture.size, picture.n_frames, picture.info["loop"]) == ("WEBP", (64, 64), 2, 0)

    @pytest.mark.parametrize(
        ("query", "accept", "kind"),
        [
            ("", "*/*", "PNG"),
            ("?format=webp", "*/*", "WEBP"),
            ("", "image/webp", "WEBP"),
            ("?format=png", "image/webp", "PNG"),
        ],
    )
    def test_strip(self, service: Service, query: str, accept: str, kind: str) -> None:
        answer = service.get(f"{URL}/{finished(service)}/strip{query}", headers={"Accept": accept})
        picture = Image.open(io.BytesIO(answer.content))
        assert (picture.format, picture.size) == (kind, (130, 64))
        assert answer.headers["content-type"] == f"image/{kind.lower()}"

    def test_fewer_frames(self, service: Service) -> None:
        job_id = service.submitted()
        service.jobs.start(job_id)
        for step in range(20):
            service.jobs.step(job_id, step, 0.5)
        picture = Image.open(io.BytesIO(service.get(f"{URL}/{job_id}/strip?frames=5").content))
        assert picture.width == 5 * 66 - 2
        assert slug(service.get(f"{URL}/{job_id}/strip?frames=33")) == "option-invalid"

    def test_without_frames(self, service: Service) -> None:
        job_id = service.submitted()
        for name in ("strip", "animation"):
            assert slug(service.get(f"{URL}/{job_id}/{name}")) == "result-not-ready"
        service.jobs.fail(job_id)
        for name in ("strip", "animation"):
            assert slug(service.get(f"{URL}/{job_id}/{name}")) == "result-not-available"

    def test_a_long_strip_is_made_smaller(self) -> None:
        buffer = io.BytesIO()
        Image.new("RGB", (1024, 1024), "red").save(buffer, "WEBP")
        picture = Image.open(io.BytesIO(strip([buffer.getvalue()] * 32, "WEBP")))
        assert picture.width <= 16_383
        assert picture.height == (16_385 // 32) - 2
        assert len(animation([buffer.getvalue()] * 3, 50)) > 100

    @pytest.mark.parametrize("count", [1, 2, 7, 20, 21])
    @pytest.mark.parametrize("most", [1, 2, 7, 20])
    def test_evenly(self, count: int, most: int) -> None:
        found = evenly(range(count), most)
        assert len(found) == len(set(found)) == min(count, most)
        assert found == sorted(found)
        assert found[-1] == count - 1
        assert found[0] == 0 or most == 1


def test_pasted(service: Service) -> None:
    job_id = finished(service)
    answer = service.get(service.get(f"{URL}/{job_id}").json()["links"]["pasted"])
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).format == "JPEG"
    del service.jobs.files[ArtifactKey.pasted(job_id)]
    assert slug(service.get(f"{URL}/{job_id}/pasted")) == "result-not-available"
