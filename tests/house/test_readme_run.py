"""What the README tells a person to paste is pasted: shell, Python, a command; with a photo of Grace Hopper.

JavaScript is in tests/e2e/test_readme_page.py: it needs a browser.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a running service, the real one; the README has 127.0.0.1:8000."""
    port = free_port()
    with service(tmp_path_factory.mktemp("state"), port) as process:
        read_until(process, "ready:")
        yield f"127.0.0.1:{port}"


def here(text: str, address: str) -> str:
    """The example as it stands, but for the port and the number of steps: tests have no time."""
    assert "127.0.0.1:8000" in text
    found, times = re.subn(r"(steps[ =])50\b", r"\g<1>10", text)
    assert times == 1
    return found.replace("127.0.0.1:8000", address)


def run(command: list[str], folder: Path, given: str | None = None) -> str:
    """What it prints; it must end well."""
    result = subprocess.run(command, input=given, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def check_picture(path: Path) -> None:
    with Image.open(path) as inverted:
        assert inverted.width == inverted.height >= 8


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_example(address: str, folder: Path) -> None:
    said = run(["bash", "-euo", "pipefail"], folder, here(block("bash"), address))
    assert '"status":"succeeded"' in said.replace(": ", ":")
    assert np.load(folder / "code.npy", allow_pickle=False).ndim == 2
    check_picture(folder / "inverted.png")


def test_python_client_example(address: str, folder: Path) -> None:
    code = here(block("python", "InversionClient"), address) + "\nprint(w_LD.ndim, done.status)\n"
    lines = run([sys.executable, "-W", "error", "-c", code], folder).splitlines()
    assert [line.split()[0] for line in lines] == ["queued", "started", "frame", "frame", "frame", "done", "2"]
    assert lines[-1] == "2 succeeded"
    check_picture(folder / "inverted.png")


def test_submit_example(address: str, folder: Path) -> None:
    (line,) = re.findall(r"^\.venv/bin/inversion submit .*$", README, re.MULTILINE)
    program, *arguments = shlex.split(here(line, address))
    run([str(Path(sys.executable).with_name(Path(program).name)), *arguments], folder)
    assert np.load(folder / "result" / "face" / "latents.npy", allow_pickle=False).ndim == 2
    check_picture(folder / "result" / "face" / "reconstruction.png")


def test_python_example(folder: Path) -> None:
    code = block("python", "inversion_core").replace("num_steps=50", "num_steps=3")
    steps = [line.split() for line in run([sys.executable, "-W", "error", "-c", code], folder).splitlines()]
    assert [int(index) for index, _ in steps] == [0, 1, 2, 3]
    assert float(steps[-1][1]) < float(steps[0][1])
