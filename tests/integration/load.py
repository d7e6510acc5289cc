"""`make load`: many clients at once on two API processes and two workers, and how long a poll takes meanwhile.

Each client has a key of its own; it submits a photo, follows the events (its connection is cut once, and taken up at
the other API process), and downloads the code and the picture. The inversion itself is made up (tests/fake_worker.py):
this is about the service. Polls are timed by this process, at the same pace before and during the load; the clients
are a process of their own.

Fails where an event is lost, doubled or out of order, where a download is not whole, or where the 99th percentile of a
poll under load is more than --most-ratio times that of the idle service. All clients come --rounds times, since of the
200 polls that one round leaves time for, the 99th percentile is but the second longest.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from api_process import ApiProcess
from PIL import Image
from worker_process import FAKE_WORKER, WorkerProcess

from inversion_app.keys import KeyStore, Scope
from inversion_worker.client import connect_async
from inversion_worker.valkey import EmbeddedValkey

STEPS, FRAME_EVERY = 30, 5
EXPECTED = ["queued", "started", *["frame"] * (STEPS // FRAME_EVERY + 1), "done"]
POLL_EVERY_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked for on the command line."""

    clients: int = 50
    rounds: int = 3
    """How often all of them come, each time at once."""
    polls: int = 400
    """Polls of the idle service."""
    most_ratio: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured; times in milliseconds."""

    clients: int
    rounds: int
    seconds: float
    """Until the last client was done, of all rounds."""
    events: int
    events_expected: int
    failures: list[str]
    idle_p50_ms: float
    idle_p99_ms: float
    load_p50_ms: float
    load_p99_ms: float
    polls_under_load: int

    @property
    def ratio(self) -> float:
        """How much slower the slowest hundredth of polls is under load."""
        return self.load_p99_ms / self.idle_p99_ms


def photo() -> bytes:
    """A JPEG of noise, about as large as a phone's small picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


# ---- one client, in the clients' process


