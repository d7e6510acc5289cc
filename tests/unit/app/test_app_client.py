"""The Python client, blocking and asynchronous, against the whole application."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from threading import Timer
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
from anyio.from_thread import BlockingPortal
from app_clients import LOST, REFUSED, AnyClient, Awaited, BlockingLine, Line
from app_fakes import FakeJobClient, picture_bytes
from app_keyring import Ring, stores_of
from app_service import Service, running
from safetensors import numpy as safetensors

import inversion_client as ic
from inversion_app.settings import AppSettings
from inversion_client import AsyncInversionClient, InversionClient, Retries
from inversion_worker.contract import ArtifactKey, JobStatus

pytestmark = pytest.mark.unit

FAST = Retries(times=3, first_s=0.001)
Connect = Callable[..., AnyClient]


@pytest.fixture(params=["blocking", "asynchronous"])
def connect(request: pytest.FixtureRequest, portal: BlockingPortal) -> Iterator[Connect]:
    """Makes a client on a line."""
    made: list[InversionClient | AsyncInversionClient] = []

    def connect(line: Line, **options: Any) -> AnyClient:
        options = {"url": "http://localhost", "retries": FAST} | options
        if request.param == "blocking":
            made.append(blocking := InversionClient(transport=BlockingLine(portal, line), **options))
            return blocking
        made.append(asynchronous := AsyncInversionClient(transport=line, **options))
        return Awaited(portal, asynchronous)

    yield connect
    for client in made:
        if isinstance(client, InversionClient):
            client.close()
        else:
            portal.call(client.aclose)


@pytest.fixture
def line(service: Service) -> Line:
    return Line(service.app)


@pytest.fixture
def client(connect: Connect, line: Line) -> AnyClient:
    return connect(line)


def test_the_whole_way(client: AnyClient, service: Service, tmp_path: Path) -> None:
    """Submit, follow, wait, fetch, delete."""
    inversion = client.submit(picture_bytes(), steps=7, align=False, start="mean", priority="high")
    assert (inversion.status, inversion.steps, inversion.queue_position) == ("queued", 7, 0)
    assert inversion.options["start"] == "mean"
    assert inversion.options["align"] is False
    service.jobs.run(inversion.id)
    events = list(client.events(inversion))
    assert [event.kind for event in events] == ["queued", "started", "frame", "frame", "done"]
    assert (events[1].steps, events[3].step, events[3].loss) == (7, 5, 0.25)
    ended = client.wait(inversion)
    assert ended.pack is not None
    assert ended.face is not None
    assert (ended.pack.name, ended.best_loss, ended.face.quad[0]) == ("faces-64", 0.25, (1.0, 1.0))  # type: ignore[index]
    assert ended.created_at.tzinfo is not None
    assert client.code(ended).shape == (10, 128)
    assert [frame.step for frame in client.frames(ended)] == [0, 5]
    assert client.frame(ended, 5) == service.jobs.files[ArtifactKey.frame(ended.id, 5)]
    assert client.download(ended, "image", to=tmp_path) == tmp_path / "reconstruction.png"
    assert (tmp_path / "reconstruction.png").read_bytes() == service.jobs.files[ArtifactKey.image(ended.id)]
    client.delete(ended)
    with pytest.raises(ic.NotFound):
        client.get(ended)


def test_the_faces_of_a_photo_and_one_of_them_by_its_quad(client: AnyClient, service: Service) -> None:
    seen = client.faces(picture_bytes())
    assert (seen.photo, len(seen.faces)) == (ic.PhotoSize(width=96, height=80), 2)
    second = seen.faces[1]
    assert (second.box, second.landmarks[2], second.score) == ((51.0, 2.0, 57.0, 8.0), (54.0, 5.0), 0.99)
    assert second.warnings == (ic.PhotoWarning(kind="cut-by-border", detail="The border cuts it."),)
    by_quad = client.submit(picture_bytes(), quad=second.quad)
    assert service.jobs.records[by_quad.id].options.quad == second.quad
    flat = client.submit(picture_bytes(), quad=[part for corner in second.quad for part in corner])
    assert service.jobs.records[flat.id].options.quad == second.quad
    inversion = client.submit(picture_bytes(), face=1)
    service.jobs.run(inversion.id)
    ended = client.wait(inversion)
    assert (ended.faces, ended.photo, ended.face_index) == (seen.faces, seen.photo, 0)
    assert ended.warnings == seen.faces[0].warnings


@pytest.mark.parametrize("way", ["path", "text", "bytes", "file"])
def test_ways_to_hand_in_a_photo(client: AnyClient, service: Service, tmp_path: Path, way: str) -> None:
    file = tmp_path / "gr\u00fc\u00dfe.png"
    file.write_bytes(picture_bytes())
    with file.open("rb") as opened:
        photo: Any = {"path": file, "text": str(file), "bytes": picture_bytes(), "file": opened}[way]
        inversion = client.submit(photo)
    assert service.jobs.files[ArtifactKey.photo(inversion.id)] == picture_bytes()


def test_a_file_of_text_is_refused_before_anything_is_sent(client: AnyClient, line: Line) -> None:
    with pytest.raises(ValueError, match="'rb'"):
        client.submit(io.StringIO("photo"))  # type: ignore[arg-type]
    assert line.seen == []


def test_mask_code_and_lists_of_options(client: AnyClient, service: Service) -> None:
    w_LD = np.linspace(-1, 1, 1280).reshape(10, 128)
    inversion = client.submit(
        picture_bytes(),
        mask=picture_bytes(mode="L"),
        latents=w_LD,
        webhook="https://example.com/hook",
        webhook_events=["done", "failed"],
        target_loss=None,
    )
    assert inversion.masked
    assert inversion.options["start"] == "latents"
    assert inversion.options["webhook_events"] == ["done", "failed"]
    stored = np.load(io.BytesIO(service.jobs.files[ArtifactKey.start(inversion.id)]))
    np.testing.assert_array_equal(stored, w_LD.astype(np.float32))


def test_waiting_in_the_request_itself(client: AnyClient, service: Service) -> None:
    service.jobs.runs = True
    assert client.submit(picture_bytes(), wait_s=1.5).status == "succeeded"


@pytest.mark.parametrize("fault", [LOST, REFUSED])
def test_a_lost_answer_makes_no_second_inversion(client: AnyClient, line: Line, service: Service, fault: str) -> None:
    line.faults = [fault, fault]
    inversion = client.submit(picture_bytes())
    assert list(service.jobs.records) == [inversion.id]
    assert len({request.headers["idempotency-key"] for request in line.seen}) == 1
    assert len(line.seen) == 3
    client.submit(picture_bytes())
    assert len(service.jobs.records) == 2


def test_a_key_of_ones_own_makes_one_inversion_across_processes(client: AnyClient) -> None:
    first, second = (client.submit(picture_bytes(), steps=5, idempotency_key="order-17") for _ in range(2))
    assert first.id == second.id
    with pytest.raises(ic.ProblemError) as caught:
        client.submit(picture_bytes(), steps=6, idempotency_key="order-17")
    assert caught.value.type == "/problems/idempotency-key-reused"


def test_nobody_is_there(client: AnyClient, line: Line) -> None:
    line.faults = [REFUSED] * 9
    with pytest.raises(ic.ServiceUnreachable, match=r"GET http://localhost/v1/packs: nobody is there"):
        client.packs()
    assert len(line.seen) == 1 + FAST.times


def test_a_refusal_has_the_fields_of_the_problem(client: AnyClient, line: Line) -> None:
    with pytest.raises(ic.ProblemError) as caught:
        client.submit(picture_bytes(), steps=100_000)
    error = caught.value
    assert (error.type, error.status, error.instance) == ("/problems/option-invalid", 422, "/v1/inversions")
    assert error.title == "An option is not valid"
    assert "`steps`" in error.detail
    assert error.request_id
    assert str(error) == f"{error.title}: {error.detail}"
    assert len(line.seen) == 1


def test_results_that_are_not_there(client: AnyClient, service: Service) -> None:
    inversion = client.submit(picture_bytes())
    with pytest.raises(ic.ProblemError) as caught:
        client.code(inversion)
    assert caught.value.type == "/problems/result-not-ready"
    service.jobs.expire(inversion.id)
    with pytest.raises(ic.Gone):
        client.get(inversion)
    with pytest.raises(ValueError, match="no result 'picture'"):
        client.download(inversion, "picture")  # type: ignore[call-overload]


def test_waiting_shows_progress_and_asks_for_changes_alone(client: AnyClient, service: Service, line: Line) -> None:
    inversion = client.submit(picture_bytes())
    steps: list[int | None] = []

    def on_progress(now: ic.Inversion) -> None:
        steps.append(now.step)
        if now.step is None:
            service.jobs.start(now.id)
            service.jobs.step(now.id, 0, 0.5)
        elif len(line.seen) > 4:
            service.jobs.succeed(now.id)
        else:
            service.jobs.step(now.id, now.step + 5, 0.25)

    line.seen.clear()
    assert client.wait(inversion, on_progress=on_progress).status == "succeeded"
    assert steps[:3] == [None, 0, 5]
    assert "if-none-match" not in line.seen[0].headers
    assert all("if-none-match" in request.headers for request in line.seen[1:])


def test_waiting_ends_at_its_time(client: AnyClient) -> None:
    inversion = client.submit(picture_bytes())
    with pytest.raises(ic.WaitTimedOut, match=r"is queued after 0\.05 s"):
        client.wait(inversion, timeout_s=0.05)


def test_waiting_for_one_that_fails(client: AnyClient, service: Service) -> None:
    inversion = client.submit(picture_bytes())
    service.jobs.fail(inversion.id)
    with pytest.raises(ic.InversionFailed, match="No face was found") as caught:
        client.wait(inversion)
    assert (caught.value.type, caught.value.inversion.status) == ("/problems/no-face-found", "failed")
    again = client.retry(inversion)
    assert again.retry_of == inversion.id
    assert client.cancel(again).status == "canceled"
    with pytest.raises(ic.InversionCanceled):
        client.wait(again)


@pytest.mark.parametrize("how", ["deleted", "expired"])
def test_following_one_that_goes_before_its_end(client: AnyClient, service: Service, how: str) -> None:
    inversion = client.submit(picture_bytes())
    service.jobs.start(inversion.id)

    def go() -> None:  # meanwhile, elsewhere: the line between hands a stream on when it has ended
        while inversion.id not in service.jobs.followed:
            time.sleep(0.01)
        (service.jobs.expire(inversion.id) if how == "expired" else asyncio.run(service.jobs.delete(inversion.id)))

    timer = Timer(0, go)
    timer.start()
    events = list(client.events(inversion))
    timer.join()
    assert [event.kind for event in events] == ["queued", "started", how]
    assert events[-1].is_final


def test_good_enough(client: AnyClient, service: Service, line: Line) -> None:
    inversion = client.submit(picture_bytes())
    service.jobs.start(inversion.id)
    service.jobs.find(inversion.id, 28)
    line.faults = [LOST]
    running = client.finish(inversion)
    assert (running.status, running.result_step) == ("running", 28)
    assert service.jobs.to_finish == {inversion.id}
    assert (client.code(inversion) == 28).all()  # while it runs
    service.jobs.step(inversion.id, 30, 0.2)
    service.jobs.succeed(inversion.id)
    service.jobs.change(inversion.id, missing=[{"result": "pasted", "detail": "It broke."}])
    assert client.wait(inversion).missing == (ic.MissingResult(result="pasted", detail="It broke."),)


def test_repeating_once_more_after_a_lost_answer(client: AnyClient, line: Line, service: Service) -> None:
    inversion = client.submit(picture_bytes())
    service.jobs.fail(inversion.id)
    line.faults = [LOST]
    again = client.retry(inversion)
    assert list(service.jobs.records) == [inversion.id, again.id]
    assert client.retry(inversion).id != again.id  # each call is a wish of its own, unless one says otherwise
    mine = [client.retry(inversion, idempotency_key="order-18").id for _ in range(2)]
    assert len(set(mine)) == 1


def test_deleting_once_more_after_a_lost_answer(client: AnyClient, line: Line) -> None:
    inversion = client.submit(picture_bytes())
    line.faults = [LOST]
    client.delete(inversion)
    line.faults = [REFUSED]
    with pytest.raises(ic.NotFound):
        client.delete(inversion)


def test_batches(client: AnyClient, service: Service, line: Line) -> None:
    line.faults = [LOST]
    batch = client.submit_batch([picture_bytes(), picture_bytes("JPEG")], steps=5)
    assert (batch.total, batch.status, len(service.jobs.batches)) == (2, "queued", 1)
    first, second = (inversion.id for inversion in batch.inversions if inversion is not None)
    service.jobs.run(first)
    assert client.get_batch(batch).status == "running"
    service.jobs.fail(second)
    seen: list[str] = []
    ended = client.wait_batch(batch, on_progress=lambda now: seen.append(now.status))
    assert (ended.status, seen, ended.counts["succeeded"]) == ("failed", ["failed"], 1)
    client.delete(first)
    assert client.cancel_batch(batch.id).inversions[0] is None
    client.delete_batch(batch)
    assert service.jobs.batches == {}


@pytest.mark.parametrize(
    ("kind", "begins"),
    [
        ("image", b"\x89PNG"), ("aligned", b"\x89PNG"), ("pasted", b"\xff\xd8"), ("strip", b"\x89PNG"),
        ("animation", b"RIFF"), ("image.webp", b"RIFF"), ("image.jpeg", b"\xff\xd8\xff"), ("npy", b"\x93NUMPY"), ("metrics.csv", b"step,loss,seconds"), ("json", b"{"),
        ("metrics", b"{"),
    ],
)  # fmt: skip
def test_every_result(client: AnyClient, service: Service, tmp_path: Path, kind: Any, begins: bytes) -> None:
    inversion = client.submit(picture_bytes())
    service.jobs.run(inversion.id)
    data = client.download(inversion.id, kind)
    assert data.startswith(begins)
    assert client.download(inversion.id, kind, to=tmp_path / "file") == tmp_path / "file"
    assert (tmp_path / "file").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_safetensors_and_json_hold_the_same_code(client: AnyClient, service: Service) -> None:
    inversion = client.submit(picture_bytes())
    service.jobs.run(inversion.id)
    w_LD = client.code(inversion)
    assert w_LD.dtype == np.float32
    np.testing.assert_array_equal(safetensors.load(client.download(inversion, "safetensors"))["w_plus"], w_LD)
    np.testing.assert_array_equal(json.loads(client.download(inversion, "json"))["latents"], w_LD)
    again = client.submit(picture_bytes(), latents=client.download(inversion, "safetensors"))
    np.testing.assert_array_equal(np.load(io.BytesIO(service.jobs.files[ArtifactKey.start(again.id)])), w_LD)


def test_a_shorter_strip(client: AnyClient, service: Service) -> None:
    inversion = client.submit(picture_bytes())
    service.jobs.run(inversion.id)
    assert len(client.download(inversion, "strip", frames=1)) < len(client.download(inversion, "strip", frames=2))


def test_all_pages_of_a_list(client: AnyClient, service: Service, line: Line) -> None:
    made = [client.submit(picture_bytes()).id for _ in range(5)]
    service.jobs.fail(made[2])
    line.seen.clear()
    assert sorted(inversion.id for inversion in client.list(page_size=2)) == sorted(made)
    assert len(line.seen) == 3
    assert [inversion.id for inversion in client.list(status="failed")] == [made[2]]
    assert list(client.list(created_before=datetime.now() - timedelta(hours=1))) == []


def test_packs(client: AnyClient) -> None:
    faces, small = client.packs()
    assert (faces.name, faces.default, faces.starts) == ("faces-64", True, ("encoder", "mean", "random"))
    assert (small.optimizers, small.default_optimizer) == (("lbfgs", "nag"), "lbfgs")


def test_an_inversion_that_is_deleted_while_somebody_listens(
    client: AnyClient, service: Service, portal: BlockingPortal
) -> None:
    inversion = client.submit(picture_bytes())
    listening = portal.start_task_soon(lambda: _later(service, inversion.id))
    assert [event.kind for event in client.events(inversion)] == ["queued", "deleted"]
    listening.result(timeout=10)


async def _later(service: Service, job_id: str) -> None:
    await anyio.sleep(0.1)
    await service.jobs.delete(job_id)


def test_the_key_goes_along(connect: Connect, portal: BlockingPortal, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring()
    token = ring.make("tenant")
    monkeypatch.setenv("INVERSION_API_KEY", token)
    with running(portal, AppSettings(auth="on"), FakeJobClient(), stores_of(ring)) as service:
        line = Line(service.app)
        mine = connect(line).submit(picture_bytes())
        assert service.jobs.records[mine.id].tenant == "tenant"
        with pytest.raises(ic.NotFound):
            connect(line, api_key=ring.make("other")).get(mine)
        with pytest.raises(ic.KeyRefused) as caught:
            connect(line, api_key="").packs()
        assert caught.value.type == "/problems/key-missing"


def test_told_to_wait_by_the_service(client: AnyClient, service: Service, line: Line) -> None:
    """A full queue: 429 with Retry-After, again and again, then room."""
    full = httpx.Response(429, headers={"retry-after": "0"}, json={"type": "/problems/queue-full", "title": "Full", "status": 429})  # fmt: skip
    line.faults = [full, full]
    assert client.submit(picture_bytes()).status == "queued"
    line.faults = [full] * 9
    with pytest.raises(ic.RateLimited):
        client.submit(picture_bytes())
    assert len(service.jobs.records) == 1


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(method).parameters) for name, method in found if name[0] != "_"}

    blocking, asynchronous = methods(InversionClient), methods(AsyncInversionClient)
    assert blocking.pop("close") == asynchronous.pop("aclose")
    assert blocking == asynchronous


def test_the_record_of_the_service_is_understood_whole(client: AnyClient, service: Service) -> None:
    """What the client leaves aside of an answer is nothing but what it means to."""
    inversion = client.submit(picture_bytes())
    service.jobs.run(inversion.id)
    said = service.get(f"/v1/inversions/{inversion.id}").json()
    assert said.keys() - vars(client.get(inversion)).keys() == set()
    assert service.jobs.records[inversion.id].status is JobStatus.SUCCEEDED


def test_renders_and_saved_edits(client: AnyClient, service: Service, line: Line) -> None:
    inversion = client.submit(picture_bytes())
    service.jobs.run(inversion.id)
    face = client.render(inversion, {"smile": 1.5}, format="webp", side=512, session="slider")
    assert (face.media_type, face.data[:4], face.offset) == ("image/webp", b"RIFF", None)
    order = service.jobs.renders[0][0]
    assert order.edits == [{"direction": "smile", "strength": 1.5}]
    assert (order.side, service.jobs.sessions) == (512, [":slider"])
    patch = client.render(inversion.id, [{"truncate": 0.7}], as_="patch")
    assert (patch.media_type, patch.offset) == ("image/png", (3, 4))
    client.render({"seed": 7}, pack="small")
    assert service.jobs.renders[-1][0].pack == "small"
    code = client.render_code(client.code(inversion), {"smile": 1})
    assert (code.shape, service.jobs.renders[-1][0].source) == ((10, 128), {"sent": True})
    first = client.save_edit(inversion, {"smile": 1.5}, name="Happier")
    second = client.save_edit(inversion, [*first.edits, {"truncate": 0.9}], parent=first)
    assert (second.parent, client.edits(inversion)) == (first.id, (first, second))
    line.faults = [LOST]
    client.delete_edit(inversion, second)
    assert client.edits(inversion) == (first,)
    with pytest.raises(ic.NotFound):
        client.delete_edit(inversion, second)
    with pytest.raises(ic.ProblemError, match="is no edit"):
        client.render(inversion, [{"wings": 1}])
