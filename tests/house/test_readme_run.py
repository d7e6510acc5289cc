"""What the README tells a person to paste is pasted: shell, Python, a command; with a photo of Grace Hopper.

JavaScript is in tests/e2e/test_javascript_page.py: it needs a browser.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from PIL import Image
from running_service import ROOT, free_port, read_until, service

pytestmark = pytest.mark.integration

README = (ROOT / "README.md").read_text()


def block(language: str, having: str = "") -> str:
    """The README's one block of that language that has these words in it."""
    (text,) = (text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if having in text)
    return str(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a person would be, with face.jpg: the portrait that comes with matplotlib, in the public domain."""
    shutil.copy(get_sample_data("grace_hopper.jpg", asfileobj=False), tmp_path / "face.jpg")
    return tmp_path


@dataclass(frozen=True, kw_only=True)
class Running:
    """A running service, the real one."""

    address: str
    """host:port; the README has 127.0.0.1:8000."""
    state: Path
    """The README has var/8000."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    port, state = free_port(), tmp_path_factory.mktemp("state")
    with service(state, port) as process:
        read_until(process, "ready:")
        yield Running(address=f"127.0.0.1:{port}", state=state)


def here(text: str, running: Running) -> str:
    """The example as it stands, but for place and port."""
    assert "127.0.0.1:8000" in text
    return text.replace("127.0.0.1:8000", running.address).replace("var/8000", str(running.state))


def run(command: list[str], folder: Path, given: str | None = None, running: Running | None = None) -> str:
    """What it prints; it must end well."""
    env = os.environ | ({"XDG_STATE_HOME": str(running.state)} if running else {})
    result = subprocess.run(
        command, input=given, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def check_picture(path: Path) -> None:
    with Image.open(path) as inverted:
        assert inverted.width == inverted.height >= 8


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_example(running: Running, folder: Path) -> None:
    said = run(["bash", "-euo", "pipefail"], folder, here(block("bash"), running))
    assert '"status":"succeeded"' in said.replace(": ", ":")
    assert np.load(folder / "code.npy", allow_pickle=False).ndim == 2
    check_picture(folder / "inverted.png")
    with Image.open(folder / "smiling.jpg") as smiling, Image.open(folder / "face.jpg") as photo:
        assert smiling.size == photo.size


def test_python_client_example(running: Running, folder: Path) -> None:
    """It finds the token by itself."""
    code = here(block("python", "InversionClient"), running) + "\nprint(w_LD.ndim, done.status)\n"
    lines = run([sys.executable, "-W", "error", "-c", code], folder, running=running).splitlines()
    kinds = [line.split()[0] for line in lines]
    assert [kind for kind in kinds if kind != "frame"] == ["queued", "started", "done", "2"]
    assert kinds.count("frame") >= 2
    assert lines[-1] == "2 succeeded"
    check_picture(folder / "inverted.png")


def test_submit_example(running: Running, folder: Path) -> None:
    (line,) = re.findall(r"^\.venv/bin/inversion submit .*$", README, re.MULTILINE)
    program, *arguments = shlex.split(here(line, running))
    run([str(Path(sys.executable).with_name(Path(program).name)), *arguments], folder, running=running)
    assert np.load(folder / "result" / "face" / "latents.npy", allow_pickle=False).ndim == 2
    check_picture(folder / "result" / "face" / "reconstruction.png")


def test_python_example(folder: Path) -> None:
    code = block("python", "inversion_core")
    steps = [line.split() for line in run([sys.executable, "-W", "error", "-c", code], folder).splitlines()]
    assert [int(index) for index, _ in steps] == list(range(len(steps)))
    assert float(steps[-1][1]) < float(steps[0][1])
