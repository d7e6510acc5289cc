"""The pictures on the way, a row for each contender, as below the paper's figures 3 and 4."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from inversion_core.benchmark.optimizers.runs import Run
from inversion_core.pictures import grid, to_image

TILE_PX = 96
"""Least side of a picture."""
MARGIN_PX = 120
HEADER_PX = 20


def draw_strips(runs: Sequence[Run], target_NCHW: Tensor, out: Path) -> list[str]:
    """Write strip-1.png and so on for the pictures whose frames were kept; returns their names."""
    names = []
    for index in range(len(runs[0].frames)):
        names.append(f"strip-{index + 1}.png")
        rows = {run.contender.label: run.frames[index] for run in runs}
        _draw(rows, target_NCHW[index]).save(out / names[-1])
    return names


def _draw(rows: dict[str, dict[int, Tensor]], target_CHW: Tensor) -> Image.Image:
    """Target, then the best picture up to each iteration; one that ended early keeps its last."""
    iterations = sorted({iteration for frames in rows.values() for iteration in frames})
    px = max(TILE_PX, target_CHW.shape[-1])
    tiles = []
    for frames in rows.values():
        last = target_CHW
        tiles.append(_tile(last, px))
        for iteration in iterations:
            last = frames.get(iteration, last)
            tiles.append(_tile(last, px))
    return _with_titles(grid(tiles, columns=len(iterations) + 1), ["target", *map(str, iterations)], list(rows))


def _tile(image_CHW: Tensor, px: int) -> Image.Image:
    return to_image(image_CHW).resize((px, px), Image.Resampling.BICUBIC)


def _with_titles(pictures: Image.Image, columns: Sequence[str], rows: Sequence[str]) -> Image.Image:
    sheet = Image.new("RGB", (pictures.width + MARGIN_PX, pictures.height + HEADER_PX), "white")
    sheet.paste(pictures, (MARGIN_PX, HEADER_PX))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for index, title in enumerate(columns):
        centre = MARGIN_PX + (index + 0.5) * pictures.width / len(columns)
        draw.text((centre, HEADER_PX / 2), title, fill="black", font=font, anchor="mm")
    for index, title in enumerate(rows):
        centre = HEADER_PX + (index + 0.5) * pictures.height / len(rows)
        draw.text((MARGIN_PX - 8, centre), title, fill="black", font=font, anchor="rm")
    return sheet
