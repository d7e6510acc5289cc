"""How robust face detection is: photographs turned and darkened, whose upright answer is the truth, and pictures of
no face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from inversion_core.benchmark.facts import facts_list, machine_facts
from inversion_core.benchmark.photos import find_photos
from inversion_core.errors import NoFaceFound
from inversion_core.faces import Face, FaceDetector
from inversion_core.faces.frame import Floats
from inversion_core.faces.mapping import side
from inversion_core.faces.pose import roll_deg
from inversion_core.pictures import load_photo
from inversion_core.progress import progress

TURNS_DEG = (0, 15, 30, 45, 60, 75, 90, 120, 150, 180, 270)
EXPOSURES = (0.15, 0.05, 0.02)
"""Parts of the light, in linear terms."""
MOST_DEG = 5.0
"""Tilt against the upright answer's up to which a crop counts as upright."""
MOST_SHIFT = 0.1
"""Distance of a corner from where it belongs, as a part of the crop's side, up to which a crop counts as the same."""
GREY = (128, 128, 128)


@dataclass(kw_only=True)
class Row:
    """What became of the photographs under one change."""

    right: int = 0
    refused: int = 0
    wrong: int = 0
    worst: float = 0.0
    """Largest difference that was accepted."""

    @property
    def count(self) -> int:
        return self.right + self.refused + self.wrong

    def note(self, difference: float | None, most: float) -> None:
        """One photograph's difference; None where no face was found."""
        if difference is None:
            self.refused += 1
            return
        self.worst = max(self.worst, difference)
        if difference <= most:
            self.right += 1
        else:
            self.wrong += 1


@dataclass(kw_only=True)
class Tables:
    """All rows, and how many pictures without a face have one all the same."""

    turned: dict[int, Row]
    """By degrees."""
    dark: dict[float, Row]
    """By exposure."""
    none: int = 0
    false: int = 0


def measure_faces(
    out: Path, photos: Sequence[Path], without: Sequence[Path] = (), limit: int | None = None, *,
    turns_deg: Sequence[int] = TURNS_DEG, exposures: Sequence[float] = EXPOSURES,
) -> str:  # fmt: skip
    """Write faces.md below `out`, after each photograph anew, and return its tables.

    Args:
        photos: pictures, or folders of them, whose largest face is upright.
        without: the same without any face.
        limit: take the first so many of each.
    Raises:
        NoFaceFound: in none of the photographs.
    """
    out.mkdir(parents=True, exist_ok=True)
    detector, text = FaceDetector(), ""
    tables = Tables(turned={degrees: Row() for degrees in turns_deg}, dark={part: Row() for part in exposures})
    for file in progress(find_photos(photos)[:limit], desc="photographs", unit="photo"):
        _note_photo(tables, load_photo(file), detector)
        text = _write(out, tables)
    if not text:
        raise NoFaceFound("There are no photographs with a face to be measured. Name some, or a folder of them.")
    for file in progress((find_photos(without) if without else [])[:limit], desc="without a face", unit="picture"):
        tables.none += 1
        tables.false += bool(detector.detect(load_photo(file)))
        text = _write(out, tables)
    return text


def _note_photo(tables: Tables, photo: Image.Image, detector: FaceDetector) -> None:
    truth = _first(detector, photo)
    if truth is None:
        return
    for degrees, row in tables.turned.items():
        found = _first(detector, turned(photo, degrees))
        apart = None if found is None else roll_deg(found.landmarks) - roll_deg(truth.landmarks) - degrees
        row.note(None if apart is None else abs((apart + 180) % 360 - 180), MOST_DEG)
    for exposure, row in tables.dark.items():
        found = _first(detector, darkened(photo, exposure))
        row.note(None if found is None else _shift(found.quad, truth.quad), MOST_SHIFT)


def _first(detector: FaceDetector, photo: Image.Image) -> Face | None:
    return next(iter(detector.detect(photo)), None)


def _shift(quad: Floats, truth: Floats) -> float:
    return float(np.hypot(*(quad - truth).T).max()) / side(truth)


def turned(photo: Image.Image, degrees: int) -> Image.Image:
    """Clockwise, whole, on grey."""
    return photo.rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=GREY)


def darkened(photo: Image.Image, exposure: float) -> Image.Image:
    """As a photograph with that part of the light, in 8 bits."""
    value_N = np.arange(256) / 255
    linear_N = np.where(value_N <= 0.04045, value_N / 12.92, ((value_N + 0.055) / 1.055) ** 2.4) * exposure
    dark_N = np.where(linear_N <= 0.0031308, 12.92 * linear_N, 1.055 * linear_N ** (1 / 2.4) - 0.055)
    return photo.point((255 * dark_N).round().astype(int).tolist() * 3)


def _write(out: Path, tables: Tables) -> str:
    rows = ["| turned by | photographs | upright | refused | wrong | largest tilt |", "|---|---|---|---|---|---|"]
    rows += [_line(f"{degrees} degrees", row, f"{row.worst:.1f} degrees") for degrees, row in tables.turned.items()]
    rows += [
        "",
        "| exposure | photographs | same crop | refused | wrong | largest shift |",
        "|---|---|---|---|---|---|",
    ]
    rows += [_line(f"{exposure}", row, f"{row.worst:.3f}") for exposure, row in tables.dark.items()]
    if tables.none:
        rows += ["", f"Of {tables.none} pictures without a face, {tables.false} have one all the same."]
    text = "\n".join(rows)
    (out / "faces.md").write_text(f"{text}\n\n{facts_list(machine_facts('cpu'))}\n", encoding="utf-8")
    return text


def _line(name: str, row: Row, worst: str) -> str:
    return f"| {name} | {row.count} | {row.right} | {row.refused} | {row.wrong} | {worst} |"
