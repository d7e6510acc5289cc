"""What a person reads and looks at after `inversion train directions`: tables, a report, a sheet of edits.

Suffixes: P a flat code, F face, K direction, A attribute.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torch import Tensor

from inversion_core.packs import Pack
from inversion_core.packs.directions import DIRECTIONS_FILE
from inversion_core.pictures import to_image
from inversion_core.training.direction_run import DirectionRun
from inversion_core.training.effects import draw
from inversion_pictures.colours import WHITE

STRENGTHS = (-3, -2, -1, 0, 1, 2, 3)
SHEET_FACES = 3
"""Held-out faces on the sheet, beside the mean face."""
LABEL_PX = 80
GAP_PX = 2


def write_report(run: DirectionRun, pack: Pack, out: Path) -> None:
    """Write directions.safetensors, directions.csv, candidates.csv, effects.csv, report.md and sheet.png into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    save_file({d.spec.name: d.step_LD.contiguous() for d in run.directions}, out / DIRECTIONS_FILE)
    tables = {"directions": direction_rows(run), "candidates": trial_rows(run), "effects": effect_rows(run)}
    for name, rows in tables.items():
        _write_csv(out / f"{name}.csv", rows)
    (out / "report.md").write_text(report(run, pack), encoding="utf-8")
    if run.directions:
        sheet(run, pack).save(out / "sheet.png")


def direction_rows(run: DirectionRun) -> list[list[str]]:
    """One row an attribute: how well it is read, and which direction came of it."""
    spec_of = {d.spec.name: d.spec for d in run.directions}
    rows = [["attribute", "R2 held out", "R2 cross-validated", "R2 held out, pixels", "low", "high", "source"]]
    for a, attribute in enumerate(run.study.attributes):
        spec = spec_of.get(attribute.name)
        found = [f"{spec.range[0]:g}", f"{spec.range[1]:g}", spec.source] if spec else ["", "", "no direction"]
        r2 = run.held_out_r2["codes"][a], run.cross_validated_r2[a], run.held_out_r2["pixels"][a]
        rows.append([attribute.name, *(f"{value:.2f}" for value in r2), *found])
    return rows


def trial_rows(run: DirectionRun) -> list[list[str]]:
    """One row a candidate."""
    rows = [["attribute", "method", "own effect", "selectivity"]]
    return rows + [
        [t.candidate.attribute, t.candidate.method, f"{t.own:.2f}", f"{t.selectivity:.1f}"] for t in run.trials
    ]


def effect_rows(run: DirectionRun, judges: Iterable[str] | None = None) -> list[list[str]]:
    """The effect matrices: judge and direction, then a column for each attribute."""
    rows = [["judge", "direction", *(a.name for a in run.study.attributes)]]
    for judge in judges or run.effect_of:
        for direction, effect_A in zip(run.directions, run.effect_of[judge], strict=True):
            rows.append([judge, direction.spec.name, *(f"{value:+.2f}" for value in effect_A)])
    return rows


def report(run: DirectionRun, pack: Pack) -> str:
    """The whole run in Markdown."""
    held = int(run.study.is_held_out_N.sum())
    return "\n".join(
        [
            f"# Directions of {pack.name} {pack.version}",
            "",
            f"{run.study.num_rated - held} rated pictures, {held} more held out. One step is one standard deviation "
            "of the ratings, as the linear model reads it off a code.",
            "",
            _markdown(direction_rows(run)),
            "",
            f"## Effects on {len(run.face_FP)} held-out faces, in standard deviations per step",
            "",
            "Judge `codes`: the linear model on the edited picture, encoded anew. Judge `pixels`: a linear model on "
            "its pixels, which knows no codes.",
            "",
            _markdown(effect_rows(run)),
            "",
            "## Ways to move an attribute, on training faces",
            "",
            "As the judge of pixels sees them. Selectivity: own effect over the root mean square of the others. "
            "`filter` and `pattern` are for comparison only.",
            "",
            _markdown(trial_rows(run)),
            "",
        ]
    )


def sheet(run: DirectionRun, pack: Pack) -> Image.Image:
    """A row a direction: the mean face and held-out faces, each at STRENGTHS."""
    face_FP = torch.cat([pack.mean_codes().flatten(1).cpu(), run.face_FP[:SHEET_FACES]])
    side = pack.resolution + GAP_PX
    block = len(STRENGTHS) * side + 4 * GAP_PX
    canvas = Image.new("RGB", (LABEL_PX + len(face_FP) * block, len(run.directions) * side + 12), WHITE)
    pen = ImageDraw.Draw(canvas)
    for row, direction in enumerate(run.directions):
        top = 12 + row * side
        pen.text((2, top + side // 2 - 6), direction.spec.name, fill="black")
        for face, images in enumerate(_moved(pack, face_FP, direction.step_LD.flatten())):
            for column, image in enumerate(images):
                canvas.paste(image, (LABEL_PX + face * block + column * side, top))
    for face in range(len(face_FP)):
        for column, strength in enumerate(STRENGTHS):
            pen.text((LABEL_PX + face * block + column * side + side // 2 - 6, 0), f"{strength:+d}", fill="black")
    return canvas


def _moved(pack: Pack, face_FP: Tensor, step_P: Tensor) -> list[list[Image.Image]]:
    code_NP = torch.cat([face_P + torch.tensor(STRENGTHS)[:, None] * step_P for face_P in face_FP])
    images = [to_image(image_CHW) for image_CHW in draw(pack, code_NP)]
    return [images[k : k + len(STRENGTHS)] for k in range(0, len(images), len(STRENGTHS))]


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _write_csv(file: Path, rows: Sequence[Sequence[str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
