"""Short questions: asked and answered beside the jobs, on a real Valkey, with worker processes and without."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import anyio
import pytest
from fake_worker import FakeBackend
from PIL import Image
from redis import Redis
from worker_process import StartWorker, at_step, finished, stored_in

from inversion_worker import questions
from inversion_worker.answering import Answer, Answerer, Asked, Handler
from inversion_worker.answers import HANDLERS
from inversion_worker.artifacts import ArtifactStore
from inversion_worker.asking import BOUNDS, Asker, Bounds
from inversion_worker.client import JobClient, JobRefused, NobodyAnswers
from inversion_worker.connection import connect, connect_streams
from inversion_worker.contract import JobOptions, JobStatus, QuestionKind
from inversion_worker.frames import png
from inversion_worker.problems import problem
from inversion_worker.settings import WorkerSettings

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

LOOK, RENDER = QuestionKind.LOOK, QuestionKind.RENDER
Answering = Callable[[Mapping[str, Handler]], Answerer]


@pytest.fixture
def redis(settings: WorkerSettings) -> Iterator[Redis]:
    redis = connect(settings.redis_url)
    yield redis
    redis.close()


@pytest.fixture
async def asker(settings: WorkerSettings) -> AsyncIterator[Asker]:
    redis = connect_streams(settings.redis_url)
    yield Asker(redis, redis, ArtifactStore(settings.artifacts_url))
    await redis.aclose()


@pytest.fixture
def answering(settings: WorkerSettings) -> Iterator[Answering]:
    """Starts what a worker has for questions, in this process."""
    started: list[Answerer] = []

    def start(handlers: Mapping[str, Handler]) -> Answerer:
        artifacts = ArtifactStore(settings.artifacts_url)
        answerer = Answerer.from_url(settings.redis_url, artifacts, FakeBackend(), handlers, f"w{len(started)}")
        answerer.announce(30)
        answerer.start()
        started.append(answerer)
        return answerer

    yield start
    for answerer in started:
        answerer.stop()


def photo(size: tuple[int, int] = (128, 64)) -> bytes:
    return png(Image.linear_gradient("L").resize(size).convert("RGB"))


def echo(backend: object, asked: Asked) -> Answer:
    return Answer(result={"params": dict(asked.params), "bytes": len(asked.body)}, body=asked.body[::-1])


def left_in(redis: Redis, artifacts_dir: Path) -> list[str]:
    """What is left of questions, in Redis and among the artifacts."""
    keys = [key for part in ("asked", "question", "reply") for key in redis.keys(f"inversion:{part}:*")]
    return [*keys, *redis.zrange("inversion:expiry", 0, -1), *stored_in(artifacts_dir)]


@pytest.mark.parametrize("size", [0, 10, BOUNDS.inline_bytes + 1], ids=["nothing", "small", "large"])
async def test_a_question_is_answered_and_nothing_is_left(
    asker: Asker, answering: Answering, redis: Redis, artifacts_dir: Path, size: int
) -> None:
    answering({LOOK: Handler(answer=echo)})
    body = bytes(range(10)) * (size // 10) + b"\n" * (size % 10)
    reply = await asker.ask(LOOK, {"a": [1, None]}, body, 5)  # and what echoes is as large
    assert reply.result == {"params": {"a": [1, None]}, "bytes": size}
    assert reply.body == body[::-1]
    assert left_in(redis, artifacts_dir) == []


@pytest.mark.parametrize("stored", [False, True])
async def test_the_server_writes_none_of_it_to_its_disk(
    asker: Asker, answering: Answering, redis: Redis, tmp_path: Path, stored: bool
) -> None:
    answering({LOOK: Handler(answer=echo)})
    assert (await asker.ask(LOOK, {}, b"photo of somebody", 5, stored=stored)).body == b"ydobemos fo otohp"
    redis.set("other", "and this it writes")
    seen = b"".join(path.read_bytes() for path in (tmp_path / "valkey").rglob("*") if path.is_file())
    assert b"and this it writes" in seen
    for text in (b"photo of somebody", b"ydobemos fo otohp"):
        assert text not in seen


async def test_where_nobody_answers_that_kind_it_is_said_at_once(
    asker: Asker, answering: Answering, redis: Redis, artifacts_dir: Path
) -> None:
    answering({"other": Handler(answer=echo)})  # of a newer version
    began = time.monotonic()
    for body in (b"photo", bytes(BOUNDS.inline_bytes + 1)):
        with pytest.raises(NobodyAnswers, match="alive"):
            await asker.ask(LOOK, {}, body, 5)
    assert time.monotonic() - began < 2
    assert left_in(redis, artifacts_dir) == []


async def test_a_question_goes_to_whoever_knows_its_kind(asker: Asker, answering: Answering) -> None:
    answering({"other": Handler(answer=echo)})
    answering({LOOK: Handler(answer=echo)})
    for _ in range(4):
        assert (await asker.ask(LOOK, {}, b"photo", 5)).body == b"otohp"


async def test_the_deadline_holds_and_nothing_is_left_of_a_late_answer(
    asker: Asker, answering: Answering, redis: Redis, artifacts_dir: Path
) -> None:
    release = threading.Event()
    answered: list[bytes] = []

    def slow(backend: object, asked: Asked) -> Answer:
        answered.append(asked.body)
        release.wait(10)
        return echo(backend, asked)

    answering({LOOK: Handler(answer=slow)})
    began = time.monotonic()
    waiting = [asyncio.create_task(asker.ask(LOOK, {}, body, 1.0)) for body in (b"one", b"two")]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [NobodyAnswers] * 2
    assert time.monotonic() - began < 5
    release.set()
    await asyncio.sleep(0.3)
    assert len(answered) == 1  # nobody waited for the other one any more when its turn came
    assert left_in(redis, artifacts_dir) == []
    assert (await asker.ask(LOOK, {}, b"three", 5)).body == b"eerht"


async def test_only_so_many_wait(settings: WorkerSettings, redis: Redis) -> None:
    redis.zadd(questions.answering_key(LOOK), {"busy": time.time() * 1000 + 60_000})
    client = connect_streams(settings.redis_url)
    asker = Asker(client, client, ArtifactStore(settings.artifacts_url), Bounds(most_waiting=3))
    results = await asyncio.gather(*(asker.ask(LOOK, {}, b"", 0.5) for _ in range(5)), return_exceptions=True)
    told = sorted(str(result) for result in results)
    assert ["wait already" in text for text in told] == [True, True, False, False, False], told
    await client.aclose()


async def test_what_an_asker_leaves_that_dies_is_swept(
    settings: WorkerSettings, client: JobClient, redis: Redis, artifacts_dir: Path
) -> None:
    connection = connect_streams(settings.redis_url)
    bounds = Bounds(inline_bytes=3, swept_after_s=0.2)
    asker = Asker(connection, connection, ArtifactStore(settings.artifacts_url), bounds)
    redis.zadd(questions.answering_key(LOOK), {"busy": time.time() * 1000 + 60_000})
    asked = asyncio.create_task(asker.ask(LOOK, {}, b"photo", 20))
    with anyio.fail_after(5):
        while not redis.keys("inversion:question:*"):
            await asyncio.sleep(0.02)
    (folder,) = artifacts_dir.iterdir()
    assert await client.sweep() == 0
    await asyncio.sleep(0.3)
    await client.sweep()  # while the asker hangs
    assert not folder.exists()
    assert redis.zrange("inversion:expiry", 0, -1) == []
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert left_in(redis, artifacts_dir) == []
    await connection.aclose()


async def test_a_refusal_and_a_failure_are_told_and_the_next_one_is_answered(
    asker: Asker, answering: Answering
) -> None:
    def refuse(backend: object, asked: Asked) -> Answer:
        if asked.body == b"bad":
            raise JobRefused(problem("picture-invalid", "The picture cannot be read", 422, "Send another."))
        if asked.body == b"broken":
            raise RuntimeError("secret internals")
        return echo(backend, asked)

    answering({LOOK: Handler(answer=refuse)})
    with pytest.raises(JobRefused) as caught:
        await asker.ask(LOOK, {}, b"bad", 5)
    assert caught.value.problem.detail == "Send another."
    with pytest.raises(JobRefused) as caught:
        await asker.ask(LOOK, {}, b"broken", 5)
    assert caught.value.problem.type == "/problems/internal"
    assert "secret" not in caught.value.problem.detail
    assert (await asker.ask(LOOK, {}, b"ok", 5)).body == b"ko"


async def test_a_slow_kind_holds_no_other_up(asker: Asker, answering: Answering, redis: Redis) -> None:
    release = threading.Event()
    answering(
        {"slow": Handler(answer=lambda _, asked: Answer(result={"ok": release.wait(10)})), LOOK: Handler(answer=echo)}
    )
    slow = asyncio.create_task(asker.ask("slow", {}, b"", 8))  # type: ignore[arg-type]  # a kind of a newer version
    await asyncio.sleep(0.1)
    times = []
    for _ in range(50):
        began = time.monotonic()
        await asker.ask(LOOK, {}, b"photo", 5)
        times.append(time.monotonic() - began)
    assert statistics.median(times) < 0.5, times  # some 2 ms where nothing else runs; the slow one takes seconds
    release.set()
    await slow


async def test_a_stopped_worker_is_asked_no_more(asker: Asker, answering: Answering) -> None:
    answering({LOOK: Handler(answer=echo)}).stop()
    with pytest.raises(NobodyAnswers, match="alive"):
        await asker.ask(LOOK, {}, b"", 5)


async def test_fields_and_kinds_of_another_version_do_no_harm(redis: Redis, answering: Answering) -> None:
    answering({LOOK: Handler(answer=echo)})
    redis.set(questions.question_key("q"), b'{"params": {"a": 1}, "colour": "new"}\nbody', px=5000)
    redis.rpush(questions.asked_key(LOOK), "gone", "q")  # nobody waits for the first any more
    found = await asyncio.to_thread(redis.blpop, [questions.reply_key("q")], 4)
    assert found is not None
    assert found[1].startswith('{"result":{"params":{"a":1}')  # type: ignore[index]


async def test_a_question_about_a_topic_goes_to_who_knows_it(asker: Asker, answering: Answering) -> None:
    def handler(*topics: str) -> Handler:
        return Handler(answer=echo, topics=lambda _: topics)

    answering({RENDER: handler("b", "b")})
    answering({RENDER: handler("a", "c")})
    answering({RENDER: handler()})  # of a worker without any
    for topic in ("a", "b", "c"):
        assert (await asker.ask(RENDER, {}, b"code", 5, topic=topic)).body == b"edoc"
    for topic in ("d", ""):
        with pytest.raises(NobodyAnswers, match="alive"):
            await asker.ask(RENDER, {}, b"code", 5, topic=topic)


async def test_the_newest_of_a_session_ends_those_before(asker: Asker, answering: Answering, redis: Redis) -> None:
    begun, wanted = threading.Event(), threading.Semaphore(0)
    dropped: list[bytes] = []

    def slow(backend: object, asked: Asked) -> Answer:
        begun.set()
        wanted.acquire(timeout=10)
        if not asked.is_wanted():
            dropped.append(asked.body)
        return echo(backend, asked)

    answering({LOOK: Handler(answer=slow)})
    running = asyncio.create_task(asker.ask(LOOK, {}, b"one", 5, turn=await asker.begin("s")))
    await asyncio.to_thread(begun.wait, 5)
    waiting = asyncio.create_task(asker.ask(LOOK, {}, b"two", 5, turn=await asker.begin("s")))
    with pytest.raises(JobRefused) as caught:
        await running
    assert caught.value.problem.type == "/problems/render-superseded"
    late = await asker.begin("s")
    with pytest.raises(JobRefused):
        await waiting
    newest = await asker.begin("s")
    with pytest.raises(JobRefused):  # it was read slowly, and a newer one came before it was asked
        await asker.ask(LOOK, {}, b"three", 5, turn=late)
    other = asyncio.create_task(asker.ask(LOOK, {}, b"other", 5, turn=await asker.begin("t")))
    wanted.release(5)
    assert (await asker.ask(LOOK, {}, b"four", 5, turn=newest)).body == b"ruof"
    assert (await other).body == b"rehto"
    assert dropped == [b"one"]
    after = await asker.begin("s")  # there is nothing to drop
    assert (await asker.ask(LOOK, {}, b"five", 5, turn=after)).body == b"evif"
    assert redis.keys("inversion:reply:*") == redis.keys("inversion:question:*") == []
    assert all(0 < redis.pttl(key) <= 60_000 for key in redis.keys("inversion:[sd]*:*"))


def test_every_kind_that_can_be_asked_has_a_handler() -> None:
    assert set(HANDLERS) == set(QuestionKind)


class TestWorkers:
    async def test_a_worker_looks_while_all_of_its_slots_are_taken(
        self, client: JobClient, start_worker: StartWorker
    ) -> None:
        start_worker(FAKE_STEP_S=0.1, INVERSION_SLOTS=1)
        running = await client.submit(photo(), JobOptions(steps=1000))
        queued = await client.submit(photo(), JobOptions(steps=1000))
        await at_step(client, running.id, 1)
        seen = await client.look(photo((256, 128)), 10, tenant="t")
        assert (seen.photo.width, seen.photo.height) == (256, 128)
        assert [face.box for face in seen.faces] == [(0, 0, 128, 128), (128, 0, 256, 128)]
        record = await client.get(queued.id)
        assert record is not None
        assert record.status is JobStatus.QUEUED
        assert (await client.usage("t", 1))[-1].looked == 1
        assert (await client.usage("", 1))[-1].looked == 0
        with anyio.fail_after(20):
            while not any(worker.answers for worker in (await client.figures()).workers):
                await asyncio.sleep(0.1)

    async def test_a_worker_that_dies_with_the_question_costs_no_more_than_the_deadline(
        self, client: JobClient, start_worker: StartWorker
    ) -> None:
        worker = start_worker(FAKE_LOOK_S=30)
        asked = asyncio.create_task(client.look(photo(), 1.5))
        await asyncio.sleep(0.5)
        worker.kill()
        began = time.monotonic()
        with pytest.raises(NobodyAnswers, match="in time"):
            await asked
        assert time.monotonic() - began < 3

    async def test_a_job_takes_what_was_chosen_and_so_does_its_retry(
        self, client: JobClient, start_worker: StartWorker
    ) -> None:
        start_worker(FAKE_STEP_S=0)
        quad = ((5.0, 5.0), (5.0, 50.0), (50.0, 50.0), (50.0, 5.0))
        second = await finished(client, (await client.submit(photo(), JobOptions(steps=1, face=1))).id)
        assert second.face is not None
        assert (second.face_index, tuple(second.face.quad or ())) == (1, second.faces[1].quad)
        by_quad = await finished(client, (await client.submit(photo(), JobOptions(steps=1, quad=quad))).id)
        assert by_quad.face is not None
        assert (by_quad.face.found, tuple(by_quad.face.quad or ()), by_quad.faces) == (0, quad, [])
        missing = await finished(client, (await client.submit(photo(), JobOptions(steps=1, face=2))).id)
        assert missing.error is not None
        assert missing.error.type == "/problems/no-such-face"
        assert "There are 2 faces" in missing.error.detail
        again = await client.retry(missing)
        assert again is not None
        assert again.options == missing.options

    async def test_a_job_says_what_was_seen(self, client: JobClient, start_worker: StartWorker) -> None:
        start_worker(FAKE_STEP_S=0)
        job = await client.submit(photo((256, 128)), JobOptions(steps=1))
        record = await client.wait(job.id, 30)
        assert record is not None
        assert record.status is JobStatus.SUCCEEDED
        assert record.photo is not None
        assert (record.photo.width, record.photo.height) == (256, 128)
        assert (record.face_index, len(record.faces)) == (0, 2)
        assert record.face is not None
        assert record.face.found == 2
        assert tuple(record.face.quad or ()) == record.faces[0].quad
        assert [warning.kind for warning in record.warnings] == ["cut-by-border"]
