"""What goes into the wheel: the program and the small pack, under PyPI's bounds and under stated licences."""

from __future__ import annotations

import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LARGEST_BYTES = 26_000_000


def wheel_files() -> list[Path]:
    """Files of the repository that setuptools puts into the wheel, by what pyproject.toml says."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    data = PROJECT["tool"]["setuptools"]["package-data"]
    roots = [pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]]
    chosen = []
    for name in tracked:
        package, _, rest = name.partition("/")
        if package in roots and (name.endswith(".py") or any(fnmatch(rest, each) for each in data.get(package, []))):
            chosen.append(ROOT / name)
    return chosen


def test_the_wheel_is_small() -> None:
    files = wheel_files()
    assert sum(file.stat().st_size for file in files) < LARGEST_BYTES  # before they are compressed
    packs = {file.parent.name for file in files if file.name == "pack.json"}
    assert packs == {"faces-64"}


def test_its_metadata_states_the_licences_of_program_and_packs() -> None:
    project = PROJECT["project"]
    assert set(project["license"].split(" AND ")) == {"Apache-2.0", "CC-BY-NC-SA-4.0", "MIT"}
    assert all((ROOT / name).is_file() for name in project["license-files"])
    text = (ROOT / "LICENSE-PACKS").read_text()
    assert "Attribution-NonCommercial-ShareAlike 4.0 International" in text
    assert "Section 1 – Definitions." in text


def test_no_weights_are_stored_twice() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-s", "*.safetensors"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    blobs = [line.split()[1] for line in listed.stdout.splitlines()]
    assert blobs
    assert len(blobs) == len(set(blobs))


def test_torch_is_a_range_and_what_we_install_is_one_release() -> None:
    (torch,) = [line for line in PROJECT["project"]["optional-dependencies"]["core"] if line.startswith("torch")]
    assert torch == "torch>=2.8,<3"
    assert "torch==" in (ROOT / "constraints.txt").read_text()
    for name in ("Makefile", "Dockerfile", ".ci/run"):
        for line in (ROOT / name).read_text().splitlines():
            if "pip install" in line and "-r" not in line.split():
                assert "--constraint constraints.txt" in line or "--no-deps" in line, f"{name}: {line}"
