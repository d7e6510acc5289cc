"""The OpenAPI document against the application: every check of schemathesis, thousands of requests.

The application runs behind a socket of this machine, with a client that keeps everything in memory. To any id that was
never given out there is an inversion or a batch, in a state that the id decides, so that random ids find something.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import schemathesis
import uvicorn
from app_fakes import FACES, WORKER, FakeJobClient, npy, picture_bytes
from app_keyring import Ring, stores_of
from hypothesis import strategies as st
from pydantic import SecretStr
from safetensors.numpy import save
from schemathesis import engine
from schemathesis.checks import load_all_checks
from schemathesis.config import (
    ChecksConfig,
    FuzzingPhaseConfig,
    GenerationConfig,
    PhasesConfig,
    PositiveDataAcceptanceConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
    StatefulPhaseConfig,
)  # fmt: skip
from schemathesis.config._checks import (
    NEGATIVE_DATA_REJECTION_EXPECTED_STATUSES,
    POSITIVE_DATA_ACCEPTANCE_EXPECTED_STATUSES,
    NegativeDataRejectionConfig,
)
from schemathesis.engine import events

from inversion_app.main import create_app
from inversion_app.settings import AppSettings
from inversion_app.signing import make_secret
from inversion_worker.client import Claim
from inversion_worker.contract import (
    ArtifactKey,
    BatchRecord,
    JobCanceled,
    JobEvent,
    JobOptions,
    JobRecord,
    JobStatus,
    PackInfo,
    StartKind,
)

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

AT_LEAST = 2000
PHOTO = picture_bytes(size=(64, 64))
CODE = np.zeros((10, 128), np.float32)
UNSAYABLE = (
    "data-url-invalid",
    "picture-unsupported", "picture-invalid", "picture-too-small", "image-missing", "mask-invalid", "latents-invalid",
    "quad-invalid", "no-such-face", "direction-invalid",
)  # fmt: skip
"""No schema says which bytes are a picture or a code, or which corners a crop: a request that is refused for them may be valid for the rest."""


NO_VERDICT = "Unsupported type: 'Binary'"
"""Of schemathesis, where it would look whether a refused form with a file was valid."""
NO_TEXT = "(was string, became "
"""A form sends numbers as texts: the one in place of a name is a name."""


class EveryText(str):
    """Equals every text: a pack of any name, which offers any optimizer."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)

    __hash__ = str.__hash__


BOUNDLESS = PackInfo.model_construct(
    **{**dict(FACES), "name": EveryText("faces-64"), "optimizers": [EveryText("adam")], "starts": list(StartKind)}
)


class Inhabited(FakeJobClient):
    """Where there is something to every id, until it is deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = True
        self.deleted: set[str] = set()
        self.announced = [WORKER.model_copy(update={"packs": [BOUNDLESS]})]

    async def get(self, job_id: str) -> JobRecord | None:
        if job_id not in self.records and job_id not in self.deleted:
            self._make(job_id)
        return await super().get(job_id)

    async def events(self, job_id: str, after_id: str = "0") -> AsyncIterator[tuple[str, JobEvent]]:
        """What was said until now: a stream that goes on is tested elsewhere."""
        for number, event in enumerate(self.said.get(job_id, ()), 1):
            yield f"{number}-0", event

    async def was_known(self, tenant: str, job_id: str) -> bool:
        return job_id not in self.deleted

    async def delete(self, job_id: str) -> bool:
        self.deleted.add(job_id)
        return await super().delete(job_id)

    async def batch(self, batch_id: str) -> BatchRecord | None:
        if batch_id not in self.batches and batch_id not in self.deleted and sum(batch_id.encode()) % 7:
            jobs = [f"{batch_id[:60]}-{number}" for number in range(3)]
            times = {"created_at": datetime.now(UTC), "expires_at": datetime.now(UTC)}
            self.batches[batch_id] = BatchRecord(id=batch_id, jobs=jobs, **times)
            for job_id in jobs:
                await self.get(job_id)
        return await super().batch(batch_id)

    async def delete_batch(self, batch: BatchRecord) -> None:
        self.deleted.add(batch.id)
        await super().delete_batch(batch)

    async def begin_once(self, tenant: str, key: str, fingerprint: str) -> Claim | str:
        """Short keys come again by chance: whether they are the same request is tested elsewhere."""
        return Claim(key=f"{key} {len(self.records)}", token="token")

    async def submit_one(self, *args: Any, **more: Any) -> JobRecord:
        return await super().submit_one(*args, **{**more, "once": None})

    async def submit_batch(self, *args: Any, **more: Any) -> BatchRecord:
        return await super().submit_batch(*args, **{**more, "once": None})

    def _make(self, job_id: str) -> None:
        fate = sum(job_id.encode()) % 7
        if fate == 0:  # expired
            return
        times = {"created_at": datetime.now(UTC), "expires_at": datetime.now(UTC)}
        self.records[job_id] = JobRecord(id=job_id, status=JobStatus.QUEUED, options=JobOptions(), **times)
        self.said[job_id] = []
        if fate in (1, 2, 3):
            self.run(job_id)
        elif fate == 4:
            self.fail(job_id)
        elif fate == 5:
            self.start(job_id)
            self.step(job_id, 0, 0.5)
            self.change(job_id, JobCanceled(), status=JobStatus.CANCELED)
        # 6 stays queued


@contextmanager
def served(jobs: FakeJobClient) -> Iterator[str]:
    """The application behind a port of its own."""
    settings = AppSettings(
        max_upload_bytes=10_000_000, max_wait_s=1, keep_alive_s=0.2, webhook_secret=SecretStr(make_secret()),
        webhook_allow_http=True, auth="off",
    )  # fmt: skip
    app = create_app(settings, jobs, stores_of(Ring()))  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio misses it here: 40 ms an answer
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture(scope="module", autouse=True)
def _what_forms_hold() -> None:
    """JSON Schema cannot say what a picture or a code is."""
    load_all_checks()
    schemathesis.openapi.format("binary", st.just(PHOTO))
    schemathesis.openapi.format("data-url", st.just("data:image/png;base64," + base64.b64encode(PHOTO).decode()))
    schemathesis.openapi.format("json-object", st.just('{"order": "A-1001"}'))
    schemathesis.openapi.format("source", st.just('{"inversion": "0123456789abcdef"}'))
    schemathesis.openapi.format("code-url", st.just("data:;base64," + base64.b64encode(npy(CODE)).decode()))
    schemathesis.openapi.media_type("application/octet-stream", st.just(npy(CODE)))
    schemathesis.openapi.media_type("application/x-safetensors", st.just(save({"latents": CODE})))


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Drop what is no failure: a valid request that was refused for a file or a cursor that is not one."""
    if type(failure).__name__ != "RejectedPositiveData" or response.status_code not in (415, 422):
        return True
    problem = json.loads(response.content)
    cursor = problem["type"] == "/problems/option-invalid" and "`cursor`: it is no cursor" in problem["detail"]
    start = "`start` is" in problem["detail"]  # a start that contradicts the code that came along, or lacks one
    crop = "of them" in problem["detail"]  # two of `face`, `quad` and `align` contradict each other
    # A step or two lists, a range of zero, two ends of different packs, or a crop where two photos have one each.
    pairs = ("needs either `direction`", "`low`: and `high`", "`to`: it is of", "`options`: ")
    lists = any(words in problem["detail"] for words in pairs)
    metadata = "`metadata`" in problem["detail"]  # too long or too deep
    # Kinds of pictures, sides and sources that do not go together, and inversions that a mix names.
    render = any(f"`{name}`" in problem["detail"] for name in ("format", "side", "as", "mix", "paste"))
    return not (
        cursor
        or start
        or crop
        or metadata
        or lists
        or render
        or problem["type"].removeprefix("/problems/") in UNSAYABLE
    )


