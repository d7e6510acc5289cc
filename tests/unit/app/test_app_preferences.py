"""Submitting with preferences: waited for, or again under the same Idempotency-Key."""

from __future__ import annotations

from concurrent.futures import Future

import httpx
import pytest
from app_fakes import picture_bytes
from app_service import Service, refused

from inversion_app.preferences import wait_s
from inversion_worker.client import QueueFull

URL = "/v1/inversions"


class TestPrefer:
    def waited(self, service: Service, *prefer: str) -> httpx.Response:
        headers = [("Prefer", value) for value in prefer]
        return service.request("POST", URL, files={"image": ("a", picture_bytes())}, headers=headers)

    def test_ready_in_time(self, service: Service) -> None:
        service.jobs.runs = True
        answer = self.waited(service, "wait=30")
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
        assert answer.headers["preference-applied"] == "wait=30"
        assert answer.headers["location"] == f"{URL}/{answer.json()['id']}"
        assert "retry-after" not in answer.headers

    def test_it_ends_while_it_is_waited_for(self, service: Service) -> None:
        waiting: Future[httpx.Response] = service.start(URL, "POST", files={"image": ("a", picture_bytes())},
                                                        headers={"Prefer": "wait=30"})  # fmt: skip
        while not service.jobs.records:
            service.pause(0.01)
        (job_id,) = service.jobs.records
        service.jobs.fail(job_id)
        answer = waiting.result(timeout=10)
        assert (answer.status_code, answer.json()["status"]) == (200, "failed")

    def test_not_ready_in_time(self, service: Service) -> None:
        answer = self.waited(service, "wait=0")
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        assert answer.headers["preference-applied"] == "wait=0"
        assert answer.headers["retry-after"] == "3"

    def test_without_it_nothing_is_waited_for(self, service: Service) -> None:
        service.jobs.runs = True
        for prefer in ((), ("respond-async",), ("wait=soon", "handling=strict")):
            answer = self.waited(service, *prefer)
            assert (answer.status_code, "preference-applied" in answer.headers) == (202, False)

    def test_a_batch_as_a_whole(self, service: Service) -> None:
        files = [("image", ("a", picture_bytes()))] * 2
        url = "/v1/batches"
        early = service.post(url, files=files, headers={"Prefer": "wait=0"})
        assert (early.status_code, early.headers["preference-applied"]) == (202, "wait=0")
        waiting = service.start(url, "POST", files=files, headers={"Prefer": "wait=30"})
        while len(service.jobs.records) < 4:
            service.pause(0.01)
        first, second = list(service.jobs.records)[2:]
        service.jobs.run(first)
        service.pause(0.05)
        assert not waiting.done()
        service.jobs.run(second)
        answer = waiting.result(timeout=10)
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
        assert (answer.headers["preference-applied"], "retry-after" in answer.headers) == ("wait=30", False)

    def test_a_repetition(self, service: Service) -> None:
        job_id = service.submitted()
        service.jobs.fail(job_id)
        waiting = service.start(f"{URL}/{job_id}/retry", "POST", headers={"Prefer": "wait=30"})
        while len(service.jobs.records) < 2:
            service.pause(0.01)
        service.jobs.run(list(service.jobs.records)[1])
        answer = waiting.result(timeout=10)
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
        assert answer.headers["preference-applied"] == "wait=30"

    @pytest.mark.parametrize(
        ("lines", "seconds"),
        [
            (["wait=5"], 5), (["WAIT = 5"], 5), (['wait="5"'], 5), (["foo, wait=5"], 5), (["foo; bar=1, wait=5;x"], 5),
            (["foo", "wait=5"], 5), (["wait=5", "wait=6"], 5), (["wait=99999"], 60), (["wait=-1"], None),
            (["wait=1.5"], None), (["wait"], None), (["respond-async, wait=5"], 5), (["respond-async"], None),
            ([""], None), (["wait=" + "9" * 400], None),
        ],
    )  # fmt: skip
    def test_how_it_is_read(self, lines: list[str], seconds: int | None) -> None:
        class Request:
            headers = httpx.Headers([("prefer", line) for line in lines])

        Request.headers.getlist = Request.headers.get_list  # type: ignore[attr-defined]
        assert wait_s(Request, 60) == seconds  # type: ignore[arg-type]


