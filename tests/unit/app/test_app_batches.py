"""Many photos at once, as a whole."""

from __future__ import annotations

from typing import Any

import pytest
from app_fakes import picture_bytes
from app_service import Service, refused, url_of

from inversion_worker.contract import ArtifactKey

URL = "/v1/inversions"
PHOTO = url_of(picture_bytes())


class TestBatch:
    BATCHES = "/v1/batches"

    def submitted(self, service: Service, count: int = 3, **fields: str) -> dict[str, Any]:
        files = [("image", (f"{n}.png", picture_bytes(size=(90 + n, 80)))) for n in range(count)]
        answer = service.post(self.BATCHES, files=files, data=fields)
        assert answer.status_code == 202, answer.text
        body: dict[str, Any] = answer.json()
        assert answer.headers["location"] == f"{self.BATCHES}/{body['id']}" == body["links"]["self"]
        return body

    def test_a_form(self, service: Service) -> None:
        body = self.submitted(service, 3, steps="7")
        assert (body["status"], body["total"], body["counts"]["queued"]) == ("queued", 3, 3)
        for index, inversion in enumerate(body["inversions"]):
            assert inversion["steps"] == 7
            assert inversion["links"]["batch"] == body["links"]["self"]
            photo = service.jobs.files[ArtifactKey.photo(inversion["id"])]
            assert photo == picture_bytes(size=(90 + index, 80))

    def test_json(self, service: Service) -> None:
        answer = service.post(self.BATCHES, json={"images": [PHOTO] * 64, "steps": 3})
        assert (answer.status_code, answer.json()["total"]) == (202, 64)

    def test_too_many(self, service: Service) -> None:
        refused(service.post(self.BATCHES, json={"images": [PHOTO] * 65}), 422, "batch-too-large")
        for count in (65, 66, 67, 100):
            tiny = [("image", (f"{n}", b"x")) for n in range(count)]
            refused(service.post(self.BATCHES, files=tiny), 422, "batch-too-large")

    def test_all_or_none(self, service: Service) -> None:
        answer = service.post(self.BATCHES, json={"images": [PHOTO, PHOTO, url_of(b"x")]})
        assert "photo 2" in refused(answer, 415, "picture-unsupported")
        assert not service.jobs.records

    @pytest.mark.parametrize("body", [{}, {"images": []}, {"images": 5}, {"images": None}])
    def test_none_at_all(self, service: Service, body: dict[str, Any]) -> None:
        refused(service.post(self.BATCHES, json=body), 422, "image-missing")

    def test_no_mask_and_no_start(self, service: Service) -> None:
        for extra in ({"mask": PHOTO}, {"latents": [[0.0] * 128] * 10}):
            refused(service.post(self.BATCHES, json={"images": [PHOTO], **extra}), 422, "option-unknown")
        refused(service.post(self.BATCHES, json={"images": [PHOTO], "start": "latents"}), 422, "option-invalid")

    def test_its_status_is_that_of_the_whole(self, service: Service) -> None:
        body = self.submitted(service)
        url = body["links"]["self"]
        first, second, third = [inversion["id"] for inversion in body["inversions"]]
        service.jobs.start(first)
        assert service.get(url).json()["status"] == "running"
        service.jobs.succeed(first)
        assert service.get(url).json()["status"] == "running"
        service.jobs.run(second)
        answer = service.get(url)
        assert answer.headers["retry-after"] == "3"
        assert service.get(url, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        service.jobs.fail(third)
        answer = service.get(url)
        assert (answer.json()["status"], "retry-after" in answer.headers) == ("failed", False)
        assert answer.json()["counts"] | {"queued": 0} == {
            "queued": 0, "running": 0, "succeeded": 2, "failed": 1, "canceled": 0, "deleted": 0,
        }  # fmt: skip
        service.request("DELETE", f"{URL}/{third}")
        body = service.get(url).json()
        assert (body["status"], body["inversions"][2], body["counts"]["deleted"]) == ("succeeded", None, 1)

    def test_cancel_all(self, service: Service) -> None:
        body = self.submitted(service)
        service.jobs.run(body["inversions"][0]["id"])
        answer = service.post(body["links"]["cancel"])
        assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
        assert answer.json()["counts"]["canceled"] == 2
        assert "cancel" not in answer.json()["links"]

    def test_delete_all(self, service: Service) -> None:
        body = self.submitted(service)
        url = body["links"]["self"]
        assert service.request("DELETE", url).status_code == 204
        assert (service.jobs.records, service.jobs.files) == ({}, {})
        refused(service.get(url), 404, "batch-not-found")

    def test_expired_and_unknown(self, service: Service) -> None:
        body = self.submitted(service)
        del service.jobs.batches[body["id"]]
        service.jobs.tombstones.add(("", body["id"]))
        refused(service.get(body["links"]["self"]), 410, "batch-expired")
        for wrong in ("x", "0" * 32, "a" * 65, "..%2f"):
            assert service.get(f"{self.BATCHES}/{wrong}").status_code == 404

    def test_idempotency(self, service: Service) -> None:
        answers = [
            service.post(self.BATCHES, json={"images": [PHOTO]}, headers={"Idempotency-Key": "k"}) for _ in range(2)
        ]
        assert answers[0].json()["id"] == answers[1].json()["id"]
        assert answers[1].headers["idempotent-replayed"] == "true"
        assert len(service.jobs.records) == 1
