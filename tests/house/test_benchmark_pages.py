"""Pages of benchmarks that are checked in say what the command would write today."""

from __future__ import annotations

from pathlib import Path

import pytest

from inversion_core.benchmark.optimizers.page import MEANING

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parents[2] / "docs" / "benchmarks" / "optimizers"
PAGES = sorted(page for page in FOLDER.glob("**/README.md") if page.parent != FOLDER)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.parent.relative_to(FOLDER)))
def test_a_page_of_optimizers_explains_its_columns_as_the_command_does(page: Path) -> None:
    assert MEANING.format(steps=100, never=101) in page.read_text()