class TestIdempotency:
    def send(self, service: Service, key: str = "k1", url: str = URL, **fields: str) -> httpx.Response:
        files = {"image": ("a.png", picture_bytes())}  # with a boundary of its own each time
        return service.post(url, files=files, data=fields, headers={"Idempotency-Key": key})

    def test_the_same_again(self, service: Service) -> None:
        first = self.send(service, steps="5")
        assert "idempotent-replayed" not in first.headers
        for key in ("k1", '"k1"'):
            again = self.send(service, key, steps="5")
            assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
            assert again.headers["idempotent-replayed"] == "true"
            assert again.headers["location"] == first.headers["location"]
        assert len(service.jobs.records) == 1

    def test_another_body(self, service: Service) -> None:
        self.send(service, steps="5")
        refused(self.send(service, steps="6"), 422, "idempotency-key-reused")
        other = {"image": ("a.png", picture_bytes(size=(100, 100)))}
        answer = service.post(URL, files=other, data={"steps": "5"}, headers={"Idempotency-Key": "k1"})
        refused(answer, 422, "idempotency-key-reused")
        refused(self.send(service, url="/v1/batches", steps="5"), 422, "idempotency-key-reused")
        assert self.send(service, "k2", steps="6").status_code == 202

    def test_still_being_accepted(self, service: Service) -> None:
        first = self.send(service)
        (print_, _) = service.jobs.once[":k1"]
        service.jobs.once[":k1"] = (print_, "")
        answer = self.send(service)
        refused(answer, 409, "idempotency-key-in-use")
        assert answer.headers["retry-after"] == "1"
        service.jobs.once[":k1"] = (print_, first.json()["id"])
        assert self.send(service).status_code == 202

    @pytest.mark.parametrize("url", [URL, "/v1/batches"])
    def test_the_same_again_while_the_queue_is_full(self, service: Service, url: str) -> None:
        first = self.send(service, url=url)
        service.jobs.no_room = QueueFull("At most 5.")
        again = self.send(service, url=url)
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        refused(self.send(service, "k2", url=url), 429, "queue-full")  # a new one does need room
        service.jobs.no_room = None
        assert self.send(service, "k2", url=url).json()["id"] != first.json()["id"]

    def test_what_was_refused_may_be_corrected(self, service: Service) -> None:
        assert self.send(service, steps="-1").status_code == 422
        assert self.send(service, steps="1").status_code == 202

    def test_what_was_made_is_gone(self, service: Service) -> None:
        job_id = self.send(service).json()["id"]
        service.jobs.expire(job_id)
        refused(self.send(service), 410, "inversion-expired")
        again = self.send(service)  # the key went with it
        assert (again.status_code, again.json()["id"] == job_id) == (202, False)

    @pytest.mark.parametrize(("url", "what"), [(URL, "inversion"), ("/v1/batches", "batch")])
    def test_what_was_made_was_deleted(self, service: Service, url: str, what: str) -> None:
        """The answer says so once, and the key goes with what it made."""
        made = self.send(service, '"k1"', url=url).json()["id"]
        assert service.request("DELETE", f"{url}/{made}").status_code == 204
        assert made in refused(self.send(service, url=url), 410, f"{what}-deleted")
        again = self.send(service, url=url)
        assert (again.status_code, again.json()["id"] == made) == (202, False)
        assert self.send(service, url=url).headers["idempotent-replayed"] == "true"

    def test_a_retry_that_was_deleted(self, service: Service) -> None:
        job_id = service.submitted()
        service.jobs.fail(job_id)
        url, key = f"{URL}/{job_id}/retry", {"Idempotency-Key": "k1"}
        made = service.post(url, headers=key).json()["id"]
        service.request("DELETE", f"{URL}/{made}")
        answers = [service.post(url, headers=key) for _ in range(2)]
        refused(answers[0], 410, "inversion-deleted")
        assert answers[1].status_code == 202

    def test_deleted_while_it_is_waited_for(self, service: Service) -> None:
        files = {"image": ("a.png", picture_bytes())}
        waiting = service.start(URL, "POST", files=files, headers={"Prefer": "wait=10"})
        while not service.jobs.records:
            service.pause(0.01)
        (job_id,) = service.jobs.records
        assert service.request("DELETE", f"{URL}/{job_id}").status_code == 204
        assert job_id in refused(waiting.result(10), 410, "inversion-deleted")

    def test_with_waiting(self, service: Service) -> None:
        job_id = self.send(service).json()["id"]
        service.jobs.run(job_id)
        answer = service.post(URL, files={"image": ("a.png", picture_bytes())},
                              headers={"Idempotency-Key": "k1", "Prefer": "wait=5"})  # fmt: skip
        assert (answer.status_code, answer.json()["id"]) == (200, job_id)

    @pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ä"])
    def test_wrong_keys(self, service: Service, key: str) -> None:
        answer = service.post(URL, files={"image": ("a.png", picture_bytes())},
                              headers={"Idempotency-Key": key.encode("latin-1")})  # fmt: skip
        refused(answer, 422, "option-invalid")
