"""The changelogs: the program's has its version, the packs' has theirs."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
PACK_FOLDERS = ("packs", "packs/comparison", "inversion_core/packs/data")
PACKS = sorted(file for folder in PACK_FOLDERS for file in (ROOT / folder).glob("*/pack.json"))


def test_the_changelog_has_the_version_of_the_program() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d", headings[1])
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= KINDS


@pytest.mark.parametrize("file", PACKS, ids=lambda file: file.parent.name)
def test_the_packs_changelog_begins_with_the_version_that_is_there(file: Path) -> None:
    pack = json.loads(file.read_text())
    text = (ROOT / "docs" / "packs-changelog.md").read_text()
    section = re.search(rf"^## {pack['name']}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"docs/packs-changelog.md has no section {pack['name']}"
    newest = re.findall(r"^### (\S+) - \d{4}-\d\d-\d\d$", section[1], re.MULTILINE)[0]
    assert newest == pack["version"]
