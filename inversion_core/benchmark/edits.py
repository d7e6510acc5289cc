"""What a pack's directions do to inverted photographs, at both ends of their ranges: `inversion benchmark edits`.

Suffixes: B image, A attribute, D dimension of an embedding, L style layer, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from inversion_core.benchmark import metrics
from inversion_core.benchmark.edits_report import END_NAMES, EditRow, EditSheet, write_report
from inversion_core.benchmark.identity import Embed, IdentityNetwork, embeddings
from inversion_core.benchmark.person import changed_background
from inversion_core.benchmark.photos import Subject, find_photos, load_subjects
from inversion_core.editing.apply import apply_edits
from inversion_core.editing.edits import parse_edits
from inversion_core.errors import OptionInvalid
from inversion_core.inverter import BestSteps, InvertConfig, invert
from inversion_core.latents import Latent
from inversion_core.packs import Direction, Pack, load_pack
from inversion_core.pictures import to_image, to_tensor
from inversion_core.progress import progress
from inversion_core.training.judge import SHIPPED_JUDGE, FaceJudge, load_judge

DETAIL_STEPS = 10
"""Steps of detail for a pack that takes none by itself."""


@dataclass(frozen=True, kw_only=True)
class EditsConfig:
    """What is measured, and how."""

    judge: Path = SHIPPED_JUDGE
    """Reads attributes off pictures (`inversion_core.training.judge`)."""
    identity: Path | None = None
    """Face recognition network (`inversion_core.benchmark.identity`); None leaves the measure out."""
    directions: tuple[str, ...] | None = None
    """None: all of the pack."""
    steps: int | None = None
    """Updates of w; None: the pack's before detail."""
    detail_steps: int | None = None
    """Updates of detail; None: the pack's, or DETAIL_STEPS where it has none."""
    align: bool = True
    batch: int = 8
    sheet_rows: int = 4
    limit: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, value in (("batch", self.batch), ("sheet", self.sheet_rows), ("limit", self.limit)):
            if value is not None and value < 1:
                raise OptionInvalid(f"{name} is {value}; it must be at least 1")


def measure_edits(
    pack_name: str | Path | None, photos: Sequence[Path], out: Path, config: EditsConfig | None = None
) -> str:
    """Invert and edit the photographs; write edits.json, .csv, .md and sheet.png into `out`; returns the .md.

    Raises:
        PackNotFound, PackInvalid: as `load_pack`; a file of weights is broken.
        OptionInvalid: the pack has no such directions, a package is missing, or a folder has no picture.
        NoFaceFound, PictureInvalid: none of the photographs can be used.
    """
    config = config or EditsConfig()
    pack = load_pack(pack_name, device=config.device)
    directions = chosen_directions(pack, config.directions)
    inversion = inversion_config(pack, config)
    judge = load_judge(config.judge)
    embed = IdentityNetwork(config.identity) if config.identity else None
    subjects, skipped = load_subjects(
        find_photos(photos)[: config.limit], pack.resolution, align=config.align, landmarks=embed is not None
    )
    rows: list[EditRow] = []
    sheet: list[EditSheet] = []
    with progress(total=len(subjects) * (len(directions) + 1), desc="editing", unit="direction") as bar:
        for start in range(0, len(subjects), config.batch):
            part = subjects[start : start + config.batch]
            latent = find_latent(pack, part, inversion)
            bar.update(len(part))
            faces = Faces.of(pack, part, latent, judge, embed)
            drawn: dict[str, list[Image.Image]] = {}
            for direction in directions:
                for end, edit in faces.edits(direction):
                    rows += edit.rows
                    drawn[f"{direction.spec.name} {end}"] = edit.images
                    drawn[f"{direction.spec.name} {end}, w+"] = edit.plain_images
                bar.update(len(part))
            sheet += list(faces.sheet(drawn))[: max(0, config.sheet_rows - start)]
    return write_report(out, pack, judge, rows, sheet, directions=directions, inversion=inversion, skipped=skipped)


def chosen_directions(pack: Pack, names: Sequence[str] | None) -> list[Direction]:
    """Those of the pack with these names, or all.

    Raises:
        OptionInvalid: it has none, or not all of them.
    """
    if not pack.directions:
        raise OptionInvalid(f"pack {pack.name} has no directions; find some with: inversion train directions")
    if unknown := [name for name in names or () if name not in pack.directions]:
        raise OptionInvalid(f"direction is {unknown[0]!r}; pack {pack.name} has {', '.join(pack.directions)}")
    return [pack.directions[name] for name in names or pack.directions]


