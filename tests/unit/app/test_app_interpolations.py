"""Films over the API: what the worker is asked, and what is refused."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import pytest
from anyio.from_thread import BlockingPortal
from app_clients import BlockingLine, Line
from app_fakes import npy
from app_service import Service, refused, url_of

from inversion_client import AsyncInversionClient, InversionClient
from inversion_worker.client import NobodyAnswers, SourceCode
from inversion_worker.contract import ArtifactKey, FilmFormat, FilmOrder, Way

pytestmark = pytest.mark.unit

URL = "/v1/interpolations"
CODE = np.linspace(-1, 1, 10 * 128, dtype=np.float32).reshape(10, 128)


def filmed(service: Service, from_: Any, to: Any, **more: Any) -> FilmOrder:
    """What the worker was asked."""
    answer = service.post(URL, json={"from": from_, "to": to, **more})
    assert answer.status_code == 200, answer.text
    assert answer.content == b"film"
    assert answer.headers["cache-control"] == "private, no-store"
    return service.jobs.films[-1]


@pytest.fixture
def done(service: Service) -> str:
    job_id = service.submitted()
    service.jobs.run(job_id)
    return job_id


def test_from_code_to_code(service: Service, done: str) -> None:
    order = filmed(service, {"inversion": done}, {"seed": 8}, frames=10, kind="spherical", side=256, fps=12.5)
    assert order.last is not None
    assert (order.first.source, order.last.source) == ({"inversion": done}, {"seed": 8})
    assert (order.first.ended, order.first.side, order.first.pack) == ({done: True}, 256, "faces-64")
    assert (order.frames, order.way, order.fps, order.there_and_back) == (10, Way.SPHERICAL, 12.5, False)
    for code in (CODE.tolist(), url_of(npy(CODE))):
        order = filmed(service, {"latents": code}, {"latents": code})
        assert order.last is not None
        code_ = SourceCode.from_bytes(base64.b64decode(order.last.source["code"]))
        assert np.allclose(code_.w_LD, CODE)


def test_to_edits(service: Service, done: str) -> None:
    service.post("/v1/packs/faces-64/directions", json={"name": "mine", "direction": CODE.tolist()})
    edits = [{"direction": "mine", "strength": 2}, {"truncate": 0.5}]
    order = filmed(service, {"inversion": done}, edits, there_and_back=True)
    assert (order.last, order.first.edits, order.there_and_back) == (None, edits, True)
    assert order.first.directions == {"mine": ArtifactKey.direction(service.jobs.own_directions[0].id)}
    assert filmed(service, {"seed": 1}, []).first.edits == []


@pytest.mark.parametrize("format", list(FilmFormat))
def test_formats(service: Service, format: FilmFormat) -> None:
    answer = service.post(URL, json={"from": {"seed": 1}, "to": {"seed": 2}, "format": format.value})
    assert answer.headers["content-type"] == format.media_type
    assert service.jobs.films[-1].format is format


def test_packs(service: Service, done: str) -> None:
    order = filmed(service, {"seed": 1, "pack": "small"}, {"seed": 2})
    assert order.last is not None
    assert order.last.pack == "small"
    service.jobs.change(done, pack_digest="sha256:cd")
    answer = service.post(URL, json={"from": {"inversion": done}, "to": {"seed": 1, "pack": "small"}})
    assert "`to`" in refused(answer, 422, "option-invalid")


@pytest.mark.parametrize(
    "body",
    [{}, {"from": {"seed": 1}}, {"from": {"seed": 1}, "to": {}}, {"from": {"seed": 1}, "to": 1},
     {"from": {"seed": 1}, "to": {"seed": 2}, "frames": 1}, {"from": {"seed": 1}, "to": {"seed": 2}, "frames": 61},
     {"from": {"seed": 1}, "to": {"seed": 2}, "side": 513}, {"from": {"seed": 1}, "to": {"seed": 2}, "fps": 0},
     {"from": {"seed": 1}, "to": {"seed": 2}, "kind": "cubic"}, {"from": {"seed": 1}, "to": [{"nope": 1}]},
     {"from": [], "to": {"seed": 1}}],
)  # fmt: skip
def test_what_is_no_request(service: Service, body: dict[str, Any]) -> None:
    answer = service.post(URL, json=body)
    assert (answer.status_code, answer.json()["type"][10:]) in ((422, "option-invalid"), (422, "option-unknown"))
    assert service.jobs.films == []


def test_whose_and_when(service: Service, done: str) -> None:
    def asked(**ends: Any) -> httpx.Response:
        return service.post(URL, json={"from": {"seed": 1}, "to": {"seed": 2}} | ends)

    for end in ("from", "to"):
        refused(asked(**{end: {"inversion": "f" * 32}}), 404, "inversion-not-found")
        refused(asked(**{end: {"inversion": service.submitted()}}), 409, "result-not-ready")
        refused(asked(**{end: {"latents": [[1]]}}), 422, "latents-invalid")
    service.jobs.change(done, tenant="other")
    refused(asked(to={"inversion": done}), 404, "inversion-not-found")
    service.jobs.refusal = NobodyAnswers("none")
    refused(asked(), 503, "no-worker-answers")


def test_both_python_clients(service: Service, portal: BlockingPortal, done: str) -> None:
    line = Line(service.app)
    with InversionClient("http://localhost", transport=BlockingLine(portal, line)) as client:
        assert client.interpolate(done, {"smile": 1.5}, frames=5, there_and_back=True) == b"film"
        assert service.jobs.films[-1].first.edits == [{"direction": "smile", "strength": 1.5}]
        client.interpolate(CODE, {"seed": 3}, format="gif", side=64)
        assert service.jobs.films[-1].format is FilmFormat.GIF

    async def asynchronous() -> None:
        async with AsyncInversionClient("http://localhost", transport=line) as client:
            await client.interpolate({"seed": 1}, [{"truncate": 0.5}], kind="linear", fps=10)

    portal.call(asynchronous)
    assert service.jobs.films[-1].first.edits == [{"truncate": 0.5}]
