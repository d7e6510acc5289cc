"""Bodies made to keep a server busy, sent to a real one: it goes on to answer others, and its memory stays small."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
from app_fakes import picture_bytes
from app_service import url_of

pytestmark = [pytest.mark.unit, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

URL, BATCHES = "/v1/inversions", "/v1/batches"
MEBIBYTE = 1024 * 1024
LONGEST_S = 0.1
"""Longest wait of nearly everybody else on a machine that has nothing else to do."""
MARGIN = float(os.environ.get("INVERSION_TEST_MARGIN", "5"))
"""How much slower a machine that is shared may be."""
MOST_MEMORY_BYTES = 250 * MEBIBYTE
"""By how much the process may grow: less than twice what the largest of the bodies below has."""
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """One request."""

    content: bytes = b""
    url: str = URL
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    status: int


def filled(text: bytes, size: int, before: bytes = b"", after: bytes = b"") -> bytes:
    return before + text * ((size - len(before) - len(after)) // len(text)) + after


def form(**files: bytes) -> bytes:
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n'.encode() + data
        for name, data in files.items()
    ]
    return b"\r\n".join([*parts, b"--x--\r\n"])


def lying_npy() -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (64, 2**40)})
    return buffer.getvalue()


PHOTO = picture_bytes()
START = b'{"image": "' + url_of(PHOTO).encode() + b'", "latents": '
MOST = 8 * MEBIBYTE - 10
"""As much JSON as is taken."""
SOME = 2 * MEBIBYTE
ROWS = json.dumps([[0.1234567890123456] * 4096] * 64).encode()
HOSTILE = {
    "31 MB of [], as a code": Hostile(content=filled(b"[],", 31_000_000, START + b"[", b"[]]}"), status=413),
    "31 MB of [], in a form": Hostile(
        content=form(image=PHOTO, latents=filled(b"[],", 31_000_000, b"[", b"[]]")), headers=FORM, status=422
    ),
    "62 MB batch of {}": Hostile(
        content=filled(b"{},", 62_000_000, b'{"images": [', b"{}]}"), url=BATCHES, status=413
    ),
    "a batch of {}": Hostile(content=filled(b"{},", SOME, b'{"images": [', b"{}]}"), url=BATCHES, status=422),
    "lists": Hostile(content=filled(b"[],", MOST, START + b"[", b"[]]}"), status=422),
    "lists in a form": Hostile(
        content=form(image=PHOTO, latents=filled(b"[],", SOME, b"[", b"[]]")), headers=FORM, status=422
    ),
    "texts": Hostile(content=filled(b'"",', SOME, START + b"[", b'""]}'), status=422),
    "keys": Hostile(content=filled(b'"":0,', SOME, b"{", b'"":0}'), status=422),
    "numbers": Hostile(content=filled(b"1,", SOME, b'{"webhook_events": [', b"1]}"), status=422),
    "depth": Hostile(content=filled(b"[", SOME), status=422),
    "backslashes": Hostile(content=filled(b"\\\\", SOME, b'{"pack": "', b'"}'), status=422),
    "quotes": Hostile(content=filled(b'"', SOME), status=422),
    "a long number": Hostile(content=filled(b"1", SOME, b'{"steps": ', b"}"), status=422),
    "a long text": Hostile(content=filled(b"a", MOST, b'{"pack": "', b'"}'), status=422),
    "the longest data URL": Hostile(
        content=filled(b"AAAA", MOST, b'{"image": "data:;base64,', b'"}'), status=415
    ),
    "the largest code": Hostile(content=START + ROWS + b"}", status=422),
    "a safetensors header": Hostile(
        content=form(image=PHOTO, latents=(MOST - 8).to_bytes(8, "little") + filled(b'"":[],', MOST - 8, b"{", b"}")),
        headers=FORM, status=422,
    ),
    "an npy header": Hostile(content=form(image=PHOTO, latents=lying_npy()), headers=FORM, status=422),
    "a part's header": Hostile(
        content=filled(b"x", 4_000_000, b"--x\r\nContent-Disposition: "), headers=FORM, status=422
    ),
    "a part's header fields": Hostile(content=filled(b"a:b\r\n", 4_000_000, b"--x\r\n"), headers=FORM, status=422),
    "31 MB that are no picture": Hostile(content=form(image=bytes(31_000_000)), headers=FORM, status=415),
    "a long query": Hostile(url=f"{URL}?{'a&' * 25_000}", status=422),
    "a long cookie": Hostile(headers=JSON | {"Cookie": 'inversion_key="' + "\\a" * 25_000 + '"'}, status=422),
    "a long Accept": Hostile(headers=FORM | {"Accept": "," * 50_000}, status=422),
    "a long Content-Type": Hostile(headers={"Content-Type": "multipart/form-data" + ";" * 50_000}, status=422),
}  # fmt: skip


class Api:
    """A server process."""

    def __init__(self, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "--factory",
            "fake_api:create",
            "--port",
            str(port),
            "--no-access-log",
        ]
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, cwd=Path(__file__).parent, stdout=out, stderr=out)
        self.log = log

    def wait_ready(self) -> None:
        until_s = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{self.url}/livez", timeout=5)
                return
            except httpx.TransportError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < until_s, self.log.read_text()
                time.sleep(0.05)

    def peak_bytes(self) -> int:
        """Most memory that the process has had."""
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return 1024 * int(found[1])


class Watcher(threading.Thread):
    """Somebody else, who asks all the time whether the process is alive."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.waits_s: list[float] = []
        self._url = f"{url}/livez"
        self._over = threading.Event()

    def run(self) -> None:
        with httpx.Client(timeout=60, verify=False) as http:
            while not self._over.is_set():
                started_s = time.perf_counter()
                assert http.get(self._url).status_code == 200
                self.waits_s.append(time.perf_counter() - started_s)
                time.sleep(0.01)

    def stop(self) -> list[float]:
        self._over.set()
        self.join(60)
        return sorted(self.waits_s)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    api = Api(tmp_path_factory.mktemp("api") / "log")
    try:
        api.wait_ready()
        yield api
    finally:
        api.process.terminate()
        api.process.wait(20)


def test_hostile_bodies(api: Api) -> None:
    before_bytes = api.peak_bytes()
    watcher = Watcher(api.url)
    watcher.start()

    def send(hostile: Hostile) -> int:
        try:
            return http.post(hostile.url, content=hostile.content, headers=dict(hostile.headers)).status_code
        except httpx.WriteError:  # refused by its length, before it was sent
            return 413

    with ThreadPoolExecutor(2) as pool, httpx.Client(base_url=api.url, timeout=60, verify=False) as http:
        found = dict(zip(HOSTILE, pool.map(send, HOSTILE.values()), strict=True))
    waits_s = watcher.stop()
    assert found == {name: hostile.status for name, hostile in HOSTILE.items()}
    assert waits_s[int(len(waits_s) * 0.99)] < LONGEST_S * MARGIN, f"{len(waits_s)}, longest {waits_s[-1]:.3f} s"
    assert api.peak_bytes() - before_bytes < MOST_MEMORY_BYTES
