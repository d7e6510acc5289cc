"""The Dockerfile: hadolint has nothing to say, and what the two images promise holds."""

from __future__ import annotations

import ast
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from dockerfile import ROOT, Instruction, line_of, made_by
from extras import brought_by
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from inversion_core.packs import DEFAULT_PACK
from inversion_core.packs.places import shipped_roots

pytestmark = pytest.mark.unit

HADOLINT = Path(sys.executable).parent / "hadolint"
TARGETS = ("app", "worker")
STARTS = {"app": ["inversion_app"], "worker": ["inversion_worker", "inversion_core"]}
"""Target -> packages whose modules its image runs."""
LEFT_OUT = {"app": {"inversion_core", "inversion_client"}, "worker": {"inversion_client"}}
"""What is imported by modules that the image never runs: the worker's own, and `inversion submit`."""


def hadolint(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    command = [str(HADOLINT), "--no-color", "--failure-threshold", "style", str(dockerfile)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def of(target: str, word: str) -> list[Instruction]:
    """The instructions of one kind that are in a target's image."""
    return [each for stage in line_of(target) for each in stage.own if each.word == word]


def made_with(target: str, word: str) -> list[Instruction]:
    """The instructions of one kind in all stages that a target needs."""
    return [each for stage in made_by(target) for each in stage.own if each.word == word]


def copied(target: str) -> set[str]:
    """What a target takes from the build context."""
    return {source for each in made_with(target, "COPY") if not each.from_stage for source in each.words[:-1]}


def our_imports(package: str) -> set[str]:
    """Packages of ours that one of them imports."""
    found: set[str] = set()
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return {name for name in found if name.startswith("inversion_")}


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
    installs = [each.rest for each in made_with(target, "RUN") if "pip install" in each.rest]
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in each or "--no-deps" in each for each in installs)
    assert "PIP_NO_CACHE_DIR=1" in " ".join(each.rest for each in made_with(target, "ENV"))


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_of_the_build_stays_but_what_is_installed(target: str) -> None:
    assert not any("pip" in each.rest for each in of(target, "RUN") + of(target, "ENV"))
    copies = [each.words for each in of(target, "COPY") if each.from_stage]
    assert copies == [
        [f"--from={target}-packages", "/opt/venv", "/opt/venv"],
        [f"--from={target}-code", "/opt/code", "/opt/venv"],
    ]


def test_app_image_has_neither_torch_nor_the_core() -> None:
    assert "inversion_core" not in copied("app")
    assert {"inversion_commands", "inversion_worker", "inversion_app"} <= copied("app")


@pytest.mark.parametrize(("target", "extras"), [("app", "heif s3 otel"), ("worker", "film heif s3 otel")])
def test_an_image_holds_what_its_extras_require(target: str, extras: str) -> None:
    """In a list of its own: the layer is made anew when that changes, and not with every line of pyproject.toml."""
    (lists,) = [each.rest for each in made_with(target, "RUN") if "requirements.py" in each.rest]
    assert f"requirements.py {target} {extras} > {target}.txt" in lists
    assert f"--requirement {target}.txt" in " ".join(each.rest for each in made_with(target, "RUN"))
    command = [sys.executable, ROOT / ".ci" / "requirements.py", target, *extras.split()]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = {canonicalize_name(Requirement(line).name) for line in said.splitlines()}
    assert names <= brought_by([target, *extras.split()])
    assert {"celery", "s3fs", "pi-heif", "opentelemetry-sdk"} <= names
    assert ("torch" in names) == ("av" in names) == (target == "worker")
    assert "celery[redis]" in said


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_holds_every_package_of_ours_that_it_runs(target: str) -> None:
    wanted, seen = list(STARTS[target]), set()
    while wanted:
        package = wanted.pop()
        if package not in seen:
            seen.add(package)
            wanted += our_imports(package)
    assert seen - LEFT_OUT[target] <= copied(target)


def test_the_worker_image_has_the_default_pack_and_no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    (placed,) = [each.words for each in of("worker", "COPY") if not each.from_stage]
    assert placed[0] == f"packs/{DEFAULT_PACK}"
    assert (ROOT / placed[0] / "pack.json").is_file()
    monkeypatch.setattr(sys, "prefix", "/opt/venv")
    assert Path(placed[1]).parent in shipped_roots()
    assert not any("packs" in source for source in copied("app"))


def test_dockerignore_lets_through_what_is_copied() -> None:
    rules = (ROOT / ".dockerignore").read_text().split()
    assert rules[rules.index("*") :][0] == "*"  # everything is shut out first
    let_through = [rule[1:] for rule in rules if rule.startswith("!")]
    for target in TARGETS:
        assert copied(target) <= set(let_through)
    assert all((ROOT / name).exists() for name in let_through)
    assert not any(fnmatch(".venv", name) or fnmatch("var", name) for name in let_through)
