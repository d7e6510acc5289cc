"""Look at, cancel and delete an inversion; its frames and results."""

from __future__ import annotations

import io

import httpx
import numpy as np
import pytest
from app_fakes import FACES
from app_service import Service
from PIL import Image

from inversion_worker.contract import JobStatus

URL = "/v1/inversions"
BELOW = (
    "frames", "frames/0", "animation", "strip", "image", "aligned", "pasted", "latents", "metrics", "events",
)  # fmt: skip
NO_IDS = ["0" * 32, "short", "a" * 65, "x" * 5000, "..%2f..%2fetc%2fpasswd", "5f0c 2a7e9d3b4c5f8a6b", "ä" * 20]


def slug(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["type"]).removeprefix("/problems/")


class TestLook:
    def test_while_it_waits(self, service: Service) -> None:
        service.submitted()
        second = service.submitted(steps="7")
        answer = service.get(f"{URL}/{second}")
        body = answer.json()
        assert (body["status"], body["queue_position"], body["steps"]) == ("queued", 1, 7)
        assert (body["step"], body["pack"], body["face"], body["error"]) == (None, None, None, None)
        assert answer.headers["retry-after"] == "3"

    def test_while_it_runs(self, service: Service) -> None:
        job_id = service.submitted()
        service.jobs.start(job_id)
        assert service.get(f"{URL}/{job_id}").json()["step"] is None
        service.jobs.step(job_id, 0, 0.5)
        service.jobs.step(job_id, 5, 0.25)
        answer = service.get(f"{URL}/{job_id}")
        body = answer.json()
        assert (body["status"], body["step"], body["loss"], body["queue_position"]) == ("running", 5, 0.25, None)
        assert body["pack"] == {"name": FACES.name, "version": FACES.version, "digest": FACES.digest}
        assert (body["options"]["optimizer"], body["optimizer"]) == ("adam", "adam")
        assert body["face"]["found"] == 2
        assert set(body["links"]) == {"self", "events", "frames", "cancel", "aligned", "animation", "strip"}
        assert answer.headers["retry-after"] == "3"

    def test_at_the_end(self, service: Service) -> None:
        job_id = finished(service)
        answer = service.get(f"{URL}/{job_id}")
        body = answer.json()
        assert (body["status"], body["best_step"], body["seconds"]) == ("succeeded", 5, 1.5)
        assert set(body["links"]) == {
            "self", "events", "frames", "aligned", "image", "latents", "metrics", "pasted", "animation", "strip",
        }  # fmt: skip
        assert "retry-after" not in answer.headers

    def test_a_failure_says_why(self, service: Service) -> None:
        job_id = service.submitted()
        service.jobs.start(job_id)
        service.jobs.fail(job_id)
        body = service.get(f"{URL}/{job_id}").json()
        assert body["status"] == "failed"
        assert body["error"]["type"] == "/problems/no-face-found"

    def test_a_loss_that_is_not_finite_is_null(self, service: Service) -> None:
        job_id = service.submitted()
        service.jobs.start(job_id)
        service.jobs.step(job_id, 0, float("nan"))
        assert service.get(f"{URL}/{job_id}").json()["loss"] is None

    @pytest.mark.parametrize("known", ["{}", 'W/{}, "another"', "*"])
    def test_etag(self, service: Service, known: str) -> None:
        job_id = service.submitted()
        etag = service.get(f"{URL}/{job_id}").headers["etag"]
        same = service.get(f"{URL}/{job_id}", headers={"If-None-Match": known.format(etag)})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
        assert same.headers["retry-after"] == "3"
        service.jobs.start(job_id)
        assert service.get(f"{URL}/{job_id}", headers={"If-None-Match": etag}).status_code == 200

    @pytest.mark.parametrize("wrong", NO_IDS)
    @pytest.mark.parametrize("below", ["", *(f"/{name}" for name in BELOW)])
    def test_wrong_ids(self, service: Service, wrong: str, below: str) -> None:
        answer = service.get(f"{URL}/{wrong}{below}")
        assert answer.status_code == 404
        assert slug(answer) in ("inversion-not-found", "not-found")  # an encoded slash is another address


