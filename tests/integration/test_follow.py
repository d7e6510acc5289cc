"""Following an inversion through everything that goes wrong: cut connections, killed processes, silent receivers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import anyio
import httpx
import pytest
from api_process import ApiProcess
from standardwebhooks import Webhook
from worker_process import StartWorker

from inversion_app.signing import make_secret
from inversion_worker.client import JobClient, Outbox, connect_async
from inversion_worker.contract import EventKind, JobOptions
from inversion_worker.settings import WorkerSettings

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SECRET = make_secret()
StartApi = Callable[..., ApiProcess]


@pytest.fixture
def start_api(settings: WorkerSettings, tmp_path: Path) -> Iterator[StartApi]:
    """Starts API processes on the test's Valkey; what still runs when the test ends is killed."""
    started: list[ApiProcess] = []

    def start(**env: object) -> ApiProcess:
        place = {"INVERSION_REDIS_URL": settings.redis_url, "INVERSION_ARTIFACTS_URL": settings.artifacts_url}
        started.append(ApiProcess(place | env, tmp_path / f"api-{len(started)}.log"))
        started[-1].wait_ready()
        return started[-1]

    yield start
    for api in started:
        api.kill()


class Receiver:
    """An HTTP server that notes what it is told; `answers` are its first statuses, afterwards it is content."""

    def __init__(self, answers: list[int] | None = None) -> None:
        self.got: list[tuple[float, dict[str, str], bytes]] = []
        self.answers = answers or []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(
                    (time.monotonic(), {name.lower(): value for name, value in self.headers.items()}, body)
                )
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Silence."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def kinds(self) -> list[str]:
        return [json.loads(body)["type"].removeprefix("inversion.") for _, _, body in self.got]

    async def told(self, kind: str) -> None:
        """Until this has come."""
        with anyio.fail_after(30):
            while kind not in self.kinds:
                await anyio.sleep(0.05)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


HOOKS = {
    "INVERSION_WEBHOOK_SECRET": SECRET,
    "INVERSION_WEBHOOK_ALLOW_HTTP": "1",
    "INVERSION_WEBHOOK_ALLOW_HOSTS": "127.0.0.1",
    "INVERSION_WEBHOOK_RETRY_S": "0.2",
}


def submit(api: ApiProcess, photo: bytes, **fields: object) -> str:
    """The address of a new inversion."""
    answer = httpx.post(
        f"{api.url}/v1/inversions", files={"image": photo}, data={name: str(value) for name, value in fields.items()}
    )
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


async def test_no_event_is_lost_however_often_the_connection_is(
    start_api: StartApi, start_worker: StartWorker, photo: bytes
) -> None:
    """The stream is cut in the middle again and again, and taken up at another process."""
    apis = [start_api(INVERSION_KEEP_ALIVE_S="0.2"), start_api(INVERSION_KEEP_ALIVE_S="0.2")]
    start_worker(FAKE_STEP_S=0.01)
    address = submit(apis[0], photo, steps=100, frame_every=1)
    got: list[tuple[str, str]] = []
    connections = 0
    async with httpx.AsyncClient(timeout=30) as http:
        while not got or got[-1][1] not in ("done", "failed", "canceled"):
            headers = {"Last-Event-ID": got[-1][0]} if got else {}
            url = f"{apis[connections % 2].url}{address}/events"
            connections += 1
            async with http.stream("GET", url, headers=headers) as stream:
                identifier, taken = "", 0
                async for line in stream.aiter_lines():
                    if line.startswith("id: "):
                        identifier = line[4:]
                    if line.startswith("event: "):
                        got.append((identifier, line[7:]))
                        taken += 1
                    if taken == 7:
                        break  # in the middle of an event, its data unread
        every = (await http.get(f"{apis[0].url}{address}/events")).text
    assert connections > 10
    assert [kind for _, kind in got] == ["queued", "started", *["frame"] * 101, "done"]
    assert [identifier for identifier, _ in got] == [line[4:] for line in every.splitlines() if line.startswith("id: ")]


async def test_silence_is_filled_with_comments(start_api: StartApi, photo: bytes) -> None:
    api = start_api(INVERSION_KEEP_ALIVE_S="0.1")
    address = submit(api, photo)  # there is no worker
    comments = 0
    async with httpx.AsyncClient(timeout=10) as http, http.stream("GET", f"{api.url}{address}/events") as stream:
        assert stream.headers["x-accel-buffering"] == "no"
        with anyio.fail_after(10):
            async for line in stream.aiter_lines():
                comments += line.startswith(":")
                if comments == 3:
                    break


async def test_webhook_is_told_signed_and_not_too_often(
    start_api: StartApi, start_worker: StartWorker, receiver: Receiver, photo: bytes
) -> None:
    start_worker(FAKE_STEP_S=0.02)
    receiver.answers = [500]
    api = start_api(**HOOKS)
    submit(api, photo, steps=100, frame_every=1, webhook=receiver.url, webhook_events=",".join(EventKind))
    await receiver.told("done")
    kinds = receiver.kinds
    assert kinds[:3] == ["queued", "queued", "started"]
    assert kinds[-1] == "done"
    assert 1 <= kinds.count("frame") < 20
    assert kinds.count("frame") + 4 == len(kinds)
    times = [at for at, _, _ in receiver.got]
    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.45
    for _, headers, body in receiver.got:
        assert Webhook(SECRET).verify(body, headers)
        assert b"webp" not in body
    assert receiver.got[0][1]["webhook-id"] == receiver.got[1][1]["webhook-id"]


