"""Look at, cancel and delete an inversion; its frames and results."""

from __future__ import annotations

import io

import httpx
import numpy as np
import pytest
from app_fakes import FACES
from app_service import Service
from PIL import Image

from inversion_worker.contract import ArtifactKey, JobStatus

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
        assert set(body["links"]) == {"self", "events", "frames", "cancel", "finish", "aligned", "animation", "strip"}
        assert answer.headers["retry-after"] == "3"

    def test_at_the_end(self, service: Service) -> None:
        job_id = finished(service)
        answer = service.get(f"{URL}/{job_id}")
        body = answer.json()
        assert (body["status"], body["best_step"], body["seconds"]) == ("succeeded", 5, 1.5)
        assert set(body["links"]) == {
            "self", "events", "frames", "aligned", "image", "latents", "metrics", "pasted", "animation", "strip",
            "render", "edits",
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


class TestFinish:
    def test_one_that_runs(self, service: Service) -> None:
        job_id = service.submitted()
        service.jobs.start(job_id)
        answer = service.post(service.get(f"{URL}/{job_id}").json()["links"]["finish"])
        assert (answer.status_code, answer.json()["status"]) == (200, "running")
        assert service.jobs.to_finish == {job_id}

    def test_one_that_has_succeeded_stays_as_it_is(self, service: Service) -> None:
        job_id = finished(service)
        before = service.get(f"{URL}/{job_id}").json()
        answer = service.post(f"{URL}/{job_id}/finish")
        assert (answer.status_code, answer.json()) == (200, before)
        assert "finish" not in before["links"]

    def test_one_that_was_canceled(self, service: Service) -> None:
        job_id = service.submitted()
        service.post(f"{URL}/{job_id}/cancel")
        answer = service.post(f"{URL}/{job_id}/finish")
        assert (answer.status_code, slug(answer)) == (409, "already-final")

    @pytest.mark.parametrize("wrong", NO_IDS)
    def test_wrong_ids(self, service: Service, wrong: str) -> None:
        assert service.post(f"{URL}/{wrong}/finish").status_code == 404


class TestFound:
    """The best code so far, of an inversion that has not succeeded."""

    @pytest.mark.parametrize("then", ["running", "canceled", "failed"])
    def test_code_and_picture_say_their_step(self, service: Service, then: str) -> None:
        job_id = service.submitted()
        service.jobs.start(job_id)
        service.jobs.find(job_id, 28)
        if then == "canceled":
            service.post(f"{URL}/{job_id}/cancel")
        elif then == "failed":
            service.jobs.fail(job_id)
        body = service.get(f"{URL}/{job_id}").json()
        assert (body["status"], body["result_step"]) == (then, 28)
        code = service.get(body["links"]["latents"])
        assert (code.headers["inversion-step"], code.headers["inversion-pack"]) == ("28", FACES.name)
        assert (np.load(io.BytesIO(code.content)) == 28).all()
        assert service.get(body["links"]["latents"], params={"format": "json"}).json()["step"] == 28
        picture = service.get(body["links"]["image"])
        assert picture.headers["inversion-step"] == "28"
        assert Image.open(io.BytesIO(picture.content)).size == (64, 64)

    def test_a_result_says_its_step_too(self, service: Service) -> None:
        job_id = finished(service)
        for name in ("image", "latents"):
            assert service.get(f"{URL}/{job_id}/{name}").headers["inversion-step"] == "5"

    @pytest.mark.parametrize("name", ["image", "latents"])
    def test_before_there_is_one(self, service: Service, name: str) -> None:
        job_id = service.submitted()
        service.jobs.start(job_id)
        service.jobs.step(job_id, 0, 0.5)
        assert slug(service.get(f"{URL}/{job_id}/{name}")) == "result-not-ready"


@pytest.mark.parametrize("name", ["pasted", "image", "aligned", "metrics"])
def test_a_result_that_could_not_be_made_is_named_and_its_address_says_why(service: Service, name: str) -> None:
    job_id = finished(service)
    key = {"pasted": ArtifactKey.pasted, "image": ArtifactKey.image, "aligned": ArtifactKey.aligned}
    del service.jobs.files[key.get(name, ArtifactKey.metrics)(job_id)]
    service.jobs.change(job_id, missing=[{"result": name, "detail": "It broke."}])
    body = service.get(f"{URL}/{job_id}").json()
    assert (body["status"], body["missing"]) == ("succeeded", [{"result": name, "detail": "It broke."}])
    assert name not in body["links"]
    assert "latents" in body["links"]
    answer = service.get(f"{URL}/{job_id}/{name}")
    assert (answer.status_code, slug(answer)) == (404, "result-failed")
    assert "It broke." in answer.json()["detail"]


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
