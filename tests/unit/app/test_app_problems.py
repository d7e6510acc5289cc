"""The table of problems is complete: whatever is raised stands in it, and it stands in the documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from app_service import Service

from inversion_app.errors import KINDS
from inversion_app.problems_page import markdown
from inversion_core import errors as core_errors

ROOT = Path(__file__).parents[3]
RAISED = re.compile(r"""(?:ProblemError|_Refused|problem)\(\s*["']([a-z-]+)["']|return "([a-z]+-[a-z-]+)",""")


def test_the_page_is_the_table() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: python -m inversion_app.problems_page > docs/errors.md"
    for slug, kind in KINDS.items():
        assert f"| `{slug}` | {kind.title} | {kind.remedy} |" in page
        assert kind.slug == slug
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", slug)
        assert 400 <= kind.status <= 599
        assert kind.remedy.endswith(".")


def test_whatever_is_raised_stands_in_the_table() -> None:
    raised = {
        slug
        for package in ("inversion_app", "inversion_worker")
        for path in (ROOT / package).rglob("*.py")
        for found in RAISED.findall(path.read_text(encoding="utf-8"))
        for slug in found
        if slug
    }
    assert {"picture-invalid", "mask-invalid", "worker-lost", "inversion-expired", "idempotency-key-reused"} <= raised
    assert raised <= KINDS.keys()


def test_the_librarys_errors_stand_in_the_table_with_their_status() -> None:
    kinds = [value for value in vars(core_errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(kinds) >= 9
    for kind in kinds:
        assert KINDS[kind.slug].status == kind.status


def test_every_problem_that_openapi_names_stands_in_the_table(service: Service) -> None:
    document = service.get("/openapi.json").json()
    named = re.findall(r"/problems/([a-z-]+)", str(document["paths"]))
    assert len(set(named)) > 20
    assert set(named) <= KINDS.keys()


@pytest.mark.parametrize("slug", KINDS)
def test_a_problem_is_for_people_too(slug: str) -> None:
    """A remedy tells what to do: it is a sentence of several words, and not the title again."""
    assert len(KINDS[slug].remedy.split()) >= 4
    assert KINDS[slug].remedy != KINDS[slug].title
