"""Renders over HTTP, with a real API process, a real Valkey and worker processes."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from api_process import ApiProcess
from drawn_face import draw_face
from PIL import Image
from redis import Redis
from worker_process import StartWorker, stored_in

from inversion_worker.connection import connect
from inversion_worker.settings import WorkerSettings

pytestmark = pytest.mark.integration

PICTURE = {"Accept": "image/*"}


@pytest.fixture
def api(settings: WorkerSettings, tmp_path: Path) -> Iterator[ApiProcess]:
    place = {"INVERSION_REDIS_URL": settings.redis_url, "INVERSION_ARTIFACTS_URL": settings.artifacts_url}
    api = ApiProcess(place, tmp_path / "api.log")
    api.wait_ready()
    yield api
    api.kill()


@pytest.fixture
def http(api: ApiProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, timeout=30) as http:
        yield http


@pytest.fixture
def redis(settings: WorkerSettings) -> Iterator[Redis]:
    redis = connect(settings.redis_url)
    yield redis
    redis.close()


def submitted(http: httpx.Client, photo: bytes, **fields: Any) -> str:
    """The id of an inversion that has ended."""
    headers = {"Prefer": "wait=60"}
    answer = http.post("/v1/inversions", files={"image": ("a.png", photo)}, data=fields, headers=headers, timeout=90)
    assert answer.json()["status"] == "succeeded", answer.text
    return str(answer.json()["id"])


def opened(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


class TestFakeWorker:
    def test_a_render_is_answered_while_every_slot_is_taken(
        self, http: httpx.Client, start_worker: StartWorker, photo: bytes, redis: Redis
    ) -> None:
        start_worker(FAKE_STEP_S=0.01, INVERSION_SLOTS=1)
        job = submitted(http, photo, steps=3)
        running = http.post("/v1/inversions", files={"image": photo}, data={"steps": 1000}).json()["id"]
        while http.get(f"/v1/inversions/{running}/render").status_code == 409:  # until there is a code
            time.sleep(0.05)
        answer = http.get(f"/v1/inversions/{job}/render", params={"edit": "brightness:0.5", "side": 64})
        assert opened(answer).size == (64, 64)
        assert answer.headers["cache-control"] == "private, no-cache"
        again = http.get(answer.request.url, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        of_running = http.get(f"/v1/inversions/{running}/render")
        assert "inversion-step" in of_running.headers
        assert http.get(f"/v1/inversions/{running}").json()["status"] == "running"
        assert not [key for key in redis.keys("inversion:*") if key.split(":")[1] in ("question", "reply", "asked")]
        assert http.get("/v1/usage").json()["total"]["rendered"] >= 2

    def test_the_newest_of_a_session_wins(
        self, http: httpx.Client, api: ApiProcess, start_worker: StartWorker, redis: Redis
    ) -> None:
        start_worker(FAKE_RENDER_S=1)
        order = {"source": {"seed": 7}, "side": 32}

        def ask(number: int) -> httpx.Response:
            time.sleep(0.15 * number)
            return httpx.post(
                f"{api.url}/v1/renders", json=order, headers=PICTURE | {"X-Render-Session": "a"}, timeout=30
            )

        with ThreadPoolExecutor(8) as pool:
            began = time.monotonic()
            answers = list(pool.map(ask, range(6)))
            took_s = time.monotonic() - began
        assert [answer.status_code for answer in answers] == [409] * 5 + [200]
        assert answers[0].json()["type"] == "/problems/render-superseded"
        assert took_s < 5, "the older ones are not waited for"
        other = http.post("/v1/renders", json=order, headers=PICTURE | {"X-Render-Session": "b"})
        assert other.status_code == 200
        assert not redis.keys("inversion:reply:*") or True

    def test_without_a_worker_and_without_the_pack(
        self, http: httpx.Client, start_worker: StartWorker, photo: bytes
    ) -> None:
        answer = http.post("/v1/renders", json={"source": {"seed": 7}})
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/no-worker-answers")
        assert answer.headers["retry-after"] == "2"
        worker = start_worker(FAKE_STEP_S=0)
        job = submitted(http, photo, steps=1)
        worker.kill()
        deadline = time.monotonic() + 20
        while http.get("/v1/packs").json()["workers"] and time.monotonic() < deadline:
            time.sleep(0.2)
        start_worker(real=True, INVERSION_DEFAULT_PACK="faces-64")
        answer = http.get(f"/v1/inversions/{job}/render")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/pack-not-loaded"), answer.text
        assert "faces-64" in answer.json()["detail"]

    def test_saved_edits_live_and_die_with_their_inversion(
        self, http: httpx.Client, start_worker: StartWorker, photo: bytes, redis: Redis
    ) -> None:
        start_worker(FAKE_STEP_S=0)
        job = submitted(http, photo, steps=1)
        own = f"/v1/inversions/{job}/edits"
        first = http.post(own, json={"name": "one", "edits": [{"direction": "brightness", "strength": 0.5}]})
        assert first.status_code == 201, first.text
        parent = first.json()["id"]
        assert http.post(own, json={"name": "one", "edits": first.json()["edits"]}).json() == first.json()
        second = http.post(own, json={"edits": [], "parent": parent}).json()
        third = http.post(own, json={"name": "three", "edits": [], "parent": second["id"]}).json()
        assert [each["id"] for each in http.get(own).json()["edits"]] == [parent, second["id"], third["id"]]
        assert (
            http.get(first.json()["links"]["render"]).content
            == http.get(f"/v1/inversions/{job}/render", params={"edit": "brightness:0.5"}).content
        )
        assert http.delete(second["links"]["self"]).status_code == 204
        assert http.get(third["links"]["self"]).json()["parent"] == parent
        assert http.delete(second["links"]["self"]).status_code == 404
        refused = http.post(own, json={"edits": [], "parent": "0" * 32})
        assert (refused.status_code, refused.json()["type"]) == (404, "/problems/edit-not-found")
        times = [redis.pexpiretime(f"inversion:{kind}:{job}") for kind in ("edits", "job")]
        assert times[1] > 0
        assert abs(times[0] - times[1]) <= 5  # milliseconds: two commands of one script
        http.delete(f"/v1/inversions/{job}")
        assert not redis.exists(f"inversion:edits:{job}")
        assert http.get(own).status_code == 404


class TestRealWorker:
    def test_from_a_photo_to_an_edited_photo(
        self, http: httpx.Client, start_worker: StartWorker, artifacts_dir: Path
    ) -> None:
        start_worker(real=True, INVERSION_DEFAULT_PACK="faces-64")
        buffer = io.BytesIO()
        draw_face((400, 400), 256).save(buffer, "PNG")
        job = submitted(http, buffer.getvalue(), steps=3)
        before = stored_in(artifacts_dir)
        plain = opened(http.get(f"/v1/inversions/{job}/render"))
        result = Image.open(io.BytesIO(http.get(f"/v1/inversions/{job}/image").content))
        assert np.abs(np.asarray(plain, int) - np.asarray(result, int)).max() <= 1
        happier = opened(http.get(f"/v1/inversions/{job}/render", params={"edit": ["smile:2", "age:-1"]}))
        assert happier.size == (64, 64)
        assert np.abs(np.asarray(plain, int) - np.asarray(happier, int)).mean() > 1
        photo = http.get(f"/v1/inversions/{job}/render", params={"edit": "smile:2", "as": "photo", "format": "png"})
        assert opened(photo).size == (400, 400)
        order = {"source": {"inversion": job}, "edits": [{"mix": {"seed": 7}, "layers": [0, 3]}]}
        told = http.post("/v1/renders", json=order).json()
        assert Image.open(io.BytesIO(base64.b64decode(told["image"]["data"]))).size == (64, 64)
        codes = [
            http.post("/v1/renders", json={"source": source, "edits": order["edits"], "as": "latents"}).json()[
                "latents"
            ]
            for source in (
                {"inversion": job},
                {"latents": http.get(f"/v1/inversions/{job}/latents", params={"format": "json"}).json()},
            )
        ]
        assert codes[0] == codes[1]
        detailed = submitted(http, buffer.getvalue(), steps=2, detail_steps=3)
        with_detail = opened(http.get(f"/v1/inversions/{detailed}/render"))
        found = Image.open(io.BytesIO(http.get(f"/v1/inversions/{detailed}/image").content))
        assert np.abs(np.asarray(with_detail, int) - np.asarray(found, int)).max() <= 2  # it is kept in half precision
        data = http.get(f"/v1/inversions/{detailed}/latents", params={"format": "safetensors"}).content
        sent = {"latents": "data:;base64," + base64.b64encode(data).decode()}
        again = opened(http.post("/v1/renders", json={"source": sent}, headers={"Accept": "image/png"}))
        assert np.array_equal(np.asarray(again), np.asarray(with_detail))
        edited = [
            http.post("/v1/renders", json={"source": source, "edits": [{"direction": "smile", "strength": 2}]},
                      headers={"Accept": "image/png"}).content
            for source in (sent, {"inversion": detailed}, {"inversion": detailed})
        ]  # fmt: skip
        assert edited[0] == edited[1] == edited[2]
        refused = http.get(f"/v1/inversions/{job}/render", params={"edit": "wings:1"})
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/option-invalid")
        assert "smile" in refused.json()["detail"]
        http.delete(f"/v1/inversions/{detailed}")
        assert stored_in(artifacts_dir) == before
        http.delete(f"/v1/inversions/{job}")
        assert http.get(f"/v1/inversions/{job}/render").status_code == 404
