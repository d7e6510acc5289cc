"""INVERSION_REQUIRE_ALL: where everything must run, a skip of an integration or browser test is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SKIPS = """
import pytest

@pytest.mark.{mark}
def test_it():
    pytest.skip("no browser here")
"""
SKIPS_WHOLE_FILE = 'import pytest\npytest.importorskip("a_module_that_is_not_there")\n'


def run_pytest(folder: Path, require_all: str | None) -> subprocess.CompletedProcess[str]:
    """Run pytest on `folder` with our conftest beside it, in a process of its own."""
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    marks = "\n".join(f"    {mark}: x" for mark in ("e2e", "integration", "gpu"))
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = --strict-markers\nmarkers =\n{marks}\n")
    env = {name: value for name, value in os.environ.items() if name != "INVERSION_REQUIRE_ALL"}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # each would be imported anew seven times
    if require_all is not None:
        env["INVERSION_REQUIRE_ALL"] = require_all
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("mark", "require_all", "outcome"),
    [
        ("e2e", "1", "1 failed"),
        ("integration", "1", "1 failed"),
        ("gpu", "1", "1 skipped"),
        ("e2e", "0", "1 skipped"),
        ("e2e", None, "1 skipped"),
    ],
)
def test_skip_inside_a_test(tmp_path: Path, mark: str, require_all: str | None, outcome: str) -> None:
    (tmp_path / "test_it.py").write_text(SKIPS.format(mark=mark))
    result = run_pytest(tmp_path, require_all)
    assert outcome in result.stdout
    assert ("no browser here" in result.stdout) == (outcome == "1 failed")


@pytest.mark.parametrize(("folder", "status"), [("e2e", 2), ("unit", 5)])
def test_skip_of_a_whole_file(tmp_path: Path, folder: str, status: int) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "test_it.py").write_text(SKIPS_WHOLE_FILE)
    assert run_pytest(tmp_path, "1").returncode == status
