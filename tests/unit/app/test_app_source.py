"""Going on from another inversion: what is taken over, what is new, and of whose inversions."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from anyio.from_thread import BlockingPortal
from app_clients import Line
from app_fakes import npy, picture_bytes
from app_service import Service, refused, url_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from inversion_client import AsyncInversionClient
from inversion_worker.contract import ArtifactKey, JobCanceled, JobStatus

pytestmark = pytest.mark.unit

URL = "/v1/inversions"
UNKNOWN = "f" * 32
OTHER_CODE = np.linspace(-1, 1, 10 * 128, dtype=np.float32).reshape(10, 128)


def go_on(service: Service, job_id: str, **fields: Any) -> httpx.Response:
    return service.post(URL, json={"source": {"inversion": job_id}, **fields})


def start_of(service: Service, answer: httpx.Response) -> Any:
    """The code that a new inversion starts from."""
    assert answer.status_code == 202, answer.text
    data = service.jobs.files.get(ArtifactKey.start(answer.json()["id"]))
    return None if data is None else np.load(io.BytesIO(data))


def mask_bytes() -> bytes:
    mask = Image.new("L", (96, 80), 0)
    mask.paste(255, (0, 0, 48, 80))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def done(service: Service) -> str:
    """An inversion that has succeeded."""
    job_id = service.submitted(steps="5", seed="3")
    service.jobs.run(job_id)
    return job_id


def test_photo_and_code_are_taken_over(service: Service, done: str) -> None:
    by_json = go_on(service, done, steps=50)
    by_form = service.post(URL, files={"source": (None, json.dumps({"inversion": done})), "steps": (None, "50")})
    for answer in (by_json, by_form):
        told = answer.json()
        assert (told["source"], told["links"]["source"]) == ({"inversion": done}, f"{URL}/{done}")
        assert told["options"]["steps"] == 50
        assert (told["options"]["seed"], told["options"]["start"]) == (0, "latents")
        assert service.jobs.files[ArtifactKey.photo(told["id"])] == picture_bytes()
        assert np.array_equal(start_of(service, answer), np.arange(10 * 128).reshape(10, 128))


def test_it_does_not_depend_on_what_it_goes_on_from(service: Service, done: str) -> None:
    job_id = go_on(service, done).json()["id"]
    assert service.request("DELETE", f"{URL}/{done}").status_code == 204
    service.jobs.run(job_id)
    assert service.get(f"{URL}/{job_id}").json()["status"] == "succeeded"
    assert service.jobs.files[ArtifactKey.photo(job_id)] == picture_bytes()


@pytest.mark.parametrize("state", ["running", "canceled", "failed"])
def test_the_best_so_far(service: Service, state: str) -> None:
    job_id = service.submitted()
    service.jobs.start(job_id)
    service.jobs.find(job_id, 7)
    if state == "canceled":
        service.jobs.change(job_id, JobCanceled(), status=JobStatus.CANCELED)
    elif state == "failed":
        service.jobs.fail(job_id)
    assert (start_of(service, go_on(service, job_id)) == 7).all()


def test_without_a_code_the_start_has_to_be_named(service: Service) -> None:
    job_id = service.submitted()
    waiting = go_on(service, job_id)
    assert "`start`" in refused(waiting, 409, "result-not-ready")
    assert waiting.headers["retry-after"] == "3"
    assert start_of(service, go_on(service, job_id, start="mean")) is None
    service.jobs.fail(job_id)
    assert "`start`" in refused(go_on(service, job_id), 404, "result-not-available")
    again = go_on(service, job_id, start="encoder", align=False)
    assert (again.status_code, again.json()["options"]["align"]) == (202, False)


def test_another_start(service: Service, done: str) -> None:
    assert start_of(service, go_on(service, done, start="random")) is None
    code = start_of(service, go_on(service, done, latents=OTHER_CODE.tolist()))
    assert np.allclose(code, OTHER_CODE)
    assert (start_of(service, go_on(service, done, start="latents"))[0, :3] == [0, 1, 2]).all()
    refused(go_on(service, done, start="mean", latents=OTHER_CODE.tolist()), 422, "option-invalid")


class TestTheCrop:
    def test_is_that_of_the_other_one(self, service: Service) -> None:
        job_id = service.submitted(face="1", pack="faces-64")
        service.jobs.run(job_id)
        looks = len(service.jobs.looks)
        options = go_on(service, job_id).json()["options"]
        assert (options["face"], options["pack"]) == (1, "faces-64")
        assert len(service.jobs.looks) == looks  # it was looked at when it came

    def test_unless_it_is_chosen(self, service: Service) -> None:
        quad = [10, 10, 10, 60, 60, 60, 60, 10]
        job_id = service.submitted(quad=",".join(map(str, quad)))
        service.jobs.run(job_id)
        assert go_on(service, job_id).json()["options"]["quad"] == [[10, 10], [10, 60], [60, 60], [60, 10]]
        options = go_on(service, job_id, face=0).json()["options"]
        assert (options["face"], options["quad"]) == (0, None)
        assert go_on(service, job_id, face=None).json()["options"]["quad"] is not None
        refused(go_on(service, job_id, face=5), 422, "no-such-face")
        refused(go_on(service, job_id, quad=[500, 500, 500, 600, 600, 600, 600, 500]), 422, "quad-invalid")

    def test_with_the_mask(self, service: Service, done: str) -> None:
        masked = service.post(URL, files={"image": ("a", picture_bytes()), "mask": ("m", mask_bytes())}).json()["id"]
        service.jobs.run(masked)
        told = go_on(service, masked).json()
        assert told["masked"]
        assert service.jobs.files[ArtifactKey.mask(told["id"])] == service.jobs.files[ArtifactKey.mask(masked)]
        assert go_on(service, done, mask=url_of(mask_bytes())).json()["masked"]
        refused(go_on(service, done, mask=url_of(picture_bytes(size=(64, 64)))), 422, "mask-invalid")


class TestWhatIsNone:
    def test_ids(self, service: Service, done: str) -> None:
        refused(go_on(service, UNKNOWN), 404, "inversion-not-found")
        service.jobs.change(done, tenant="other")
        refused(go_on(service, done), 404, "inversion-not-found")
        job_id = service.submitted()
        service.jobs.expire(job_id)
        refused(go_on(service, job_id), 410, "inversion-expired")

    def test_a_photo_that_goes_meanwhile(self, service: Service, done: str) -> None:
        del service.jobs.files[ArtifactKey.photo(done)]
        refused(go_on(service, done), 404, "inversion-not-found")
        refused(go_on(service, done, face=1), 404, "inversion-not-found")
        assert len(service.jobs.records) == 1

    @pytest.mark.parametrize(
        "source",
        [[], "x", 1, {}, {"inversion": 1}, {"inversion": "../x"}, {"inversion": UNKNOWN, "seed": 1}, {"seed": 1}],
    )
    def test_shapes(self, service: Service, source: Any) -> None:
        assert "`source`" in refused(service.post(URL, json={"source": source}), 422, "option-invalid")
        text = json.dumps(source)
        answer = service.post(URL, files={"source": (None, text), "steps": (None, "5")})
        assert "`source`" in refused(answer, 422, "option-invalid")

    def test_together_with_a_photo(self, service: Service, done: str) -> None:
        answer = go_on(service, done, image=url_of(picture_bytes()))
        assert "`image`" in refused(answer, 422, "option-invalid")

    def test_elsewhere(self, service: Service, done: str) -> None:
        body = {"source": {"inversion": done}}
        refused(service.post("/v1/batches", json=body), 422, "option-unknown")
        refused(service.post("/v1/faces", json=body), 422, "option-unknown")
        assert service.post(URL, json={"source": None}).json()["type"] == "/problems/image-missing"

    def test_a_code_of_other_weights(self, service: Service, done: str) -> None:
        service.jobs.change(done, pack_digest="sha256:" + 32 * "cd")
        assert "weights" in refused(go_on(service, done), 422, "latents-invalid")
        assert go_on(service, done, start="mean").status_code == 202


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=40))
def test_no_text_is_our_fault(service: Service, text: str) -> None:
    answer = service.post(URL, files={"source": (None, text), "steps": (None, "5")})
    assert 400 <= answer.status_code < 500


def test_an_idempotency_key_counts_it(service: Service, done: str) -> None:
    other = service.submitted()
    service.jobs.run(other)

    def sent(job_id: str) -> httpx.Response:
        return service.post(URL, json={"source": {"inversion": job_id}}, headers={"Idempotency-Key": "k"})

    first = sent(done).json()["id"]
    assert sent(done).json()["id"] == first
    refused(sent(other), 422, "idempotency-key-reused")


def test_the_python_client(service: Service, portal: BlockingPortal, done: str) -> None:
    async def submit() -> None:
        async with AsyncInversionClient("http://localhost", transport=Line(service.app)) as client:
            before = await client.get(done)
            told = await client.submit(source=before, steps=7)
            assert told.source is not None
            assert (told.source.inversion, told.options["steps"]) == (done, 7)
            with pytest.raises(ValueError, match="one of them"):
                await client.submit()
            with pytest.raises(ValueError, match="one of them"):
                await client.submit(picture_bytes(), source=done)
            with pytest.raises(ValueError, match="no id"):
                await client.submit(source="../x")

    portal.call(submit)


def test_npy_is_what_the_worker_reads(service: Service, done: str) -> None:
    job_id = go_on(service, done).json()["id"]
    assert service.jobs.files[ArtifactKey.start(job_id)] == npy(np.arange(10 * 128, dtype=np.float32).reshape(10, 128))
