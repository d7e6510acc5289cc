"""How well a pack draws photographs: the start alone and optimizers, in six measures, with the spread over photographs.

Suffixes: B image, C channel, D dimension of an embedding, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from inversion_core.benchmark import metrics
from inversion_core.benchmark.descriptor import Describe, DlibDescriptor
from inversion_core.benchmark.identity import Embed, IdentityNetwork, embeddings
from inversion_core.benchmark.methods import ADAM, Result, method_names, run_methods
from inversion_core.benchmark.photos import Subject, find_photos, load_subjects
from inversion_core.benchmark.quality_report import Row, SheetRow, write_report
from inversion_core.errors import OptionInvalid
from inversion_core.models.lpips import load_lpips
from inversion_core.packs import Pack, load_pack
from inversion_core.pictures import to_image, to_tensor
from inversion_core.progress import progress

Distance = Callable[[Tensor, Tensor], Tensor]
"""Picture pairs (B, 3, H, W) in [-1, 1] to (B,)."""
LEAST_LPIPS_PX = 32
"""Of less the network's poolings leave nothing."""
SHEET_STEPS = (10, 30)
"""Steps on the sheet besides those that are measured."""


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """What is measured, and how."""

    steps: tuple[int, ...] = (100, 500)
    """Updates: a method for each number and optimizer."""
    detail_steps: tuple[int, ...] = (0,)
    """Updates of detail after those, each after each number."""
    optimizers: tuple[str, ...] = (ADAM,)
    """Those of the pack that are measured; the sheet shows the first one's pictures."""
    lpips: Path | None = None
    """LPIPS squeeze weights (`inversion_core.models.lpips`); None leaves the measure out."""
    identity: Path | None = None
    """Face recognition network (`inversion_core.benchmark.identity`); None leaves the measures out."""
    descriptor: bool = False
    """Measure the distance of dlib's face descriptors too (`inversion_core.benchmark.descriptor`)."""
    focus: float | None = None
    """How much more the middle of the face counts than the rim; None takes the pack's."""
    align: bool = True
    """Find and align the face, as the service does; else the centre is taken as it is."""
    batch: int = 8
    """Photographs that are inverted together."""
    sheet_rows: int = 8
    """Photographs on the sheet: the first ones."""
    limit: int | None = None
    """Take the first so many photographs."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise OptionInvalid(f"batch is {self.batch}; it must be at least 1")
        if self.sheet_rows < 1:
            raise OptionInvalid(f"sheet is {self.sheet_rows}; it must be at least 1")
        if self.limit is not None and self.limit < 1:
            raise OptionInvalid(f"limit is {self.limit}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Instruments:
    """The measures that need weights."""

    lpips: Distance | None = None
    embed: Embed | None = None
    describe: Describe | None = None


def measure_quality(
    pack_name: str | Path | None, photos: Sequence[Path], out: Path, config: QualityConfig | None = None
) -> str:
    """Invert the photographs and write quality.json, .csv, .md and sheet.png into `out`; returns the text of the .md.

    Raises:
        PackNotFound, PackInvalid: as `load_pack`; a file of weights is broken.
        OptionInvalid: the pack cannot do it, onnxruntime is missing, or a folder has no picture.
        NoFaceFound, PictureInvalid: none of the photographs can be used.
    """
    config = config or QualityConfig()
    pack = load_pack(pack_name, device=config.device)
    method_names(
        pack, config.steps, config.optimizers, config.detail_steps
    )  # a wrong option ends here, before any photograph
    instruments = Instruments(
        lpips=load_distance(config.lpips, pack),
        embed=IdentityNetwork(config.identity) if config.identity else None,
        describe=DlibDescriptor() if config.descriptor else None,
    )
    subjects, skipped = load_subjects(
        find_photos(photos)[: config.limit],
        pack.resolution,
        align=config.align,
        landmarks=instruments.embed is not None,
    )
    rows, sheet = measure_subjects(pack, subjects, instruments, config)
    return write_report(
        out, pack, rows, sheet, optimizers=config.optimizers, skipped=skipped, batch=config.batch
    )  # fmt: skip


def measure_subjects(
    pack: Pack, subjects: Sequence[Subject], instruments: Instruments, config: QualityConfig
) -> tuple[list[Row], list[SheetRow]]:
    """A row for each photograph and method, and the sheet's pictures of the first photographs."""
    rows: list[Row] = []
    sheet: list[SheetRow] = []
    keep = sorted({*(step for step in SHEET_STEPS if step <= max(config.steps)), *config.steps})
    runs = [count + detail + 1 for count in config.steps for detail in config.detail_steps]
    total = len(subjects) * len(config.optimizers) * sum(runs)
    with progress(total=total, desc="inverting", unit="step") as bar:
        for start in range(0, len(subjects), config.batch):
            part = subjects[start : start + config.batch]
            target_BCHW = torch.cat([to_tensor(subject.aligned) for subject in part]).to(pack.device)
            truth = _Truth.of(part, instruments.embed)
            frames: dict[int, Tensor] = {}

            def tick(count: int = len(part)) -> None:
                bar.update(count)

            for result in run_methods(
                pack, target_BCHW, config.steps, optimizers=config.optimizers, keep=keep, tick=tick,
                focus=config.focus, detail_steps=config.detail_steps,
            ):  # fmt: skip
                rows += _measure(part, target_BCHW, result, truth, instruments)
                if result.optimizer in (None, config.optimizers[0]):
                    frames = result.frames | frames  # of two runs that pass a step the shorter one counts
            sheet += list(_sheet_rows(part, frames))[: max(0, config.sheet_rows - start)]
    return rows, sheet


