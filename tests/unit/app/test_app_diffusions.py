"""A face into a context, over the API: what becomes of the two photos, and what is refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from anyio.from_thread import BlockingPortal
from app_clients import BlockingLine, Line
from app_fakes import picture_bytes
from app_service import Service, refused, url_of

from inversion_client import AsyncInversionClient, InversionClient
from inversion_worker.contract import ArtifactKey, JobCanceled, JobStatus

pytestmark = pytest.mark.unit

URL = "/v1/diffusions"
FACE, CONTEXT = picture_bytes(), picture_bytes("JPEG", (120, 90))
QUAD = [[10, 10], [10, 60], [60, 60], [60, 10]]


def asked(service: Service, face: Any, context: Any, **more: Any) -> httpx.Response:
    return service.post(URL, json={"face": face, "context": context, **more})


@pytest.fixture
def two(service: Service) -> tuple[str, str]:
    """Two inversions: the face is the second in its photo, the context has a quad."""
    face = service.upload(FACE, face="1", pack="faces-64").json()["id"]
    context = service.upload(CONTEXT, quad=",".join(str(part) for corner in QUAD for part in corner)).json()["id"]
    service.jobs.run(context)
    return face, context


def test_of_two_inversions(service: Service, two: tuple[str, str]) -> None:
    face, context = two
    mask = {"ellipse": [0.5, 0.5, 0.2, 0.3]}
    answer = asked(
        service,
        {"inversion": face},
        {"inversion": context},
        mask=mask,
        weight=0.25,
        options={"steps": 7.0, "start": "mean"},
    )
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert answer.headers["location"] == told["links"]["self"] == f"/v1/inversions/{told['id']}"
    assert (told["options"]["steps"], told["options"]["quad"], told["options"]["face"]) == (7, QUAD, None)
    assert (told["diffusion"]["weight"], told["diffusion"]["ring"], told["diffusion"]["face_index"]) == (0.25, 0.13, 1)
    assert told["diffusion"]["mask"]["ellipse"] == mask["ellipse"]
    for job_id in two:
        service.request("DELETE", f"/v1/inversions/{job_id}")
    files = service.jobs.files
    assert (files[ArtifactKey.photo(told["id"])], files[ArtifactKey.face(told["id"])]) == (CONTEXT, FACE)
    service.jobs.run(told["id"])
    assert service.get(told["links"]["self"]).json()["status"] == "succeeded"


def test_of_two_photos(service: Service) -> None:
    face, context = {"image": url_of(FACE), "quad": QUAD}, {"image": url_of(CONTEXT), "align": False}
    told = asked(service, face, context, metadata={"a": 1}).json()
    assert (told["options"]["align"], told["options"]["optimizer"], told["metadata"]) == (False, "adam", {"a": 1})
    assert (told["diffusion"]["face_quad"], told["diffusion"]["mask"]) == (QUAD, None)
    assert service.jobs.files[ArtifactKey.face(told["id"])] == FACE


def test_what_goes_on_from_it_and_what_repeats_it(service: Service, two: tuple[str, str]) -> None:
    first = asked(service, {"inversion": two[0]}, {"inversion": two[1]}).json()
    service.jobs.start(first["id"])
    service.jobs.find(first["id"], 3)
    service.jobs.change(first["id"], JobCanceled(), status=JobStatus.CANCELED)
    again = service.post("/v1/inversions", json={"source": {"inversion": first["id"]}}).json()
    assert again["diffusion"] == first["diffusion"]
    assert service.jobs.files[ArtifactKey.face(again["id"])] == FACE


def test_once_and_waited_for(service: Service, two: tuple[str, str]) -> None:
    body = {"face": {"inversion": two[0]}, "context": {"inversion": two[1]}}
    headers = {"Idempotency-Key": "k"}
    first = service.post(URL, json=body, headers=headers).json()["id"]
    assert service.post(URL, json=body, headers=headers).json()["id"] == first
    refused(service.post(URL, json={**body, "weight": 0}, headers=headers), 422, "idempotency-key-reused")
    service.jobs.runs = True
    waited = service.post(URL, json=body, headers={"Prefer": "wait=5"})
    assert (waited.status_code, waited.json()["status"]) == (200, "succeeded")


@pytest.mark.parametrize(
    "more",
    [{"weight": 2}, {"ring": -1}, {"mask": {}}, {"mask": {"box": [0, 0, 1]}},
     {"options": {"face": 1}}, {"options": {"align": False}}, {"options": {"start": "latents"}},
     {"options": {"steps": -1}}, {"options": {"optimizer": "nope"}}, {"metadata": {"a": 3000 * "x"}}],
)  # fmt: skip
def test_options_that_are_none(service: Service, two: tuple[str, str], more: dict[str, Any]) -> None:
    refused(asked(service, {"inversion": two[0]}, {"inversion": two[1]}, **more), 422, "option-invalid")


def test_photos_that_are_none(service: Service, two: tuple[str, str]) -> None:
    good = {"inversion": two[0]}
    for side in ("face", "context"):
        for bad, status, slug in (
            ({"inversion": "f" * 32}, 404, "inversion-not-found"),
            ({"image": url_of(b"x")}, 415, "picture-unsupported"),
            ({"image": "x"}, 422, "data-url-invalid"),
            ({"image": url_of(FACE), "quad": [[0, 0], [0, 1], [1, 1], [1, 0]]}, 422, "quad-invalid"),
            ({"image": url_of(FACE), "face": 1, "align": False}, 422, "option-invalid"),
            ({}, 422, "option-invalid"),
            ({"nope": 1}, 422, "option-invalid"),
        ):
            refused(service.post(URL, json={"face": good, "context": good} | {side: bad}), status, slug)
    service.jobs.change(two[1], tenant="other")
    refused(asked(service, good, {"inversion": two[1]}), 404, "inversion-not-found")
    del service.jobs.files[ArtifactKey.photo(two[0])]
    refused(asked(service, good, good), 404, "inversion-not-found")
    refused(service.post(URL, content=b"x", headers={"content-type": "text/plain"}), 415, "not-json")


def test_both_python_clients(service: Service, portal: BlockingPortal, two: tuple[str, str]) -> None:
    line = Line(service.app)
    with InversionClient("http://localhost", transport=BlockingLine(portal, line)) as client:
        told = client.diffuse(two[0], two[1], weight=0.25, steps=7)
        assert told.diffusion is not None
        assert (told.diffusion["weight"], told.options["steps"]) == (0.25, 7)

    async def asynchronous() -> str:
        async with AsyncInversionClient("http://localhost", transport=line) as client:
            return (await client.diffuse(FACE, CONTEXT, mask={"box": [0.2, 0.2, 0.8, 0.8]}, metadata={"a": 1})).id

    job_id = portal.call(asynchronous)
    assert service.jobs.files[ArtifactKey.face(job_id)] == FACE
    assert service.jobs.records[job_id].metadata == {"a": 1}