async def test_stream_and_webhook_of_a_running_inversion_that_is_deleted(
    start_api: StartApi, start_worker: StartWorker, receiver: Receiver, photo: bytes, settings: WorkerSettings
) -> None:
    start_worker(FAKE_STEP_S=0.02)
    receiver.answers = [500]
    api = start_api(**HOOKS)
    address = submit(api, photo, steps=1000, webhook=receiver.url)
    async with httpx.AsyncClient(timeout=30) as http, http.stream("GET", f"{api.url}{address}/events") as stream:
        lines = stream.aiter_lines()
        with anyio.fail_after(30):
            while not (await anext(lines)).startswith("event: frame"):
                pass
            assert httpx.delete(f"{api.url}{address}").status_code == 204
            rest = [line async for line in lines if line.startswith("event: ")]
    assert rest[-1] == "event: deleted"
    await receiver.told("deleted")
    with anyio.fail_after(30):
        while len(receiver.got) < 2:  # the first try failed
            await anyio.sleep(0.05)
    assert receiver.kinds == ["deleted", "deleted"]
    assert json.loads(receiver.got[1][2])["data"] == {"id": address.rpartition("/")[2]}
    redis = connect_async(settings.redis_url)
    with anyio.fail_after(10):
        while await redis.exists(f"inversion:farewell:{address.rpartition('/')[2]}"):
            await anyio.sleep(0.05)
    await redis.aclose()


async def test_webhook_survives_the_process_that_was_to_call_it(
    start_api: StartApi, start_worker: StartWorker, receiver: Receiver, photo: bytes
) -> None:
    receiver.answers = [503] * 1000
    first = start_api(**HOOKS)
    submit(first, photo, steps=3, webhook=receiver.url)
    start_worker()
    await receiver.told("done")
    first.kill()
    receiver.answers = []
    before = len(receiver.got)
    start_api(**HOOKS)
    with anyio.fail_after(40):  # until the claim of the dead process has ended
        while len(receiver.got) == before:
            await anyio.sleep(0.05)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.got}) == 1


async def test_an_address_inside_is_never_called(
    start_api: StartApi, start_worker: StartWorker, receiver: Receiver, photo: bytes, settings: WorkerSettings
) -> None:
    """Accepted once, when the setting allowed it; refused when the connection is made."""
    client = JobClient.from_settings(settings)
    job = await client.submit(photo, JobOptions(steps=1, webhook=receiver.url))
    start_api(**HOOKS | {"INVERSION_WEBHOOK_ALLOW_HOSTS": "", "INVERSION_WEBHOOK_TRIES": "2"})
    start_worker()
    outbox = connect_async(settings.redis_url)
    with anyio.fail_after(30):
        while json.loads(await outbox.hget(f"inversion:job:{job.id}", "_hook") or '["0"]')[0] == "0":
            await anyio.sleep(0.05)
        while await outbox.zcard("inversion:webhooks"):
            await anyio.sleep(0.05)
    assert receiver.got == []
    await outbox.aclose()
    await client.close()


async def test_the_outbox_gives_a_job_to_one_at_a_time_and_forgets_none(settings: WorkerSettings, photo: bytes) -> None:
    client = JobClient.from_settings(settings)
    redis = connect_async(settings.redis_url)
    outbox = Outbox(redis)
    job = await client.submit(photo, JobOptions(webhook="https://editor.example/", webhook_events=tuple(EventKind)))
    await client.submit(photo, JobOptions())  # without a webhook there is nothing to tell
    assert await outbox.claim(10, 0.2) == [job.id]
    assert await outbox.claim(10, 0.2) == []
    await anyio.sleep(0.25)
    assert await outbox.claim(10, 30) == [job.id]  # who had it has died

    unsent = await outbox.unsent(job.id)
    assert unsent is not None
    ((event_id, _),) = unsent.events
    await client.cancel(job.id)  # said while the message was on its way
    await outbox.rest(job.id, event_id)
    assert await outbox.claim(10, 0) == [job.id]
    unsent = await outbox.unsent(job.id)
    assert unsent is not None
    assert [event.kind for _, event in unsent.events] == ["canceled"]
    await outbox.rest(job.id, unsent.events[-1][0])
    assert await outbox.claim(10, 0) == []

    await outbox.settle(job.id, event_id, 3, 0)
    assert await outbox.claim(10, 0) == [job.id]
    await client.delete(job.id)
    assert await outbox.unsent(job.id) is None
    await outbox.settle(job.id, event_id, 4, 0)  # of one that was deleted meanwhile
    assert await redis.keys(f"*{job.id}*") == []
    assert await outbox.claim(10, 0) == []
    await redis.aclose()
    await client.close()
