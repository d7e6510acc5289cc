"""The page in a real browser, with everything behind it: Valkey, a worker process and the API.

The worker's inversion is made up (tests/fake_worker.py), so that these tests are about the page;
test_stack.py runs the library itself.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from e2e_service import PATIENCE_S, free_port, wait_ready
from playwright.sync_api import Browser, Page, expect, sync_playwright
from worker_process import FAKE_WORKER, WorkerProcess

from inversion_worker.valkey import EmbeddedValkey

expect.set_options(timeout=30_000)  # milliseconds; a busy machine is no failure

BROWSER_ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
STEP_S = 0.03


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window; closed after each file, for no other event loop can run beside Playwright's."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=BROWSER_ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def service_env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a service with a Valkey and a folder of its own."""
    folder = tmp_path_factory.mktemp("service")
    with EmbeddedValkey(folder / "valkey") as valkey:
        yield os.environ | {
            "INVERSION_REDIS_URL": valkey.url,
            "INVERSION_ARTIFACTS_URL": f"file://{folder / 'artifacts'}",
            "INVERSION_LOG_LEVEL": "INFO",
            "INVERSION_AUTH": "off",
            "INVERSION_NICENESS": "0",
            "FAKE_STEP_S": str(STEP_S),
        }


@pytest.fixture(scope="session")
def url(service_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a whole service of its own listens."""
    port = free_port()
    worker = WorkerProcess(FAKE_WORKER, service_env, tmp_path_factory.mktemp("worker") / "worker.log")
    command = ["inversion_app", "--port", str(port), "--log-level", "warning"]
    api = subprocess.Popen([sys.executable, "-m", *command], env=service_env)
    try:
        wait_ready(f"http://127.0.0.1:{port}", api)
        yield f"http://127.0.0.1:{port}"
    finally:
        worker.kill()
        api.send_signal(signal.SIGTERM)
        assert api.wait(PATIENCE_S) == -signal.SIGTERM  # uvicorn's way to end well


@contextmanager
def further_api(service_env: dict[str, str], **settings: str) -> Iterator[str]:
    """The address of another API process on the same Valkey."""
    port = free_port()
    command = ["inversion_app", "--port", str(port), "--log-level", "warning"]
    api = subprocess.Popen([sys.executable, "-m", *command], env=service_env | settings)
    try:
        wait_ready(f"http://127.0.0.1:{port}", api)
        yield f"http://127.0.0.1:{port}"
    finally:
        api.send_signal(signal.SIGTERM)
        api.wait(PATIENCE_S)


@pytest.fixture
def guarded(url: str, service_env: dict[str, str]) -> Iterator[tuple[str, str]]:
    """One that asks for keys: its address, and a key."""
    made = subprocess.run(
        [sys.executable, "-m", "inversion_app.keys_command", "create", "page"],
        env=service_env, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    with further_api(service_env, INVERSION_AUTH="on") as address:
        yield address, made.stdout.strip()


@pytest.fixture
def local(url: str, service_env: dict[str, str]) -> Iterator[tuple[str, str]]:
    """One as `make serve` starts it: its address, and its token."""
    token = f"local_{secrets.token_urlsafe(32)}"
    with further_api(service_env, INVERSION_AUTH="auto", INVERSION_LOCAL_TOKEN=token) as address:
        yield address, token


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where pictures of the page go; INVERSION_SCREENSHOTS names a folder to keep them."""
    folder = Path(os.environ.get("INVERSION_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(browser: Browser, url: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, opened; no script may fail on it, and nothing may be asked of another host.

    Parametrize it indirectly with options of a browser context: a phone, dark colours.
    """
    context = browser.new_context(**getattr(request, "param", {"viewport": {"width": 1200, "height": 900}}))
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None)
    page.on(
        "request", lambda asked: None if asked.url.startswith((url, "blob:", "data:")) else errors.append(asked.url)
    )
    page.goto(url)
    page.locator("#pack option[value=fake-32]").wait_for(state="attached")
    yield page
    context.close()
    assert errors == []
