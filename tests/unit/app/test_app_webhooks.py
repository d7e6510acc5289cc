"""Webhooks: what is told when, how it is signed, and what becomes of a message that is not taken."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import random
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from app_fakes import FakeJobClient, picture_bytes
from app_keyring import Ring, bearer, stores_of
from app_service import Service, running
from pydantic import SecretStr, ValidationError
from standardwebhooks import Webhook

from inversion_app.settings import AppSettings
from inversion_app.signing import check_secret, make_secret, signed_headers
from inversion_app.webhooks import Courier, backoff_s, next_message
from inversion_worker.client import Unsent, logs
from inversion_worker.contract import (
    EventKind,
    FrameReady,
    JobCanceled,
    JobDone,
    JobEvent,
    JobOptions,
    JobQueued,
    JobRecord,
    JobStarted,
    JobStatus,
)

pytestmark = pytest.mark.unit

URL = "https://editor.example/hook"
JOB = "a" * 32
EVERY = tuple(EventKind)
SECRET = make_secret()


def numbered(*events: JobEvent) -> list[tuple[str, JobEvent]]:
    return [(f"176381640{index}000-0", event) for index, event in enumerate(events)]


def frame(step: int) -> FrameReady:
    return FrameReady(step=step, loss=0.5, frame_key=f"{JOB}/frames/{step:06d}.webp")


RECORD = JobRecord(
    id=JOB,
    status=JobStatus.RUNNING,
    options=JobOptions(),
    created_at=datetime.now(UTC),
    expires_at=datetime.now(UTC),
)
STARTED = JobStarted(attempt=1, steps=10, aligned_key="k")
DONE = JobDone(step=9, loss=0.1)


class TestWhatIsTold:
    @pytest.mark.parametrize(
        ("events", "wanted", "told"),
        [
            ([JobQueued(), STARTED, frame(0)], EVERY, "queued"),
            ([STARTED, frame(0), frame(5)], EVERY, "started"),
            ([frame(0), frame(5), frame(10)], EVERY, "frame 10"),
            ([frame(0), frame(5), JobQueued(), frame(10)], EVERY, "frame 5"),
            ([frame(0), frame(5), DONE], EVERY, "done"),
            ([frame(0), JobQueued(), frame(5), JobCanceled()], EVERY, "queued"),
            ([JobQueued(), STARTED, frame(0)], ("done",), None),
            ([frame(0), frame(5), DONE], ("frame",), "frame 5"),
            ([JobQueued(), DONE], ("done", "failed"), "done"),
            ([], EVERY, None),
        ],
    )
    def test_next(self, events: list[JobEvent], wanted: Sequence[str], told: str | None) -> None:
        message = next_message(RECORD, numbered(*events), wanted)
        if message is None:
            assert told is None
            return
        data = json.loads(message.body)["data"]
        assert f"{message.kind} {data.get('step', '')}".strip() == told or message.kind == told

    def test_all_of_it_in_the_end(self) -> None:
        """Whatever has been sent when, following the events from message to message reaches the end."""
        events = numbered(JobQueued(), STARTED, frame(0), frame(5), JobQueued(), STARTED, frame(10), DONE)
        told, after = [], 0
        while (message := next_message(RECORD, events[after:], EVERY)) is not None:
            told.append(message.kind)
            after = [event_id for event_id, _ in events].index(message.event_id) + 1
        assert told == ["queued", "started", "queued", "started", "done"]

    def test_body(self) -> None:
        message = next_message(RECORD, numbered(frame(5)), EVERY)
        assert message is not None
        assert json.loads(message.body) == {
            "type": "inversion.frame",
            "timestamp": "2025-11-22T13:00:00.000Z",
            "data": {"id": JOB, "step": 5, "loss": 0.5, "url": f"/v1/inversions/{JOB}/frames/5"},
        }


def verifies_python(code: str, headers: dict[str, str], body: bytes) -> bool:
    names: dict[str, Any] = {}
    exec(code, names)
    try:
        names["verify"](SECRET, headers, body)
    except ValueError:
        return False
    return True


def verifies_js(code: str, headers: dict[str, str], body: bytes) -> bool:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    call = f"verify({json.dumps(SECRET)}, {json.dumps(headers)}, {json.dumps(body.decode())});"
    return subprocess.run([node, "-e", code + call], capture_output=True, timeout=20, check=False).returncode == 0


class TestSigning:
    def test_as_the_standard_has_it(self) -> None:
        """The example of the standard's own libraries, and what those libraries say of ours."""
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        body = b'{"test": 2432232314}'
        message_id, at_s = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
        signature = signed_headers(message_id, at_s, body, [secret])["webhook-signature"]
        assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        assert signature == Webhook(secret).sign(message_id, datetime.fromtimestamp(at_s, UTC), body.decode())

    @pytest.mark.parametrize("language", ["python", "js"])
    def test_example_of_the_documentation(self, language: str) -> None:
        page = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
        (code,) = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
        now_s, body = int(datetime.now(UTC).timestamp()), b'{"a":1}'
        good = signed_headers("m1", now_s, body, [make_secret(), SECRET])
        for headers, content, verifies in (
            (good, body, True),
            (good, b'{"a":2}', False),
            (signed_headers("m1", now_s - 400, body, [SECRET]), body, False),
            (signed_headers("m1", now_s, body, [make_secret()]), body, False),
        ):
            run_example = verifies_python if language == "python" else verifies_js
            assert run_example(code, headers, content) == verifies

    def test_old_and_new_secret_verify(self) -> None:
        old, new = make_secret(), make_secret()
        now_s = int(datetime.now(UTC).timestamp())
        headers = signed_headers("m1", now_s, b'{"a":1}', [new, old])
        for secret in (old, new):
            assert Webhook(secret).verify(b'{"a":1}', headers) == {"a": 1}
        for secret, body in ((make_secret(), b'{"a":1}'), (new, b'{"a":2}')):
            with pytest.raises(Exception, match="No matching signature"):
                Webhook(secret).verify(body, headers)

    @pytest.mark.parametrize("wrong", ["", "whsec_", "whsec_abc", "whsec_!!!!", "not base64 at all"])
    def test_what_is_no_secret(self, wrong: str) -> None:
        with pytest.raises(ValueError, match="webhook secret"):
            check_secret(wrong)
        with pytest.raises(ValidationError):
            AppSettings(webhook_secret=wrong)  # type: ignore[arg-type]

    def test_settings_do_not_print_it(self) -> None:
        settings = AppSettings(webhook_secret=SECRET)  # type: ignore[arg-type]
        assert SECRET not in f"{settings!r}{settings}"


