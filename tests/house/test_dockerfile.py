"""The Dockerfile: hadolint has nothing to say, and what the two images promise holds."""

from __future__ import annotations

import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from dockerfile import ROOT, Instruction, stages

pytestmark = pytest.mark.unit

HADOLINT = Path(sys.executable).parent / "hadolint"
TARGETS = ("app", "worker")


def hadolint(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    command = [str(HADOLINT), "--no-color", "--failure-threshold", "style", str(dockerfile)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def of(target: str, word: str) -> list[Instruction]:
    """The instructions of one kind in a target and what it builds on."""
    return [each for each in stages()[target] if each.word == word]


def copied(target: str) -> set[str]:
    """What a target takes from the build context."""
    return {source for each in of(target, "COPY") for source in each.words[:-1]}


def test_hadolint_is_content() -> None:
    result = hadolint(ROOT / "Dockerfile")
    assert result.returncode == 0, result.stdout + result.stderr


def test_hadolint_does_find_faults(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /srv && pip install torch\n")
    result = hadolint(tmp_path / "Dockerfile")
    assert result.returncode != 0
    assert "DL3006" in result.stdout  # an image without a tag


@pytest.mark.parametrize("target", TARGETS)
def test_not_root_with_health_check_and_command(target: str) -> None:
    assert [each.rest for each in of(target, "USER")] == ["10001:10001"]
    assert len(of(target, "HEALTHCHECK")) == 1
    assert len(of(target, "CMD")) == 1
    assert of(target, "LABEL")


@pytest.mark.parametrize("target", TARGETS)
def test_pip_is_held_to_the_constraints(target: str) -> None:
    installs = [each.rest for each in of(target, "RUN") if "pip install" in each.rest]
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in each or "--no-deps" in each for each in installs)
    assert "PIP_NO_CACHE_DIR=1" in " ".join(each.rest for each in of(target, "ENV"))


def test_app_image_has_neither_torch_nor_the_core() -> None:
    assert "inversion_core" not in copied("app")
    assert "'.[app,s3,otel]'" in " ".join(each.rest for each in of("app", "RUN"))


def test_dockerignore_lets_through_what_is_copied() -> None:
    rules = (ROOT / ".dockerignore").read_text().split()
    assert rules[rules.index("*") :][0] == "*"  # everything is shut out first
    let_through = [rule[1:] for rule in rules if rule.startswith("!")]
    for target in TARGETS:
        assert copied(target) <= set(let_through)
    assert all((ROOT / name).exists() for name in let_through)
    assert not any(fnmatch(".venv", name) or fnmatch("var", name) for name in let_through)
