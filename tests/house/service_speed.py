"""Speed through the whole service beside the engine alone; run by hand, on a machine with nothing else to do.

    python tests/house/service_speed.py [--threads N] [--clients 8] [--steps 20] [--each 6] [--rounds 7] [--optimizer NAME]

Prints JSON. The first frame: seconds from the request until the start's picture can be fetched, on an idle service,
beside one forward pass. The throughput: inversions a second of some clients who each send the next photo when the
last is done, beside the engine's own with as many callers in a process of its own; the two take turns. Where the
machine is busy, seconds say little: `cpu_part` compares the CPU seconds that an inversion costs the engine and the
service as a whole, which is what the throughputs would be to each other on cores that have nothing else to do.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
from PIL import Image
from running_service import ROOT, children_of, free_port, read_until, service

ENGINE_ALONE = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from inversion_core import InvertConfig, load_pack  # before torch, as the worker does
import torch
from inversion_core.engine import Engine, EngineConfig, Request
from inversion_core.engine.capacity import cpu_threads
clients, steps, each, threads = map(int, sys.argv[1:5])
optimizer = sys.argv[5]
if threads: torch.set_num_threads(threads)
pack = load_pack()
most = cpu_threads()
counts = () if threads else tuple(dict.fromkeys((most, max(1, most // 2), 1)))
side = pack.resolution
with Engine(EngineConfig(slots=clients, threads=counts)) as engine:
    def one(number):
        target = torch.rand(3, side, side, generator=torch.Generator().manual_seed(number)) * 2 - 1
        config = InvertConfig(num_steps=steps, optimizer=optimizer)
        return [step.loss for step in engine.submit(Request(pack=pack, target_CHW=target, config=config))][-1]
    def client(number):
        return [one(number) for _ in range(each)]
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(clients)))
        began, began_cpu = time.perf_counter(), time.process_time()
        list(pool.map(client, range(clients)))
        taken, taken_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    with torch.no_grad():
        forwards = []
        for _ in range(8):
            began = time.perf_counter()
            pack.synthesize(pack.mean_codes())
            forwards.append(time.perf_counter() - began)
count = clients * each
print(json.dumps({"images_per_s": count / taken, "cpu_s": taken_cpu / count, "forward_s": sorted(forwards)[4]}))
"""


def photo() -> bytes:
    """256 px of smooth noise: nothing to find, and as large to decode as a small photo."""
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((256, 256), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def submit(client: httpx.Client, data: bytes, **options: Any) -> str:
    answer = client.post("/v1/inversions", files={"image": data}, data={"align": "false", **options})
    answer.raise_for_status()
    return str(answer.json()["id"])


def first_frame_s(client: httpx.Client, data: bytes, optimizer: str) -> float:
    """Until the picture of the start has come over the wire."""
    began_s = time.perf_counter()
    job = submit(client, data, steps=20, optimizer=optimizer)
    while client.get(f"/v1/inversions/{job}/frames/0").status_code != 200:
        time.sleep(0.005)
    seconds = time.perf_counter() - began_s
    wait(client, job)
    return seconds


def wait(client: httpx.Client, job: str) -> None:
    """Until it is done, as a listener to its events."""
    with client.stream("GET", f"/v1/inversions/{job}/events", timeout=300) as events:
        for _ in events.iter_lines():
            pass
    assert client.get(f"/v1/inversions/{job}").json()["status"] == "succeeded"


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and all below it have taken."""
    ticks = 0
    for each in {pid} | children_of(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def throughput(url: str, pid: int, clients: int, each: int, steps: int, optimizer: str) -> dict[str, float]:
    data = photo()

    def work(times: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            for _ in range(times):
                wait(client, submit(client, data, steps=steps, optimizer=optimizer))

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, [1] * clients))
        began_s, began_cpu_s = time.perf_counter(), cpu_s(pid)
        list(pool.map(work, [each] * clients))
        taken_s, taken_cpu_s = time.perf_counter() - began_s, cpu_s(pid) - began_cpu_s
    return {"images_per_s": clients * each / taken_s, "cpu_s": taken_cpu_s / (clients * each)}


def engine_alone(clients: int, each: int, steps: int, threads: int, optimizer: str) -> dict[str, float]:
    arguments = [str(number) for number in (clients, steps, each, threads)] + [optimizer]
    command = [sys.executable, "-c", ENGINE_ALONE, *arguments]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(said)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of each; 0: found by trying")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--each", type=int, default=6, help="inversions of each client in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--optimizer", default="adam", help="of both, so that they do the same work")
    args = parser.parse_args()
    os.environ["INVERSION_SLOTS"] = str(args.clients)
    if args.threads:
        os.environ["INVERSION_THREADS"] = str(args.threads)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, service(Path(folder), port, INVERSION_AUTH="off") as process:
        read_until(process, "ready: ")
        Thread(target=lambda: list(process.stdout or ()), daemon=True).start()  # a full pipe would stop the service
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=60) as client:
            first_frame_s(client, photo(), args.optimizer)
            firsts = [first_frame_s(client, photo(), args.optimizer) for _ in range(5)]
        through, alone = [], []
        for _ in range(args.rounds):
            through.append(throughput(url, process.pid, args.clients, args.each, args.steps, args.optimizer))
            alone.append(engine_alone(args.clients, args.each, args.steps, args.threads, args.optimizer))
        process.terminate()
        process.wait(30)
    print(json.dumps({
        "first_frame_s": firsts,
        "forward_s": statistics.median(each["forward_s"] for each in alone),
        "service": through,
        "engine": alone,
        "part_of_engine": statistics.median(
            a["images_per_s"] / b["images_per_s"] for a, b in zip(through, alone, strict=True)
        ),
        "cpu_part": statistics.median(b["cpu_s"] / a["cpu_s"] for a, b in zip(through, alone, strict=True)),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
