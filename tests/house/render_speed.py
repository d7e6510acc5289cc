"""How long a render takes over HTTP; run by hand, on a machine with nothing else to do.

    python tests/house/render_speed.py [--renders 100] [--photos 15] [--inversions 4] [--detail-steps N]

Prints JSON: seconds from the request to the last byte, the median and the 95th percentile, of a face with one edit and
of a 12-megapixel photo with one. Each request has another strength, so none is answered from what was rendered before.
Once on an idle service, and once while some inversions run. Where the machine is busy with something else, seconds say
little: `cpu_s` is what a render costs all processes of the service together.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
from PIL import Image
from running_service import ROOT, free_port, read_until, service
from service_speed import cpu_s

sys.path.insert(0, str(ROOT / "tests"))
from drawn_face import draw_face

SIZE = (4000, 3000)
"""12 megapixels."""


def photo() -> bytes:
    """A drawn face in a large photo, with the grain of a camera: what has none is encoded too quickly."""
    pixels = np.asarray(draw_face((800, 600), 300).resize(SIZE), np.int16)
    grain = np.random.default_rng(0).normal(0, 4, pixels.shape).astype(np.int16)
    buffer = io.BytesIO()
    Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def seconds(client: httpx.Client, job: str, number: int, **options: Any) -> list[float]:
    """Of so many renders, one after the other, as a slider asks for them."""
    taken = []
    for index in range(number):
        params = {"edit": f"smile:{index / number:.4f}", **options}
        began_s = time.perf_counter()
        answer = client.get(f"/v1/inversions/{job}/render", params=params)
        answer.raise_for_status()
        taken.append(time.perf_counter() - began_s)
    return taken


def costed(client: httpx.Client, pid: int, job: str, number: int, **options: Any) -> dict[str, float]:
    before_s = cpu_s(pid)
    taken = seconds(client, job, number, **options)
    return figures(taken) | {"cpu_s": round((cpu_s(pid) - before_s) / number, 4)}


def figures(taken: list[float]) -> dict[str, float]:
    return {"p50_s": round(float(np.quantile(taken, 0.5)), 4), "p95_s": round(float(np.quantile(taken, 0.95)), 4)}


def measured(client: httpx.Client, pid: int, job: str, renders: int, photos: int) -> dict[str, Any]:
    first = seconds(client, job, 1, **{"as": "photo"})[0]  # decodes the photo, which is kept for a minute
    return {
        "face": costed(client, pid, job, renders),
        "photo": costed(client, pid, job, photos, **{"as": "photo"}),
        "photo_first_s": round(first, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renders", type=int, default=100)
    parser.add_argument("--photos", type=int, default=15)
    parser.add_argument("--inversions", type=int, default=4, help="that run meanwhile, the second time")
    parser.add_argument("--detail-steps", type=int, help="of the inversion that is rendered; none: the pack's")
    args = parser.parse_args()
    os.environ["INVERSION_SLOTS"] = str(args.inversions)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, service(Path(folder), port, INVERSION_AUTH="off") as process:
        read_until(process, "ready: ")
        Thread(target=lambda: list(process.stdout or ()), daemon=True).start()  # a full pipe would stop the service
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            data, headers = photo(), {"Prefer": "wait=60"}
            options = {"steps": 8} | ({} if args.detail_steps is None else {"detail_steps": args.detail_steps})
            answer = client.post("/v1/inversions", files={"image": data}, data=options, headers=headers).json()
            assert answer["status"] == "succeeded", answer
            job = answer["id"]
            seconds(client, job, 10)
            idle = measured(client, process.pid, job, args.renders, args.photos)
            running = [
                client.post("/v1/inversions", files={"image": data}, data={"steps": 1000, "paste": "false"}).json()[
                    "id"
                ]
                for _ in range(args.inversions)
            ]
            while any(client.get(f"/v1/inversions/{each}").json()["status"] == "queued" for each in running):
                time.sleep(0.1)
            busy = measured(client, process.pid, job, args.renders, args.photos)
            states = [client.get(f"/v1/inversions/{each}").json() for each in running]
        process.terminate()
        process.wait(30)
    steps = [state["step"] for state in states]
    print(json.dumps({"idle": idle, "busy": busy, "steps_meanwhile": steps}, indent=2))


if __name__ == "__main__":
    main()