def run(url: str, max_examples: int) -> tuple[Counter[str], list[str]]:
    """Every phase and every check; how many requests of each operation, and what was found wrong."""
    generation = GenerationConfig(max_examples=max_examples, deterministic=True, no_shrink=True, database="none")
    phases = PhasesConfig(fuzzing=FuzzingPhaseConfig(), stateful=StatefulPhaseConfig(enabled=True))
    # An id may be one that has expired, just as it may be unknown, whatever else is wrong with the request.
    checks = ChecksConfig(
        positive_data_acceptance=PositiveDataAcceptanceConfig(
            expected_statuses=[*POSITIVE_DATA_ACCEPTANCE_EXPECTED_STATUSES, "410"]
        ),
        negative_data_rejection=NegativeDataRejectionConfig(
            expected_statuses=[*NEGATIVE_DATA_REJECTION_EXPECTED_STATUSES, "410"]
        ),
    )
    project = ProjectConfig(checks=checks, generation=generation, phases=phases, request_timeout=20)
    config = SchemathesisConfig(projects=ProjectsConfig(default=project), seed=1)
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    requests: Counter[str] = Counter()
    wrong: list[str] = []
    for event in engine.from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            text = str(event.value if hasattr(event, "value") else event.info)
            wrong += [text] if text != NO_VERDICT else []
        if isinstance(event, events.ScenarioFinished):
            requests[event.label or event.phase.value] += len(event.recorder.interactions)
            wrong += list(failures(event))
    return requests, wrong


def failures(event: events.ScenarioFinished) -> Iterator[str]:
    for case_id, checks in event.recorder.checks.items():
        for check in checks:
            if check.failure_info is None:
                continue
            case = event.recorder.cases[case_id].value
            if case.media_type == "multipart/form-data" and NO_TEXT in str(check.failure_info.failure):
                continue
            command = case.as_curl_command()[:1500]
            answer = event.recorder.interactions[case_id].response
            said = f"{answer.status_code} {answer.content[:300]!r}" if answer is not None else "no answer"
            yield f"{check.name}: {command}\n  {said}\n  {check.failure_info.failure}"


def test_every_check_on_every_operation() -> None:
    jobs = Inhabited()
    with served(jobs) as url:
        requests, wrong = run(url, max_examples=60)
    assert not wrong, "\n\n".join([f"{len(wrong)} failures", *wrong[:20]])
    assert sum(requests.values()) >= AT_LEAST, requests
    submitted = [job_id for job_id in jobs.records if len(job_id) == 32 and jobs.files.get(ArtifactKey.photo(job_id))]
    assert len(submitted) >= 50  # what was sent was not merely refused
