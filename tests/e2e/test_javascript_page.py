"""The JavaScript of docs/javascript.md, as it stands but for the port: in a page, and in node where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from matplotlib.cbook import get_sample_data
from playwright.sync_api import Browser

PAGE_OF_DOCS = (Path(__file__).parents[2] / "docs" / "javascript.md").read_text()
PAGE = "<!doctype html><title>An editor</title><input type=file>"


@pytest.fixture
def script(url: str) -> str:
    """Five frames are enough."""
    (text,) = re.findall(r"```js\n(.*?)```", PAGE_OF_DOCS, re.DOTALL)
    assert '"http://127.0.0.1:8000"' in text
    assert '"50"' in text
    return str(text).replace("http://127.0.0.1:8000", url).replace('"50"', '"20"')


def check(lines: list[str], url: str) -> None:
    """What the example prints: each event, and at the end the result."""
    *events, result = [line.split() for line in lines]
    assert [event[0] for event in events] == ["queued", "started", *["frame"] * 5, "done"]
    assert [event[1] for event in events[2:7]] == ["0", "5", "10", "15", "20"]
    assert result[0] == "succeeded"
    assert result[-1].startswith(f"{url}/v1/inversions/")


def test_in_a_page(browser: Browser, url: str, script: str) -> None:
    """On a page of an address of its own at the service's origin."""
    context = browser.new_context()
    page = context.new_page()
    page.route(f"{url}/editor", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
    page.goto(f"{url}/editor")
    page.set_input_files("input", get_sample_data("grace_hopper.jpg", asfileobj=False))
    said: list[str] = []
    errors: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    with page.expect_console_message(lambda message: message.text.startswith("succeeded"), timeout=30_000):
        page.add_script_tag(content=script, type="module")
    context.close()
    assert errors == []
    check(said, url)


def test_in_node(url: str, script: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        return  # not skipped: nobody needs node here, and the page above runs the same lines
    shutil.copy(get_sample_data("grace_hopper.jpg", asfileobj=False), tmp_path / "face.jpg")
    (tmp_path / "invert.mjs").write_text(script)
    result = subprocess.run([node, "invert.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    check(result.stdout.splitlines(), url)