class Queue:
    """One job's events, and what was noted of them."""

    def __init__(self, events: list[tuple[str, JobEvent]], options: JobOptions, tenant: str = "") -> None:
        now = datetime.now(UTC)
        self.record = JobRecord(
            id=JOB, tenant=tenant, status=JobStatus.RUNNING, options=options, created_at=now, expires_at=now
        )
        self.events = events
        self.after = "0"
        self.tries = 0
        self.waits_s: list[float] = []
        self.over = ""

    async def claim(self, most: int, for_s: float) -> list[str]:
        return [] if self.over else [JOB]

    async def unsent(self, job_id: str) -> Unsent | None:
        ids = [event_id for event_id, _ in self.events]
        first = ids.index(self.after) + 1 if self.after in ids else 0
        return Unsent(
            record=self.record, after=self.after, tries=self.tries, events=self.events[first:], now_s=int(time.time())
        )

    async def settle(self, job_id: str, after: str, tries: int, again_s: float) -> None:
        self.after, self.tries = after, tries
        self.waits_s.append(again_s)

    async def rest(self, job_id: str, after: str) -> None:
        self.after, self.over = after, "rest"

    async def forget(self, job_id: str) -> None:
        self.over = "forgotten"


class Receiver:
    """Answers as it is told."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)
        self.got: list[tuple[dict[str, str], bytes]] = []

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> int:
        assert url == URL
        self.got.append((headers, body))
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def kinds(self) -> list[str]:
        return [json.loads(body)["type"].removeprefix("inversion.") for _, body in self.got]


def run(portal: BlockingPortal, queue: Queue, receiver: Receiver, turns: int = 30, **settings: object) -> None:
    """Deliver until the queue is done with the job."""

    async def secrets(tenant: str) -> list[str]:
        return [SECRET] if tenant == "acme" else []

    fields = {"webhook_secret": SECRET, "webhook_tries": 4} | settings
    courier = Courier(queue, receiver.post, secrets, AppSettings(**fields))  # type: ignore[arg-type]
    for _ in range(turns):
        if not queue.over:
            portal.call(courier.deliver, JOB)


WANTS = JobOptions(webhook=URL, webhook_events=EVERY)


class TestDelivery:
    def test_in_order_signed_and_twice_a_second_at_most(self, portal: BlockingPortal) -> None:
        queue, receiver = Queue(numbered(JobQueued(), STARTED, frame(0), frame(5)), WANTS), Receiver()
        run(portal, queue, receiver)
        assert (receiver.kinds, queue.over) == (["queued", "started", "frame"], "rest")
        assert min(queue.waits_s) >= 0.5
        for headers, body in receiver.got:
            assert Webhook(SECRET).verify(body, headers)
            assert headers["webhook-id"].startswith(f"{JOB}.")
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 3

    @pytest.mark.parametrize("failure", [500, 404, 302, 100, TimeoutError(), OSError("reset")])
    def test_a_failure_is_tried_again_later_and_later_with_the_same_bytes(
        self, portal: BlockingPortal, failure: int | Exception
    ) -> None:
        random.seed(1)
        queue, receiver = Queue(numbered(DONE), WANTS), Receiver(failure, failure)
        run(portal, queue, receiver)
        assert receiver.kinds == ["done"] * 3
        assert len({(headers["webhook-id"], body) for headers, body in receiver.got}) == 1
        assert queue.over == "rest"
        assert 1 <= queue.waits_s[0] <= 3
        assert 2 <= queue.waits_s[1] <= 6

    def test_a_frame_that_failed_gives_way_to_a_later_one(self, portal: BlockingPortal) -> None:
        queue, receiver = Queue(numbered(frame(0)), WANTS), Receiver(503)
        run(portal, queue, receiver, turns=1)
        queue.events = numbered(frame(0), frame(5), frame(10))
        run(portal, queue, receiver)
        assert [json.loads(body)["data"]["step"] for _, body in receiver.got] == [0, 10]

    def test_given_up_in_the_end_and_the_next_is_sent(self, portal: BlockingPortal) -> None:
        queue, receiver = Queue(numbered(STARTED, DONE), WANTS), Receiver(500, 500, 500, 500)
        run(portal, queue, receiver)
        assert receiver.kinds == ["started"] * 4 + ["done"]

    def test_what_is_logged_names_the_job_and_its_request(self, portal: BlockingPortal) -> None:
        queue = Queue(numbered(JobQueued()), WANTS)
        queue.record = queue.record.model_copy(update={"request_id": "editor-7"})
        log, written = logging.getLogger("inversion_app.webhooks"), io.StringIO()
        handler = logs.handler("json", "%(message)s")
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(written)
        log.addHandler(handler)
        log.setLevel("INFO")
        receiver = Receiver(OSError("refused"))

        async def deliver() -> None:
            async def secrets(tenant: str) -> list[str]:
                return []

            courier = Courier(queue, receiver.post, secrets, AppSettings(webhook_secret=SecretStr(SECRET)))
            await courier.look()
            while not queue.waits_s:
                await asyncio.sleep(0.01)

        try:
            portal.call(deliver)
        finally:
            log.removeHandler(handler)
            log.setLevel("NOTSET")
        line = json.loads(written.getvalue().splitlines()[0])
        assert (line["job_id"], line["request_id"]) == (JOB, "editor-7")

    def test_gone_is_gone(self, portal: BlockingPortal) -> None:
        queue, receiver = Queue(numbered(STARTED, DONE), WANTS), Receiver(410)
        run(portal, queue, receiver)
        assert (receiver.kinds, queue.over) == (["started"], "forgotten")

    def test_of_a_tenant_with_its_own_secret(self, portal: BlockingPortal) -> None:
        for tenant, sent in (("acme", 1), ("nobody", 0)):
            queue, receiver = Queue(numbered(DONE), WANTS, tenant), Receiver()
            run(portal, queue, receiver, webhook_secret=None)
            assert len(receiver.got) == sent
            assert queue.over

    def test_waits_grow_up_to_an_hour(self) -> None:
        assert all(1800 <= backoff_s(tries, 2.0) <= 5400 for tries in (12, 40))
        assert len({backoff_s(3, 2.0) for _ in range(10)}) == 10


class TestSubmit:
    def detail(self, service: Service, webhook: str) -> str:
        answer = service.upload(webhook=webhook)
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/option-invalid"), answer.text
        return str(answer.json()["detail"])

    @pytest.mark.parametrize(
        "url",
        [
            "https://127.0.0.1/x", "https://localhost/x", "https://10.0.0.1/", "https://169.254.169.254/latest/meta-data",
            "https://metadata.google.internal/",
            "https://printer.local/", "https://0.0.0.0/", "https://a.localhost:8000/", "https://100.64.0.1/",
        ],
    )  # fmt: skip
    def test_never_a_local_address(self, portal: BlockingPortal, url: str) -> None:
        settings = AppSettings(webhook_secret=SECRET)  # type: ignore[arg-type]
        with running(portal, settings, FakeJobClient()) as service:
            assert "public internet" in self.detail(service, url)

    @pytest.mark.parametrize(
        "url", ["https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://[14:::]/", "https://[1C3d]/"]
    )
    def test_no_address_in_brackets(self, service: Service, url: str) -> None:
        assert "IPv6" in self.detail(service, url)

    def test_not_without_tls_and_not_without_a_secret(self, portal: BlockingPortal) -> None:
        with running(portal, AppSettings(), FakeJobClient()) as service:
            assert "INVERSION_WEBHOOK_SECRET" in self.detail(service, URL)
            assert "https://" in self.detail(service, "http://editor.example/")
        settings = AppSettings(webhook_secret=SECRET, webhook_allow_http=True, webhook_allow_hosts="10.0.0.1")  # type: ignore[arg-type]
        with running(portal, settings, FakeJobClient()) as open_service:
            for url in ("http://editor.example/", "http://10.0.0.1:8080/x"):
                assert open_service.upload(webhook=url).status_code == 202

    def test_a_key_brings_its_secret(self, portal: BlockingPortal) -> None:
        ring = Ring()
        with running(portal, AppSettings(auth="on"), FakeJobClient(), stores_of(ring)) as service:
            answer = service.upload(picture_bytes(), headers=bearer(ring.make("acme")), webhook=URL)
        assert answer.status_code == 202
