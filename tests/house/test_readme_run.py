"""What the README tells a person to paste is pasted: shell and Python, with a photo of Grace Hopper."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from PIL import Image
from running_service import ROOT, free_port, read_until, service

pytestmark = pytest.mark.integration

README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    """The README's one block of that language."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a person would be, with face.jpg: the portrait that comes with matplotlib, in the public domain."""
    shutil.copy(get_sample_data("grace_hopper.jpg", asfileobj=False), tmp_path / "face.jpg")
    return tmp_path


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_example(folder: Path) -> None:
    port = free_port()
    script = block("bash").replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("steps=50", "steps=10")
    with service(folder / "state", port) as process:
        read_until(process, "ready:")
        result = subprocess.run(
            ["bash", "-euo", "pipefail"],
            input=script,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    assert '"status":"succeeded"' in result.stdout.replace(": ", ":")
    assert np.load(folder / "code.npy", allow_pickle=False).ndim == 2
    with Image.open(folder / "inverted.png") as inverted:
        assert inverted.width == inverted.height >= 8


def test_python_example(folder: Path) -> None:
    code = block("python").replace("num_steps=50", "num_steps=3")
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    steps = [line.split() for line in result.stdout.splitlines()]
    assert [int(index) for index, _ in steps] == [0, 1, 2, 3]
    assert float(steps[-1][1]) < float(steps[0][1])
