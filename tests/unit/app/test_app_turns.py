"""Webhook receivers that say nothing: they hold up their own messages, and nobody else's."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from anyio.from_thread import BlockingPortal

from inversion_app.settings import AppSettings
from inversion_app.signing import make_secret
from inversion_app.turns import PER_HOST, PER_TENANT, Turns
from inversion_app.webhooks import AT_ONCE, BUSY_S, Courier
from inversion_worker.client import Unsent
from inversion_worker.contract import JobDone, JobOptions, JobRecord, JobStatus

pytestmark = pytest.mark.unit

SECRET = make_secret()


class Jobs:
    """Jobs with one message each, and when to look at them next (s of the loop)."""

    def __init__(self) -> None:
        self.records: dict[str, JobRecord] = {}
        self.due_s: dict[str, float] = {}

    def add(self, count: int, host: str, tenant: str = "") -> None:
        for _ in range(count):
            job_id = f"{len(self.records):032d}"
            options, now = JobOptions(webhook=f"https://{host}/hook"), datetime.now(UTC)
            self.records[job_id] = JobRecord(
                id=job_id, tenant=tenant, status=JobStatus.SUCCEEDED, options=options, created_at=now, expires_at=now
            )
            self.due_s[job_id] = 0.0

    async def claim(self, most: int, for_s: float) -> list[str]:
        now_s = asyncio.get_running_loop().time()
        found = sorted((due_s, job_id) for job_id, due_s in self.due_s.items() if due_s <= now_s)[:most]
        self.due_s |= {job_id: now_s + for_s for _, job_id in found}
        return [job_id for _, job_id in found]

    async def unsent(self, job_id: str) -> Unsent | None:
        events = [("1-0", JobDone(step=1, loss=0.1))]
        return Unsent(record=self.records[job_id], after="0", tries=0, events=events, now_s=int(time.time()))

    async def settle(self, job_id: str, after: str, tries: int, again_s: float) -> None:
        if after == "1-0":
            del self.due_s[job_id]
        else:
            assert (after, tries, again_s) == ("0", 0, BUSY_S)  # nothing is lost, and no try is counted
            self.due_s[job_id] = asyncio.get_running_loop().time() + again_s

    async def rest(self, job_id: str, after: str) -> None:
        raise AssertionError

    async def forget(self, job_id: str) -> None:
        raise AssertionError


class Receivers:
    """Those whose name begins with `silent` take a call and never answer."""

    def __init__(self) -> None:
        self.holding: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> int:
        host = urlsplit(url).hostname or ""
        if host.startswith("silent"):
            self.holding[host] += 1
            await asyncio.Event().wait()
        self.answered[host] += 1
        return 200


def deliver(portal: BlockingPortal, jobs: Jobs, receivers: Receivers, for_s: float) -> None:
    async def secrets(tenant: str) -> list[str]:
        return [SECRET]

    async def run() -> None:
        settings = AppSettings(webhook_secret=SECRET)  # type: ignore[arg-type]
        courier = asyncio.create_task(Courier(jobs, receivers.post, secrets, settings).run())
        await asyncio.sleep(for_s)
        courier.cancel()
        await asyncio.wait([courier])

    portal.call(run)


def test_a_silent_host_holds_few_hands(portal: BlockingPortal) -> None:
    jobs, receivers = Jobs(), Receivers()
    jobs.add(4 * AT_ONCE, "silent.example")
    jobs.add(10, "quick.example")
    deliver(portal, jobs, receivers, 0.9)
    assert receivers.holding == {"silent.example": PER_HOST}
    assert receivers.answered == {"quick.example": 10}


def test_many_silent_hosts_of_one_tenant_hold_half_of_them(portal: BlockingPortal) -> None:
    jobs, receivers = Jobs(), Receivers()
    for number in range(2 * AT_ONCE):
        jobs.add(1, f"silent{number}.example", tenant="evil")
    jobs.add(10, "quick.example", tenant="acme")
    deliver(portal, jobs, receivers, 0.9)
    assert receivers.holding.total() == PER_TENANT
    assert receivers.answered == {"quick.example": 10}


def test_a_turn_ends_and_is_forgotten() -> None:
    turns = Turns()
    for _ in range(3 * PER_HOST):
        with turns.taking("https://A.example:8443/x", "t") as free:
            assert free
    assert not turns._under_way
    with turns.taking("https://a.example./y", "t"), turns.taking("https://a.example/", "t"):
        assert turns._under_way["host", "a.example"] == 2