async def client(urls: Sequence[str], token: str, picture: bytes, trusted: ssl.SSLContext) -> list[str]:
    """From the photo to the code; the events it was told, in order."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(timeout=120, headers=headers, verify=trusted) as http:
        form = {"steps": str(STEPS), "frame_every": str(FRAME_EVERY)}
        answer = await http.post(f"{urls[0]}/v1/inversions", files={"image": picture}, data=form)
        assert answer.status_code == 202, answer.text
        address = answer.headers["location"]
        told: list[tuple[str, str]] = []
        await follow(http, f"{urls[0]}{address}/events", told, cut_after=random.randint(1, len(EXPECTED) - 1))
        await follow(http, f"{urls[1]}{address}/events", told, cut_after=None)
        ids = [tuple(map(int, event_id.split("-"))) for event_id, _ in told]
        assert ids == sorted(set(ids)), "doubled or out of order"
        code = await http.get(f"{urls[1]}{address}/latents")
        assert np.load(io.BytesIO(code.content), allow_pickle=False).ndim == 2
        image = await http.get(f"{urls[0]}{address}/image")
        Image.open(io.BytesIO(image.content)).load()
    return [kind for _, kind in told]


async def follow(http: httpx.AsyncClient, url: str, told: list[tuple[str, str]], cut_after: int | None) -> None:
    """Add what the stream tells to `told`, until its end or until so many events have come."""
    headers = {"Last-Event-ID": told[-1][0]} if told else {}
    event_id = ""
    async with http.stream("GET", url, headers=headers) as stream:
        assert stream.status_code == 200, await stream.aread()
        async for line in stream.aiter_lines():
            if line.startswith("id: "):
                event_id = line[4:]
            if line.startswith("event: "):
                told.append((event_id, line[7:]))
                if len(told) == cut_after:
                    return


async def clients(urls: Sequence[str], tokens: Sequence[str]) -> None:
    """All at once; prints what became of each as JSON."""
    picture, trusted = photo(), ssl.create_default_context()  # one for all: making it costs more than a request
    print("begin", flush=True)
    orders = (urls, urls[::-1])  # every other client begins at the other API process
    work = (client(orders[index % 2], token, picture, trusted) for index, token in enumerate(tokens))
    found = await asyncio.gather(*work, return_exceptions=True)
    print(json.dumps([each if isinstance(each, list) else f"{type(each).__name__}: {each}" for each in found]))


# ---- the prober


async def poll(http: httpx.AsyncClient, urls: Sequence[str], times_ms: list[float]) -> None:
    """One poll of each API process in turn, timed."""
    began = time.perf_counter()
    answer = await http.get(urls[len(times_ms) % len(urls)])
    times_ms.append((time.perf_counter() - began) * 1000)
    assert answer.status_code == 200, answer.text
    await asyncio.sleep(POLL_EVERY_S)


async def measure(urls: Sequence[str], tokens: Sequence[str], options: Options) -> Report:
    """Poll a finished inversion on the idle service, then while the clients are at work."""
    async with httpx.AsyncClient(timeout=60, headers={"Authorization": f"Bearer {tokens[0]}"}) as http:
        answer = await http.post(f"{urls[0]}/v1/inversions", files={"image": photo()}, data={"steps": "1"})
        polled = [f"{url}{answer.headers['location']}" for url in urls]
        async with http.stream("GET", f"{polled[0]}/events") as stream:
            await stream.aread()
        warm: list[float] = []
        idle: list[float] = []
        load: list[float] = []
        for times_ms, count in ((warm, 50), (idle, options.polls)):
            for _ in range(count):
                await poll(http, polled, times_ms)
        seconds, told = 0.0, []
        for _ in range(options.rounds):
            took_s, found = await under_load(http, polled, urls, tokens, load)
            seconds, told = seconds + took_s, told + found
    return Report(
        clients=len(tokens),
        rounds=options.rounds,
        seconds=round(seconds, 1),
        events=sum(len(each) for each in told if isinstance(each, list)),
        events_expected=len(EXPECTED) * len(tokens) * options.rounds,
        failures=[str(each) for each in told if each != EXPECTED],
        idle_p50_ms=percentile(idle, 50),
        idle_p99_ms=percentile(idle, 99),
        load_p50_ms=percentile(load, 50),
        load_p99_ms=percentile(load, 99),
        polls_under_load=len(load),
    )


async def under_load(
    http: httpx.AsyncClient, polled: Sequence[str], urls: Sequence[str], tokens: Sequence[str], times_ms: list[float]
) -> tuple[float, list[Any]]:
    """Poll while all clients are at work; how long that was, and what became of each."""
    command = [sys.executable, __file__, "--as-clients", json.dumps([urls, tokens])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # pytest adds tests/ to ours
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=env)
    assert process.stdout is not None
    await process.stdout.readline()  # they begin: polls while Python starts would flatter the figures
    began = time.perf_counter()
    said = asyncio.create_task(process.communicate())
    while not said.done():
        await poll(http, polled, times_ms)
    return time.perf_counter() - began, json.loads((await said)[0])


def percentile(times_ms: Sequence[float], rank: int) -> float:
    return round(statistics.quantiles(times_ms, n=100, method="inclusive")[rank - 1], 2)


async def make_keys(redis_url: str, count: int) -> list[str]:
    """A tenant of its own for each client."""
    redis = connect_async(redis_url)
    store = KeyStore(redis)
    tokens = [(await store.create(f"client {index}", None, [Scope.READ, Scope.WRITE]))[1] for index in range(count)]
    await redis.aclose()
    return tokens


def run(options: Options) -> Report:
    """Start everything, measure, stop everything."""
    with tempfile.TemporaryDirectory(prefix="inversion-load-") as name, EmbeddedValkey(Path(name) / "valkey") as valkey:
        folder = Path(name)
        env = {
            "INVERSION_REDIS_URL": valkey.url,
            "INVERSION_ARTIFACTS_URL": f"file://{folder / 'artifacts'}",
            "INVERSION_AUTH": "on",
            "INVERSION_LOG_LEVEL": "INFO",
            "INVERSION_SLOTS": "4",
            "FAKE_STEP_S": "0.02",
        }
        apis = [ApiProcess(env, folder / f"api-{index}.log") for index in range(2)]
        workers = [WorkerProcess(FAKE_WORKER, os.environ | env, folder / f"worker-{index}.log") for index in range(2)]
        try:
            for each in (*apis, *workers):
                each.wait_ready()
            tokens = asyncio.run(make_keys(valkey.url, options.clients))
            return asyncio.run(measure([api.url for api in apis], tokens, options))
        finally:
            for each in (*workers, *apis):
                each.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=Options.clients)
    parser.add_argument("--rounds", type=int, default=Options.rounds)
    parser.add_argument("--polls", type=int, default=Options.polls)
    parser.add_argument("--most-ratio", type=float, default=Options.most_ratio)
    parser.add_argument("--as-clients", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.as_clients:
        urls, tokens = json.loads(args.as_clients)
        asyncio.run(clients(urls, tokens))
        return 0
    options = Options(clients=args.clients, rounds=args.rounds, polls=args.polls, most_ratio=args.most_ratio)
    report = run(options)
    print(json.dumps(asdict(report) | {"ratio": round(report.ratio, 2)}, indent=2))
    lost = report.events != report.events_expected or report.failures
    return 1 if lost or report.ratio > args.most_ratio else 0


if __name__ == "__main__":
    sys.exit(main())
