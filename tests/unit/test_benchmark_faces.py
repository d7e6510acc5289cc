"""The benchmark of face detection: changes of a photograph, and the count of what became of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inversion_core.benchmark.faces import Row, darkened, measure_faces, turned
from inversion_core.errors import NoFaceFound


def test_a_row_counts() -> None:
    row = Row()
    for difference in (None, 1.0, 5.0, 5.1, 90.0):
        row.note(difference, 5.0)
    assert (row.right, row.refused, row.wrong, row.worst, row.count) == (2, 1, 2, 90.0, 5)


def test_changes() -> None:
    photo = Image.new("RGB", (40, 20), (188, 188, 188))  # half the light
    photo.putpixel((0, 0), (255, 0, 0))
    assert turned(photo, 90).size == (20, 40)
    assert turned(photo, 90).getpixel((19, 0)) == (255, 0, 0)  # clockwise
    assert np.abs(np.asarray(darkened(photo, 0.5))[10, 10].astype(int) - 137).max() <= 1  # a quarter
    assert darkened(photo, 1.0).tobytes() == photo.tobytes()


def test_a_table_is_written(tmp_path: Path) -> None:
    wall = Image.new("RGB", (256, 256), (150, 160, 170))
    wall.save(tmp_path / "wall.png")
    wall.paste(Image.open(Path(__file__).parents[1] / "data" / "hopper.png"), (64, 64))
    wall.save(tmp_path / "face.png")
    text = measure_faces(
        tmp_path / "out", [tmp_path / "face.png"], [tmp_path / "wall.png"], turns_deg=[15], exposures=[0.3]
    )
    assert "| 15 degrees | 1 | 1 | 0 | 0 |" in text
    assert "| 0.3 | 1 | 1 | 0 | 0 |" in text
    assert "Of 1 pictures without a face, 0 have one all the same." in text
    assert (tmp_path / "out" / "faces.md").read_text().startswith(text)
    with pytest.raises(NoFaceFound):
        measure_faces(tmp_path / "out", [tmp_path / "wall.png"], limit=0)
