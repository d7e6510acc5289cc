"""The import rules: they hold, the linter sees a breach of each, and the app starts without torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"
WITHOUT_TORCH = """
import sys
for name in ("torch", "inversion_core"):
    sys.modules[name] = None  # importing it raises ImportError
import inversion_app.main, inversion_app.serve
inversion_app.main.create_app()
"""


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(LINT_IMPORTS), "--no-cache", "--config", "pyproject.toml"]
    env = {"PYTHONPATH": str(folder), "PATH": str(LINT_IMPORTS.parent)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages without their contents but the modules that the rules name."""
    folder = tmp_path_factory.mktemp("skeleton")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in ("inversion_app", "inversion_worker", "inversion_core", "inversion_client", "inversion_pictures"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    for module in ("tasks", "bootstrap", "frames", "store", "client", "contract"):
        (folder / "inversion_worker" / f"{module}.py").touch()
    (folder / "inversion_client" / "command.py").touch()
    (folder / "inversion_core" / "cli").mkdir()
    (folder / "inversion_core" / "cli" / "__init__.py").touch()
    (folder / "inversion_core" / "cli" / "submit.py").write_text("import inversion_client.command\n")
    (folder / "inversion_app" / "good.py").write_text(
        "import inversion_worker.client\nimport inversion_worker.contract\n"
    )
    assert lint(folder).returncode == 0
    return folder


def test_rules_hold() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("inversion_core/bad.py", "import fastapi"),
        ("inversion_core/bad.py", "import pydantic"),
        ("inversion_core/bad.py", "import inversion_worker.contract"),
        ("inversion_core/bad.py", "import inversion_client"),
        ("inversion_core/cli/bad.py", "import inversion_client.command"),
        ("inversion_client/bad.py", "import inversion_core"),
        ("inversion_client/bad.py", "import inversion_worker.contract"),
        ("inversion_client/bad.py", "import inversion_app"),
        ("inversion_client/bad.py", "import pydantic"),
        ("inversion_pictures/bad.py", "import inversion_core"),
        ("inversion_pictures/bad.py", "import torch"),
        ("inversion_client/bad.py", "import inversion_pictures"),
        ("inversion_app/bad.py", "import inversion_client"),
        ("inversion_worker/bad.py", "import inversion_client"),
        ("inversion_app/bad.py", "import torch"),
        ("inversion_app/bad.py", "import inversion_core"),
        ("inversion_app/bad.py", "import inversion_worker.tasks"),
        ("inversion_app/bad.py", "import inversion_worker.store"),
        ("inversion_worker/bad.py", "import inversion_app"),
        ("inversion_worker/bad.py", "import fastapi"),
    ],
)
def test_each_breach_is_seen(skeleton: Path, file: str, line: str) -> None:
    bad = skeleton / file
    bad.write_text(line + "\n")
    try:
        assert "BROKEN" in lint(skeleton).stdout
    finally:
        bad.unlink()


def test_app_starts_where_torch_is_not_installed() -> None:
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
