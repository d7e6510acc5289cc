"""README and the other pages: what they point at exists, and what they tell a person to type is real."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from inversion_client.command import build_parser as client_parser
from inversion_core.cli import build_parser

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def local_links(page: Path) -> list[str]:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    return [target for target in targets if not target.startswith(("http://", "https://", "mailto:"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert [link for link in local_links(page) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_exist(page: Path) -> None:
    typed = re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    assert set(typed) <= TARGETS


@pytest.mark.parametrize("name", ["architecture.md", "CONTRIBUTING.md", "README.md"])
def test_files_that_are_named_exist(name: str) -> None:
    page = next(each for each in PAGES if each.name == name)
    named = re.findall(r"`((?:inversion_[a-z]+|packs|tests|docs)/[\w./-]*)`", page.read_text())
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def typed_commands(page: Path) -> list[str]:
    """Lines of a page's blocks that call `inversion`, with what a backslash continues."""
    text = "\n".join(re.findall(r"```[a-z]*\n(.*?)```", page.read_text(), re.DOTALL))
    return re.findall(r"^inversion .*", text.replace("\\\n", " "), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_typed_are_understood(page: Path) -> None:
    for command in typed_commands(page):
        _, *words = shlex.split(re.sub(r"\$[A-Z]+", "", command), comments=True)
        parser, words = (
            (client_parser("inversion submit"), words[1:]) if words[0] == "submit" else (build_parser(), words)
        )
        try:
            parser.parse_args(words)
        except SystemExit as error:  # argparse has said why on stderr
            pytest.fail(f"{command}: {error}")


def test_the_page_of_packs_has_commands() -> None:
    assert len(typed_commands(ROOT / "docs" / "packs.md")) > 20


def test_each_experiment_has_its_line_in_the_index() -> None:
    folder = ROOT / "docs" / "experiments"
    listed = re.findall(
        r"^- (\d{4}-\d\d-\d\d) \[[^\]]+\]\((\1-[\w-]+\.md)\) .+", (folder / "README.md").read_text(), re.MULTILINE
    )
    pages = [page.name for page in folder.glob("*.md") if page.name != "README.md"]
    assert sorted(name for _, name in listed) == sorted(pages)
    assert [date for date, _ in listed] == sorted((date for date, _ in listed), reverse=True)


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/experiments/2*.md")), ids=lambda page: page.stem)
def test_an_experiment_has_its_sections(page: Path) -> None:
    sections = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
    assert sections == ["Command", "Commit", "Hardware", "Result", "Meaning"]


def test_readme_has_its_parts() -> None:
    for part in (
        "docs/images/",
        "make serve",
        "make test",
        "curl",
        "inversion_core/",
        "inversion_client/",
        "inversion_worker/",
        "inversion_app/",
    ):
        assert part in README


def test_readme_shell_is_sound() -> None:
    scripts = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    assert scripts
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, timeout=10, check=True)


def test_readme_python_compiles() -> None:
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 2
    for code in examples:
        compile(code, "README.md", "exec")


def test_commands_of_the_readme_are_installed() -> None:
    scripts = PROJECT["project"]["scripts"]
    assert {"inversion", "inversion-submit", "inversion-serve"} <= set(scripts)
    assert ".venv/bin/inversion " in README


def test_licence_is_the_whole_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    for part in ("Version 2.0, January 2004", "9. Accepting Warranty", "END OF TERMS AND CONDITIONS", "APPENDIX"):
        assert part in text
    assert PROJECT["project"]["license"].startswith("Apache-2.0 AND ")


def test_constraints_pin_every_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert all(re.fullmatch(r"[\w.]+", version) for version in pins.values())  # no +cpu, no path, no address
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = {
        re.match(r"[\w.-]+", line)[0]
        for name, lines in extras.items()
        if name not in {"imagenet", "descriptor"}
        for line in lines
    }
    normal = {re.sub(r"[-_.]+", "-", name).lower() for name in wanted}
    assert normal - pinned == {"stylegan-inversion"}
