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
SCRIPT = "import inversion_client\nimport inversion_core\n"


def test_packages_lie_behind_a_path_that_a_type_checker_reads() -> None:
    site = Path(sysconfig.get_path("purelib"))
    lines = {line for file in site.glob("*.pth") for line in file.read_text().splitlines()}
    assert str(ROOT) in lines, (
        "an import hook hides the packages; see [tool.distutils.editable_wheel] in pyproject.toml"
    )
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)


def test_mypy_finds_them(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "user.py"]
    shallow = ["--follow-imports", "skip"]  # torch's own types take a minute
    done = subprocess.run([*command, *shallow], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 1 source file\n"), done.stdout