def load_distance(file: Path | None, pack: Pack) -> Distance | None:
    """LPIPS on the pack's device; None where there is no file.

    Raises:
        PackInvalid: the file is broken.
        OptionInvalid: the pack's pictures are too small.
    """
    if file is None:
        return None
    if pack.resolution < LEAST_LPIPS_PX:
        raise OptionInvalid(
            f"LPIPS needs {LEAST_LPIPS_PX} px; pack {pack.name} has {pack.resolution}. Leave --lpips out"
        )
    return load_lpips(file).to(pack.device)


@dataclass(frozen=True, kw_only=True)
class _Truth:
    """Embeddings of the photographs themselves, NaN where there are no landmarks."""

    aligned_BD: Tensor
    """At the pack's resolution: what a perfect inversion would get."""
    photo_BD: Tensor
    """With the photo's own pixels."""

    @classmethod
    def of(cls, subjects: Sequence[Subject], embed: Embed | None) -> _Truth | None:
        if embed is None:
            return None
        return cls(
            aligned_BD=embeddings(subjects, [subject.aligned for subject in subjects], embed),
            photo_BD=embeddings(subjects, [subject.portrait for subject in subjects], embed),
        )


def _measure(
    subjects: Sequence[Subject],
    target_BCHW: Tensor,
    result: Result,
    truth: _Truth | None,
    instruments: Instruments,
) -> Iterator[Row]:
    image_BCHW = result.image_BCHW
    columns = picture_measures(image_BCHW, target_BCHW, instruments.lpips)
    if truth is not None and instruments.embed is not None:
        drawn_BD = embeddings(subjects, [to_image(image) for image in image_BCHW], instruments.embed)
        columns["identity"] = metrics.cosine(drawn_BD, truth.aligned_BD).tolist()
        columns["identity_photo"] = metrics.cosine(drawn_BD, truth.photo_BD).tolist()
    if instruments.describe is not None:
        columns["descriptor"] = [
            float(instruments.describe([to_image(image)], subject.portrait)[0])
            for subject, image in zip(subjects, image_BCHW, strict=True)
        ]
    columns["seconds"] = [result.seconds] * len(subjects)
    for index, subject in enumerate(subjects):
        values = {name: column[index] for name, column in columns.items()}
        yield Row(photo=subject.name, method=result.method, values=values, step=int(result.step_B[index]))


@torch.no_grad()
def picture_measures(image_BCHW: Tensor, target_BCHW: Tensor, lpips: Distance | None) -> dict[str, list[float]]:
    """Name -> the measure of each pair of pictures in [-1, 1]; LPIPS where there is a network for it."""
    columns = {
        "mse": metrics.mse(image_BCHW, target_BCHW),
        "psnr_db": metrics.psnr_db(image_BCHW, target_BCHW),
        "psnr_signed_db": metrics.psnr_signed_db(image_BCHW, target_BCHW),
        "ssim": metrics.ssim(image_BCHW, target_BCHW),
    }
    if lpips is not None:
        columns["lpips"] = lpips(image_BCHW, target_BCHW)
    return {name: column.tolist() for name, column in columns.items()}


def _sheet_rows(subjects: Sequence[Subject], frames: dict[int, Tensor]) -> Iterator[SheetRow]:
    for index, subject in enumerate(subjects):
        drawn = {step: to_image(frames[step][index]) for step in sorted(frames)}
        yield SheetRow(photo=subject.photo, aligned=subject.aligned, drawn=drawn)