def inversion_config(pack: Pack, config: EditsConfig) -> InvertConfig:
    """How photographs are inverted."""
    detail_steps = config.detail_steps
    if detail_steps is None:
        detail_steps = pack.detail.steps or DETAIL_STEPS
    return InvertConfig(
        num_steps=pack.detail.after if config.steps is None else config.steps, detail_steps=detail_steps
    )


def find_latent(pack: Pack, subjects: Sequence[Subject], inversion: InvertConfig) -> Latent:
    """The best latent of each photograph, as the service keeps it."""
    target_BCHW = torch.cat([to_tensor(subject.aligned) for subject in subjects]).to(pack.device)
    best = BestSteps()
    for step in invert(pack, target_BCHW, inversion):
        best.update(step)
    return best.latent


@dataclass(frozen=True, kw_only=True)
class Edited:
    """One direction at one end of its range, on a batch."""

    rows: list[EditRow]
    images: list[Image.Image]
    plain_images: list[Image.Image]
    """What the code alone shows."""


@dataclass(frozen=True, kw_only=True)
class Faces:
    """A batch of inverted photographs, and what is known of them before any edit."""

    pack: Pack
    subjects: Sequence[Subject]
    latent: Latent
    judge: FaceJudge
    embed: Embed | None
    images: list[Image.Image]
    reading_BA: Tensor
    plain_reading_BA: Tensor
    photo_BD: Tensor | None
    """Embeddings of the aligned photographs."""

    @classmethod
    def of(
        cls, pack: Pack, subjects: Sequence[Subject], latent: Latent, judge: FaceJudge, embed: Embed | None
    ) -> Faces:
        """Draw and read them."""
        image_BCHW, plain_BCHW = _draw(pack, latent), _draw(pack, _without_detail(latent))
        photo_BD = None if embed is None else embeddings(subjects, [subject.aligned for subject in subjects], embed)
        return cls(
            pack=pack, subjects=subjects, latent=latent, judge=judge, embed=embed,
            images=[to_image(image_CHW) for image_CHW in image_BCHW],
            reading_BA=judge(image_BCHW), plain_reading_BA=judge(plain_BCHW), photo_BD=photo_BD,
        )  # fmt: skip

    def edits(self, direction: Direction) -> Iterator[tuple[str, Edited]]:
        """The ends of its range, without those that are 0."""
        for end, strength in zip(END_NAMES, direction.spec.range, strict=True):
            if strength:
                yield end, self.edit(direction, end, strength)

    def edit(self, direction: Direction, end: str, strength: float) -> Edited:
        """Move every face by `strength`."""
        edits = parse_edits([{"direction": direction.spec.name, "strength": strength}])
        image_BCHW = _draw(self.pack, apply_edits(self.pack, self.latent, edits))
        plain_BCHW = _draw(self.pack, apply_edits(self.pack, _without_detail(self.latent), edits))
        images = [to_image(image_CHW) for image_CHW in image_BCHW]
        change_BA = self.judge(image_BCHW) - self.reading_BA
        plain_BA = self.judge(plain_BCHW) - self.plain_reading_BA
        identity_B = torch.full((len(images),), torch.nan)
        if self.embed is not None and self.photo_BD is not None:
            identity_B = metrics.cosine(embeddings(self.subjects, images, self.embed), self.photo_BD)
        rows = [
            EditRow(
                photo=subject.name, direction=direction.spec.name, end=end, strength=strength,
                identity=float(identity_B[b]), change_A=tuple(change_BA[b].tolist()),
                change_without_detail_A=tuple(plain_BA[b].tolist()),
                changed_background=changed_background(self.images[b], images[b]),
            )
            for b, subject in enumerate(self.subjects)
        ]  # fmt: skip
        return Edited(rows=rows, images=images, plain_images=[to_image(image_CHW) for image_CHW in plain_BCHW])

    def sheet(self, drawn: dict[str, list[Image.Image]]) -> Iterator[EditSheet]:
        for b, subject in enumerate(self.subjects):
            edited = {name: images[b] for name, images in drawn.items()}
            yield EditSheet(aligned=subject.aligned, inverted=self.images[b], edited=edited)


def _without_detail(latent: Latent) -> Latent:
    return Latent(w_BLD=latent.w_BLD)


@torch.no_grad()
def _draw(pack: Pack, latent: Latent) -> Tensor:
    return pack.synthesize(latent).clamp(-1, 1).cpu()
