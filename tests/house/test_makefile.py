"""The Makefile on a machine of straw: a fake python3 that notes what it is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
TARGETS = ("help", "install", "serve", "test", "check", "format")
FAKE_PYTHON = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in
    "-c "*) exit ${TOO_OLD:-0} ;;
    "-m venv"*)
        [ -n "$NO_VENV" ] && exit 1
        mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
esac
"""


class Clone:
    """A fresh clone with the fake python3."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls_file = folder / "calls"
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, folder)
        self.python = folder / "fake-python3"
        self.python.write_text(FAKE_PYTHON)
        self.python.chmod(0o755)

    def make(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = ["make", f"PYTHON={self.python}", *args]
        full_env = {"PATH": os.environ["PATH"], "CALLS": str(self.calls_file), **env}
        return subprocess.run(
            command, cwd=self.folder, env=full_env, capture_output=True, text=True, timeout=30, check=False
        )

    def calls(self) -> list[str]:
        """What python was asked for since the last look."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return lines


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_help_lists_every_target() -> None:
    result = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert all(f"make {target} " in result.stdout for target in TARGETS)


def test_installs_once_and_again_when_the_pins_change(clone: Clone) -> None:
    assert clone.make("install").returncode == 0
    install = "-m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .[dev]"
    assert install in clone.calls()
    clone.make("install")
    assert clone.calls() == []
    for name in ("constraints.txt", "pyproject.toml"):
        newer = (clone.folder / ".venv" / ".installed").stat().st_mtime + 10
        os.utime(clone.folder / name, (newer, newer))
        clone.make("install")
        assert install in clone.calls()
        os.utime(clone.folder / name, (0, 0))


def test_serve_and_test_install_by_themselves(clone: Clone) -> None:
    clone.make("serve", "PORT=8123")
    calls = clone.calls()
    assert calls[-1] == "-m inversion_app.serve --stop-with-parent --host 127.0.0.1 --port 8123"
    assert any("pip install" in call for call in calls)
    clone.make("test", "ARGS=-k alignment")
    assert clone.calls() == ["-m pytest -n auto --maxprocesses 4 --dist loadgroup -k alignment"]


def test_environment_does_not_move_the_service(clone: Clone) -> None:
    clone.make("serve", HOST="x86_64-conda-linux-gnu", PORT="1")
    assert clone.calls()[-1].endswith("--host 127.0.0.1 --port 8000")


def test_no_python(clone: Clone) -> None:
    clone.python = Path("no-such-python")
    result = clone.make("serve")
    assert result.returncode != 0
    assert "Install Python 3.11" in result.stderr


def test_python_too_old(clone: Clone) -> None:
    result = clone.make("test", TOO_OLD="1")
    assert result.returncode != 0
    assert "older than 3.11" in result.stderr
    assert "make test PYTHON=" in result.stderr


def test_python_without_venv(clone: Clone) -> None:
    result = clone.make("serve", NO_VENV="1")
    assert result.returncode != 0
    assert "apt-get install python3-venv" in result.stderr
    assert not (clone.folder / ".venv").exists()


def test_failed_install_is_tried_again(clone: Clone) -> None:
    script = clone.python.read_text().replace("esac", '    "-m pip install"*) exit 1 ;;\nesac')
    clone.python.write_text(script)
    assert clone.make("install").returncode != 0
    clone.calls()
    assert clone.make("install").returncode != 0
    assert any("pip install" in call for call in clone.calls())
