"""docs/editing.md: its Python runs as it stands, and its tables say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inversion_core.editing.edits import KINDS, MOST_EDITS
from inversion_core.editing.shapes import FEATHER, SHAPES
from tests.drawn_face import draw_face

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[2] / "docs" / "editing.md"
TEXT = PAGE.read_text()


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw_face((400, 400), head_px=300).save("face.jpg")
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 4
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name} block {number}", "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} == {"face.jpg", "edited.png", "film.webp"}


def test_every_kind_and_shape_is_told() -> None:
    for kind in KINDS:
        assert f"| {kind} | `{{" in TEXT
    for shape in SHAPES:
        assert f'{{"{shape}": [' in TEXT
    assert f"up to {MOST_EDITS} JSON objects" in TEXT
    assert f'"feather": {FEATHER}' in TEXT
