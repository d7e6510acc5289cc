"""What `inversion benchmark quality` writes: quality.json, quality.csv, quality.md and sheet.png."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from inversion_core.benchmark.facts import facts_list, machine_facts
from inversion_core.benchmark.methods import start_name
from inversion_core.packs import Pack
from inversion_core.pictures import grid

TILE_PX = 128
"""Least side of the sheet's pictures."""
HEADER_PX = 20
DIGITS = {
    "mse": 5, "psnr_db": 2, "psnr_signed_db": 2, "ssim": 3, "lpips": 4, "identity": 3, "identity_photo": 3,
    "descriptor": 3, "seconds": 3,
}  # fmt: skip
"""Digits after the point in quality.md, and the order of its columns."""
MEANING = """Mean (standard deviation over the photographs).

- NAME-N: the best of N steps by the loss, which is the one that the service keeps; NAME-N-detail-M: with M steps of
  detail after them; the first row is the start alone
- mse, psnr_signed_db: of pictures in [-1, 1], not rounded; the peak is the range, 2
- psnr_db, ssim: of 8-bit pictures, peak 255; SSIM (Wang 2004) of the luma, 11 px Gaussian window
- lpips: SqueezeNet, v0.1, at the pack's resolution
- identity: identity similarity, the cosine of two face embeddings, with the aligned photo at the pack's resolution;
  identity_photo: with the photo's own pixels. It flatters a pack that was trained with the same network
- descriptor: distance of dlib's face descriptors to the photo's own pixels at 256 px; lower is closer. No training has
  used that network
- seconds: time of a batch of {batch} divided by its photographs, without alignment. One photograph alone takes longer;
  the start computes no loss"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One photograph by one method."""

    photo: str
    method: str
    values: dict[str, float]
    """Measure -> value; NaN where it could not be taken, infinite PSNR where the pictures are equal."""
    step: int
    """The step that was kept."""


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """The pictures of one photograph."""

    photo: Image.Image
    aligned: Image.Image
    drawn: dict[int, Image.Image]
    """Step -> the best picture up to it; 0 is the start."""


def write_report(
    out: Path, pack: Pack, rows: Sequence[Row], sheet: Sequence[SheetRow], *,
    optimizers: Sequence[str], skipped: Sequence[str], batch: int,
) -> str:  # fmt: skip
    """Write the four files into `out`; returns the text of quality.md."""
    methods = summarise(rows)
    photos = len({row.photo for row in rows})
    facts = machine_facts(str(pack.device))
    data: dict[str, Any] = {
        "pack": pack.name, "version": pack.version, "resolution": pack.resolution, "photos": photos,
        "skipped": list(skipped), "batch": batch, "facts": facts,
        "optimizers": {name: dict(pack.settings(name, start_name(pack))) for name in optimizers},
        "methods": methods,
    }  # fmt: skip
    table = (
        f"# Quality of {pack.name} {pack.version}\n\n{photos} photographs"
        + (f" ({len(skipped)} more could not be used)" if skipped else "")
        + f" at {pack.resolution} px. {MEANING.format(batch=batch)}\n\n{_table(methods)}\n\n{facts_list(facts)}\n"
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "quality.json").write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    (out / "quality.md").write_text(table, encoding="utf-8")
    _write_csv(out / "quality.csv", rows)
    draw_sheet(sheet, start=start_name(pack)).save(out / "sheet.png")
    return table


def summarise(rows: Iterable[Row]) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """Method -> measure -> mean, standard deviation and number of photographs, in the order of the rows."""
    columns: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for name, value in row.values.items():
            columns.setdefault(row.method, {}).setdefault(name, []).append(value)
    return {method: {name: spread(values) for name, values in measures.items()} for method, measures in columns.items()}


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, standard deviation (of a sample, 0 for one value) and number; NaN is left out.

    Where a value is infinite or none is left, mean and deviation are None: JSON has no such numbers.
    """
    known = [value for value in values if not math.isnan(value)]
    if not known or any(math.isinf(value) for value in known):
        return {"mean": None, "std": None, "n": len(known)}
    deviation = statistics.stdev(known) if len(known) > 1 else 0.0
    return {"mean": statistics.fmean(known), "std": deviation, "n": len(known)}


def _table(methods: dict[str, dict[str, dict[str, float | int | None]]]) -> str:
    present = {name for measures in methods.values() for name in measures}
    names = [name for name in DIGITS if name in present]
    lines = ["| method | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for method, measures in methods.items():
        cells = [cell(measures[name], DIGITS[name]) for name in names]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(summary: dict[str, float | int | None], digits: int) -> str:
    """A mean with its deviation, for a table."""
    mean, std = summary["mean"], summary["std"]
    return "-" if mean is None or std is None else f"{mean:.{digits}f} ({std:.{digits}f})"


def _write_csv(file: Path, rows: Sequence[Row]) -> None:
    names = [name for name in DIGITS if any(name in row.values for row in rows)]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["photo", "method", *names, "step"])
        writer.writerows(
            [row.photo, row.method, *(f"{row.values[name]:.6g}" for name in names), row.step] for row in rows
        )


def draw_sheet(rows: Sequence[SheetRow], *, start: str) -> Image.Image:
    """A row for each photograph: the photo, aligned, the start, the pictures on the way; titles above."""
    steps = sorted(rows[0].drawn)
    px = max(TILE_PX, rows[0].aligned.width)
    tiles = [
        picture.resize((px, px), Image.Resampling.BICUBIC)
        for row in rows
        for picture in (row.photo, row.aligned, *(row.drawn[step] for step in steps))
    ]
    titles = ["photo", "aligned", *(f"{step} steps" if step else start for step in steps)]
    pictures = grid(tiles, columns=len(titles))
    sheet = Image.new("RGB", (pictures.width, pictures.height + HEADER_PX), "white")
    sheet.paste(pictures, (0, HEADER_PX))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for column, title in enumerate(titles):
        centre = column * (pictures.width + 2) / len(titles) + px / 2
        draw.text((centre, HEADER_PX / 2), title, fill="black", font=font, anchor="mm")
    return sheet
