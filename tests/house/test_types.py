"""Types after `make install`: a checker finds our packages from a script of somebody else."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PACKAGES = ("inversion_core", "inversion_client", "inversion_worker", "inversion_app")
SCRIPT = """\
from pathlib import Path

import inversion_app
import inversion_core
import inversion_worker
from inversion_client import InversionClient

with InversionClient("http://127.0.0.1:8000") as client:
    done = client.wait(client.submit(Path("face.jpg"), steps=50))
    reveal_type(done)
    client.download(done, "image", to=3)
"""


def test_packages_lie_behind_a_path_that_a_type_checker_reads() -> None:
    site = Path(sysconfig.get_path("purelib"))
    lines = {line for file in site.glob("*.pth") for line in file.read_text().splitlines()}
    assert str(ROOT) in lines, (
        "an import hook hides the packages; see [tool.distutils.editable_wheel] in pyproject.toml"
    )
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)


def test_mypy_finds_them_and_their_types(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "user.py"]
    only_ours = ["--follow-imports", "skip", "--no-silence-site-packages"]
    done = subprocess.run(
        [*command, *only_ours], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert "import" not in done.stdout, done.stdout