class TestCancel:
    def test_queued(self, service: Service) -> None:
        job_id = service.submitted()
        answer = service.post(f"{URL}/{job_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "canceled")

    def test_twice_changes_nothing(self, service: Service) -> None:
        job_id = service.submitted()
        first = service.post(f"{URL}/{job_id}/cancel")
        second = service.post(f"{URL}/{job_id}/cancel")
        assert (second.status_code, second.json()) == (200, first.json())

    def test_ended(self, service: Service) -> None:
        answer = service.post(f"{URL}/{finished(service)}/cancel")
        assert (answer.status_code, slug(answer)) == (409, "already-final")
        assert "succeeded" in answer.json()["detail"]

    @pytest.mark.parametrize("wrong", NO_IDS)
    def test_wrong_ids(self, service: Service, wrong: str) -> None:
        assert service.post(f"{URL}/{wrong}/cancel").status_code == 404


class TestDelete:
    def test_everything_goes(self, service: Service) -> None:
        kept, job_id = finished(service), finished(service)
        answer = service.request("DELETE", f"{URL}/{job_id}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert all(key.startswith(kept) for key in service.jobs.files)
        assert slug(service.get(f"{URL}/{job_id}")) == "inversion-not-found"
        assert service.request("DELETE", f"{URL}/{job_id}").status_code == 404

    @pytest.mark.parametrize("wrong", NO_IDS)
    def test_wrong_ids(self, service: Service, wrong: str) -> None:
        assert service.request("DELETE", f"{URL}/{wrong}").status_code == 404


class TestResults:
    def test_frames(self, service: Service) -> None:
        job_id = finished(service)
        frames = service.get(f"{URL}/{job_id}/frames").json()["frames"]
        assert [frame["step"] for frame in frames] == [0, 5]
        answer = service.get(frames[1]["url"])
        assert answer.headers["content-type"] == "image/webp"
        assert Image.open(io.BytesIO(answer.content)).format == "WEBP"

    def test_a_frame_that_is_not_there(self, service: Service) -> None:
        answer = service.get(f"{URL}/{finished(service)}/frames/3")
        assert (answer.status_code, slug(answer)) == (404, "frame-not-found")
        assert "the last is of step 5" in answer.json()["detail"]

    @pytest.mark.parametrize("step", ["-1", "1001", "x", "1.5"])
    def test_a_step_that_cannot_be(self, service: Service, step: str) -> None:
        answer = service.get(f"{URL}/{finished(service)}/frames/{step}")
        assert (answer.status_code, slug(answer)) == (422, "option-invalid")
        assert "`step`" in answer.json()["detail"]

    @pytest.mark.parametrize("name", ["image", "aligned"])
    def test_pictures(self, service: Service, name: str) -> None:
        job_id = finished(service)
        answer = service.get(f"{URL}/{job_id}/{name}")
        assert answer.headers["content-type"] == "image/png"
        assert f'{job_id[:8]}-{name}.png"' in answer.headers["content-disposition"]
        assert Image.open(io.BytesIO(answer.content)).format == "PNG"

    @pytest.mark.parametrize(
        ("query", "accept", "kind"),
        [
            ("", "*/*", "npy"),
            ("", "application/json", "json"),
            ("", "text/html, application/json;q=0.9, */*;q=0.8", "json"),
            ("", "application/octet-stream, application/json", "npy"),
            ("?format=json", "*/*", "json"),
            ("?format=npy", "application/json", "npy"),
        ],
    )
    def test_latents(self, service: Service, query: str, accept: str, kind: str) -> None:
        answer = service.get(f"{URL}/{finished(service)}/latents{query}", headers={"Accept": accept})
        expected = np.arange(1280, dtype=np.float32).reshape(10, 128)
        if kind == "npy":
            assert answer.headers["content-type"] == "application/octet-stream"
            np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), expected)
        else:
            assert answer.headers["content-type"] == "application/json"
            body = answer.json()
            assert (body["shape"], body["pack"]["name"]) == ([10, 128], "faces-64")
            np.testing.assert_array_equal(np.array(body["latents"], np.float32), expected)

    def test_unknown_format(self, service: Service) -> None:
        answer = service.get(f"{URL}/{finished(service)}/latents?format=pickle")
        assert (answer.status_code, slug(answer)) == (422, "option-invalid")

    @pytest.mark.parametrize("name", ["image", "aligned", "latents"])
    def test_not_ready_says_when_to_come_back(self, service: Service, name: str) -> None:
        answer = service.get(f"{URL}/{service.submitted()}/{name}")
        assert (answer.status_code, slug(answer)) == (409, "result-not-ready")
        assert answer.headers["retry-after"] == "3"

    @pytest.mark.parametrize("name", ["image", "latents"])
    def test_never_ready_after_a_failure(self, service: Service, name: str) -> None:
        job_id = service.submitted()
        service.jobs.fail(job_id)
        answer = service.get(f"{URL}/{job_id}/{name}")
        assert (answer.status_code, slug(answer)) == (404, "result-not-available")
        assert "failed" in answer.json()["detail"]

    def test_a_crop_that_is_there_is_given_after_a_cancel(self, service: Service) -> None:
        job_id = service.submitted()
        service.jobs.start(job_id)
        service.jobs.step(job_id, 0, 0.5)
        service.post(f"{URL}/{job_id}/cancel")
        assert service.jobs.records[job_id].status is JobStatus.CANCELED
        assert service.get(f"{URL}/{job_id}/aligned").status_code == 200
        assert service.get(f"{URL}/{job_id}/frames/0").status_code == 200


def finished(service: Service) -> str:
    """The id of an inversion that has succeeded."""
    job_id = service.submitted()
    service.jobs.start(job_id)
    service.jobs.step(job_id, 0, 0.5)
    service.jobs.step(job_id, 5, 0.25)
    service.jobs.succeed(job_id)
    return job_id
