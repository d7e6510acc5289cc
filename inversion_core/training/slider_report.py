"""What a person reads after `inversion train sliders`: units and ranges, and what was measured at each strength."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from inversion_core.editing.follow import follow
from inversion_core.editing.moves import move
from inversion_core.packs import Pack
from inversion_core.packs.directions import DIRECTIONS_FILE
from inversion_core.pictures import to_image
from inversion_core.training.sliders import UNIT_SIZE, SliderRun, SliderTraining
from inversion_pictures.colours import WHITE

SHEET_FACES = 3
SHEET_SHARES = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Of the lower and the upper end of a range."""
LABEL_PX = 80
MEANING = """Ranges are in units, which are half a standard deviation of ratings;
strengths are in standard deviations, as the judge reads them from -1 to +1, on average.

- own: change of its own attribute, the way of the strength; spread: its standard deviation over faces
- others: the largest change of any other attribute, and whose
- identity: mean identity similarity of the edited picture and the picture itself"""


def write_report(run: SliderRun, pack: Pack, config: SliderTraining, out: Path) -> str:
    """Write directions.safetensors, sliders.csv, report.md and sheet.png into `out`; returns the latter."""
    out.mkdir(parents=True, exist_ok=True)
    save_file({d.spec.name: d.step_LD.contiguous() for d in run.directions}, out / DIRECTIONS_FILE)
    names = run.subjects.judge.names
    with (out / "sliders.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["direction", "strength", "own", "spread", "identity", *names])
        for name, found in run.reach_of.items():
            for reach in found:
                values = (reach.own, reach.spread, reach.identity, *reach.change_A)
                writer.writerow([name, f"{reach.strength:g}", *(f"{value:.3f}" for value in values)])
    text = report(run, pack, config)
    (out / "report.md").write_text(text, encoding="utf-8")
    if run.directions:
        sheet(run, pack).save(out / "sheet.png")
    return text


def sheet(run: SliderRun, pack: Pack) -> Image.Image:
    """A row a slider: inverted faces, each at shares of its range."""
    latent = run.subjects.latent.rows(0, SHEET_FACES)
    side = pack.resolution + 2
    block = len(SHEET_SHARES) * side + 6
    canvas = Image.new("RGB", (LABEL_PX + len(latent) * block, len(run.directions) * side), WHITE)
    pen = ImageDraw.Draw(canvas)
    for row, direction in enumerate(run.directions):
        low, high = direction.spec.range
        pen.text((2, row * side + side // 2 - 12), f"{direction.spec.name}\n{low:g} to {high:g}", fill="black")
        for column, share in enumerate(SHEET_SHARES):
            edited_BLD = move(latent.w_BLD, direction, -low * share if share < 0 else high * share)
            with torch.no_grad():
                drawn_BCHW = pack.synthesize(follow(pack, latent, edited_BLD)).clamp(-1, 1)
            for face, image_CHW in enumerate(drawn_BCHW):
                canvas.paste(to_image(image_CHW), (LABEL_PX + face * block + column * side, row * side))
    return canvas


def report(run: SliderRun, pack: Pack, config: SliderTraining) -> str:
    """Ranges, and the strengths at and next to their ends."""
    lines = [
        f"# Sliders of {pack.name} {pack.version}", "",
        f"Parts were tried on {config.parts_faces} inverted pictures, units and ranges on {config.range_faces} others. "
        + MEANING, "",
        "| direction | range | strength | own | spread | others | identity |", "|" + "---|" * 7,
    ]  # fmt: skip
    names = run.subjects.judge.names
    for direction in run.directions:
        name, (low, high) = direction.spec.name, direction.spec.range
        own = names.index(name)
        for reach in run.reach_of[name]:
            if not low * UNIT_SIZE - 0.5 < reach.strength < high * UNIT_SIZE + 0.5:
                continue
            other = max((a for a in range(len(names)) if a != own), key=lambda a: abs(reach.change_A[a]), default=own)
            cells = [name, f"{low:g} to {high:g}", f"{reach.strength:+g}", f"{reach.own:.2f}", f"{reach.spread:.2f}"]
            cells += [f"{reach.others(own):.2f} {names[other]}", f"{reach.identity:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {name} is not kept: {reason}" for name, reason in run.dropped.items()), ""]
    return "\n".join(lines)
