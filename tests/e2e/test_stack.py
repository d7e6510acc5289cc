"""What `make serve` starts, as a person meets it: a portrait goes in on the page, and its code comes out."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from e2e_service import free_port, wait_ready
from matplotlib.cbook import get_sample_data
from PIL import Image
from playwright.sync_api import Browser, expect

PATIENCE_S = 240


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running service and what opens it."""

    url: str
    token: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Where `python -m inversion_app.serve` says that it listens, with the default pack."""
    port, state = free_port(), tmp_path_factory.mktemp("state")
    command = ["-m", "inversion_app.serve", "--port", str(port), "--state-dir", str(state)]
    process = subprocess.Popen([sys.executable, *command])
    try:
        wait_ready(f"http://127.0.0.1:{port}", process, PATIENCE_S)
        yield Served(url=f"http://127.0.0.1:{port}", token=(state / "token").read_text().strip())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_a_portrait(served: Served, browser: Browser, screenshots: Path) -> None:
    """Grace Hopper's official portrait, which comes with matplotlib and is in the public domain."""
    context = browser.new_context(viewport={"width": 1200, "height": 1200})
    page = context.new_page()
    page.goto(f"{served.url}/#token={served.token}")
    expect(page).to_have_url(f"{served.url}/")  # the page has traded the token for a cookie
    page.set_input_files("#photo", get_sample_data("grace_hopper.jpg", asfileobj=False))
    page.click("summary")
    page.fill("[name=steps]", "20")
    page.click("#submit")
    status = page.locator("#status")
    expect(status).to_have_text("Found it", timeout=PATIENCE_S * 1000)
    expect(page.locator("#scrubber")).to_have_attribute("max", "6")  # 20 steps of w, 8 of detail
    page.screenshot(path=screenshots / "portrait.png", full_page=True)
    job = fetch_json(served, "/v1/inversions/" + page.url.partition("#")[2])
    context.close()
    check_results(served, job)


def check_results(served: Served, job: dict[str, Any]) -> None:
    """The answer and its results agree with the pack, and the loss has fallen."""
    (pack,) = [pack for pack in fetch_json(served, "/v1/packs")["packs"] if pack["default"]]
    links = job["links"]
    code = np.load(io.BytesIO(fetch(served, links["latents"])))
    assert code.shape == (pack["layers"], pack["w_dim"])
    for name in ("image", "aligned"):
        assert Image.open(io.BytesIO(fetch(served, links[name]))).size == (pack["resolution"],) * 2
    assert job["face"]["found"] == 1
    losses = [event["loss"] for event in frame_events(fetch(served, links["events"]).decode())]
    assert len(losses) == 7
    assert losses[-1] < losses[0]


def frame_events(stream: str) -> list[dict[str, float]]:
    """Data of the `frame` events of an ended stream."""
    blocks = stream.replace("\r\n", "\n").split("\n\n")
    return [
        json.loads(line.removeprefix("data: "))
        for block in blocks
        if "event: frame" in block
        for line in block.split("\n")
        if line.startswith("data: ")
    ]


def fetch(served: Served, path: str) -> bytes:
    request = urllib.request.Request(served.url + path, headers={"Authorization": f"Bearer {served.token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        body: bytes = answer.read()
    return body


def fetch_json(served: Served, path: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(fetch(served, path))
    return body
