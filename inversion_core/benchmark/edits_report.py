"""What `inversion benchmark edits` writes: edits.json, edits.csv, edits.md and sheet.png.

Suffix: A attribute.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from inversion_core.benchmark.facts import facts_list, machine_facts
from inversion_core.inverter import InvertConfig
from inversion_core.packs import Direction, Pack
from inversion_core.pictures import grid
from inversion_core.training.judge import FaceJudge
from inversion_pictures.colours import WHITE

END_NAMES = ("low", "high")
TILE_PX = 128
"""Least side of the sheet's pictures."""
HEADER_PX = 14
MEANING = """Each photograph is inverted by {steps} steps of w and {detail_steps} of detail, and moved along each
direction to both ends of its range. Mean over the photographs.

- identity: identity similarity of the edited picture and the aligned photo at the pack's resolution
- own: how far the direction's own attribute moves the way that was asked for, in standard deviations of people's
  ratings, as a judge reads pictures; own_without_detail: the same for the code alone; share: one by the other
- spread: standard deviation of own over the photographs; 0 would be the same change on every face
- others: the largest change of any other attribute, either way, and whose it is
- changed_background: the share of the picture's change that lies outside of the person, in both pictures. A network
  finds the person, and counts clothes as such

The judge: {source}. It explains of the variance of ratings of people whom it has not seen: {r2}."""


@dataclass(frozen=True, kw_only=True)
class EditRow:
    """One photograph at one end of one direction."""

    photo: str
    direction: str
    end: str
    strength: float
    identity: float
    """NaN where it was not measured."""
    change_A: tuple[float, ...]
    """Of each attribute of the judge."""
    change_without_detail_A: tuple[float, ...]
    changed_background: float
    """NaN where nothing changed."""


@dataclass(frozen=True, kw_only=True)
class EditSheet:
    """The pictures of one photograph."""

    aligned: Image.Image
    inverted: Image.Image
    edited: dict[str, Image.Image]
    """Direction and end -> picture; with ", w+" the one without detail."""


@dataclass(frozen=True, kw_only=True)
class EndSummary:
    """One end of one direction over all photographs. None: not measured."""

    direction: str
    end: str
    strength: float
    identity: float | None
    own: float | None
    own_without_detail: float | None
    own_spread: float | None
    others: float | None
    other: str
    """Whose change `others` is."""
    changed_background: float | None

    @property
    def share(self) -> float | None:
        """What is left of the code's own effect once there is detail."""
        return self.own / self.own_without_detail if self.own is not None and self.own_without_detail else None

    def fields(self) -> dict[str, float | None]:
        """What edits.json has."""
        names = ("strength", "identity", "own", "own_without_detail", "others", "changed_background")
        return {name: getattr(self, name) for name in names}


def write_report(
    out: Path, pack: Pack, judge: FaceJudge, rows: Sequence[EditRow], sheet: Sequence[EditSheet], *,
    directions: Sequence[Direction], inversion: InvertConfig, skipped: Sequence[str],
) -> str:  # fmt: skip
    """Write the four files into `out`; returns the text of edits.md."""
    ends = summarise(rows, judge.names)
    photos = len({row.photo for row in rows})
    found: dict[str, dict[str, Any]] = {direction.spec.name: {} for direction in directions}
    for end in ends:
        found[end.direction][end.end] = end.fields()
    facts = machine_facts(str(pack.device))
    data = {
        "pack": pack.name, "version": pack.version, "photos": photos, "skipped": list(skipped), "facts": facts,
        "steps": inversion.num_steps, "detail_steps": inversion.detail_steps,
        "judge": {"source": judge.source, "held_out_r2": dict(zip(judge.names, judge.held_out_r2, strict=True))},
        "directions": found,
    }  # fmt: skip
    r2 = ", ".join(f"{name} {value:.2f}" for name, value in zip(judge.names, judge.held_out_r2, strict=True))
    meaning = MEANING.format(steps=inversion.num_steps, detail_steps=inversion.detail_steps, source=judge.source, r2=r2)
    text = (
        f"# Edits of {pack.name} {pack.version}\n\n{photos} photographs"
        + (f" ({len(skipped)} more could not be used)" if skipped else "")
        + f". {meaning}\n\n{_table(ends)}\n\n{facts_list(facts)}\n"
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "edits.json").write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    (out / "edits.md").write_text(text, encoding="utf-8")
    _write_csv(out / "edits.csv", rows, judge.names)
    draw_sheet(sheet).save(out / "sheet.png")
    return text


def summarise(rows: Iterable[EditRow], names: Sequence[str]) -> list[EndSummary]:
    """One for each direction and end, in the order of the rows."""
    groups: dict[tuple[str, str], list[EditRow]] = {}
    for row in rows:
        groups.setdefault((row.direction, row.end), []).append(row)
    return [_summary(group, names) for group in groups.values()]


def _summary(rows: Sequence[EditRow], names: Sequence[str]) -> EndSummary:
    first = rows[0]
    sign = math.copysign(1.0, first.strength)
    change_A = [statistics.fmean(column) for column in zip(*(row.change_A for row in rows), strict=True)]
    own = own_plain = spread = None
    if first.direction in names:
        a = names.index(first.direction)
        own = sign * change_A[a]
        own_plain = sign * statistics.fmean(row.change_without_detail_A[a] for row in rows)
        spread = statistics.stdev([row.change_A[a] for row in rows]) if len(rows) > 1 else 0.0
    others = {name: abs(value) for name, value in zip(names, change_A, strict=True) if name != first.direction}
    other = max(others, key=others.__getitem__, default="")
    return EndSummary(
        direction=first.direction, end=first.end, strength=first.strength,
        identity=_mean(row.identity for row in rows), own=own, own_without_detail=own_plain, own_spread=spread,
        others=others.get(other), other=other,
        changed_background=_mean(row.changed_background for row in rows),
    )  # fmt: skip


def _mean(values: Iterable[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else None


def _table(ends: Sequence[EndSummary]) -> str:
    lines = [
        "| direction | strength | identity | own | own_without_detail | share | spread | others | changed_background |",
        "|" + "---|" * 9,
    ]
    for end in ends:
        figures = (end.identity, end.own, end.own_without_detail, end.share, end.own_spread)
        cells = [end.direction, f"{end.strength:+g}", *map(_cell, figures)]
        cells += [f"{_cell(end.others)} {end.other}".strip(), _cell(end.changed_background)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _write_csv(file: Path, rows: Sequence[EditRow], names: Sequence[str]) -> None:
    """A row for each photograph, direction and end, with the change of every attribute."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        without = [f"{name} without detail" for name in names]
        writer.writerow(["photo", "direction", "strength", "identity", "changed_background", *names, *without])
        for row in rows:
            values = (row.identity, row.changed_background, *row.change_A, *row.change_without_detail_A)
            writer.writerow([row.photo, row.direction, f"{row.strength:g}", *(f"{value:.4g}" for value in values)])


def draw_sheet(rows: Sequence[EditSheet]) -> Image.Image:
    """Two rows for each photograph, with detail and without; each direction's low and high end beside each other."""
    titles = [name for name in rows[0].edited if not name.endswith(", w+")]
    tiles: list[Image.Image] = []
    for row in rows:
        blank = Image.new("RGB", row.aligned.size, WHITE)
        tiles += [row.aligned, row.inverted, *(row.edited[title] for title in titles)]
        tiles += [blank, blank, *(row.edited[f"{title}, w+"] for title in titles)]
    scale = max(1, -(-TILE_PX // rows[0].aligned.width))
    tiles = [tile.resize((tile.width * scale, tile.height * scale), Image.Resampling.NEAREST) for tile in tiles]
    pictures = grid(tiles, len(titles) + 2)
    sheet = Image.new("RGB", (pictures.width, pictures.height + HEADER_PX), WHITE)
    sheet.paste(pictures, (0, HEADER_PX))
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(("photo", "inverted", *titles)):
        pen.text((column * (tiles[0].width + 2) + 2, 1), title, fill="black")
    return sheet
