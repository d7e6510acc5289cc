"""A real worker process around a made-up inversion: fast, deterministic, without Torch.

Run it as a script; INVERSION_ variables are the real worker's. Its own:
    FAKE_STEP_S           seconds that a Step takes (default 0.01)
    FAKE_FILE_LIMIT_BYTES largest file that this process may write: beyond it the kernel refuses, as a full disk does
    FAKE_LOOK_S           seconds that a look at a photo takes (default 0)
    FAKE_RENDER_S         seconds that a render takes (default 0)
A photo of one colour has no face; one that is twice as wide as it is high has two, the left half and the right half;
every other is one face. optimizer "broken" raises in the middle, "diverging" turns to NaN.
"""

from __future__ import annotations

import io
import math
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from inversion_worker import framing
from inversion_worker.backend import NO_EXTRAS, NOTHING, Before, Code, Extras, Materials, Prepared
from inversion_worker.bootstrap import run
from inversion_worker.code import Floats
from inversion_worker.contract import (
    DetailInfo,
    FaceSeen,
    FilmOrder,
    JobOptions,
    PackInfo,
    PhotoSize,
    PhotoWarning,
    RenderAs,
    Rendered,
    RenderOrder,
    Seen,
    StartKind,
    StopReason,
)
from inversion_worker.errors import JobRefused
from inversion_worker.framing import Framing
from inversion_worker.problems import SUPERSEDED, code_missing, option_invalid, problem
from inversion_worker.settings import WorkerSettings
from inversion_worker.sources import SourceCode, stored_code

LAYERS, WIDTH = 4, 8
DETAIL = (2, 8, 8)
"""Shape of the detail, which is the number of the step in all of it."""
SIDE_PX = 32
CROP_PX = 256
"""Most of what is kept of a photo: a real crop is as small, and a whole photo as PNG would be most of the work."""
PACK = PackInfo(
    name="fake-32",
    version="1.0.0",
    digest="sha256:" + 64 * "0",
    resolution=SIDE_PX,
    layers=LAYERS,
    w_dim=WIDTH,
    starts=[StartKind.MEAN, StartKind.RANDOM],
    optimizers=["adam", "broken", "diverging"],
    detail=DetailInfo(px=8, after=3, steps=0),
    licence="none",
    description="Made up for tests.",
    default=True,
)


@dataclass(frozen=True, kw_only=True)
class FakeStep:
    """An inversion_worker.backend.BackendStep."""

    index: int
    loss: float
    values: Floats
    velocity: Floats
    has_detail: bool = False
    stopped_by: StopReason | None = None

    def image(self) -> Image.Image:
        return render(self.values)

    def code(self) -> Code:
        detail_CHW = np.full(DETAIL, self.index, np.float32) if self.has_detail else None
        return Code(w_LD=self.values.copy(), detail_CHW=detail_CHW)

    def checkpoint(self) -> bytes:
        return np.stack([self.values, self.velocity, np.full_like(self.values, self.index)]).tobytes()


@dataclass(frozen=True, kw_only=True)
class FakePrepared:
    """An inversion_worker.backend.Prepared: momentum descent of a code towards the photo's own brightness."""

    options: JobOptions
    target: Floats
    aligned: Image.Image
    framing: Framing
    step_s: float
    photo_size: tuple[int, int]
    start: Code | None = None
    pack_digest: str = PACK.digest
    pack_name: str = PACK.name
    pack_version: str = PACK.version

    @property
    def optimizer(self) -> str:
        return self.options.optimizer or PACK.optimizers[0]

    @property
    def total_steps(self) -> int:
        return self._num_steps + (self.options.detail_steps or 0)

    @property
    def _num_steps(self) -> int:
        return 100 if self.options.steps is None else self.options.steps

    def steps(self, before: Before = NOTHING) -> Iterator[FakeStep]:
        began = time.monotonic() - before.seconds
        first, values, velocity = self._begin(before.checkpoint)
        fallen_index, fallen_loss = first, math.inf
        for index in range(first, self.total_steps + 1):
            loss = self._loss(index, values)
            if loss < 0.999 * fallen_loss:
                fallen_index, fallen_loss = index, loss
            reason = self._stopped_by(index, loss, time.monotonic() - began, index - fallen_index)
            has_detail = bool(self.options.detail_steps) and index >= self._num_steps
            yield FakeStep(
                index=index, loss=loss, values=values, velocity=velocity, has_detail=has_detail, stopped_by=reason
            )
            if reason is not None:
                return
            time.sleep(self.step_s)
            velocity = (0.5 * velocity + 0.02 * (self.target - values)).astype(np.float32)
            values = (values + velocity).astype(np.float32)

    def _stopped_by(self, index: int, loss: float, seconds: float, waited: int) -> StopReason | None:
        """`waited`: steps since the loss last fell. A loss that is no number stops nothing here."""
        options = self.options
        if options.target_loss is not None and math.isfinite(loss) and loss <= options.target_loss:
            return StopReason.TARGET_LOSS
        if index >= self.total_steps:
            return StopReason.STEPS
        if options.max_seconds is not None and seconds >= options.max_seconds:
            return StopReason.MAX_SECONDS
        if options.plateau_steps is not None and waited >= options.plateau_steps:
            return StopReason.PLATEAU
        return None

    def render(self, code: Code) -> Image.Image:
        return render(code.w_LD)

    def pasted(self, image: Image.Image) -> Image.Image | None:
        return image.resize(self.photo_size) if self.framing.face else None

    def _begin(self, resume: bytes | None) -> tuple[int, Floats, Floats]:
        if resume is None:
            generator = np.random.default_rng(self.options.seed)
            start = generator.random((LAYERS, WIDTH), dtype=np.float32) if self.start is None else self.start.w_LD
            return 0, start, np.zeros_like(start)
        values, velocity, index = np.frombuffer(resume, np.float32).reshape(3, LAYERS, WIDTH)
        return int(index[0, 0]), values, velocity

    def _loss(self, index: int, values: Floats) -> float:
        if self.options.optimizer == "broken" and index == 3:
            raise RuntimeError("secret internals")
        if self.options.optimizer == "diverging" and index > 3:
            return float("nan")
        return float(np.square(values - self.target).mean())


class FakeBackend:
    """An inversion_worker.backend.Backend."""

    device = "cpu"

    def __init__(self, step_s: float = 0.01, slots: int = 1, look_s: float = 0.0, render_s: float = 0.0) -> None:
        self.render_s = render_s
        self.step_s = step_s
        self.slots = slots
        self.look_s = look_s

    def packs(self) -> list[PackInfo]:
        return [PACK]

    def look(self, photo: bytes) -> Seen:
        time.sleep(self.look_s)
        picture = Image.open(io.BytesIO(photo)).convert("RGB")
        size = PhotoSize(width=picture.width, height=picture.height)
        if np.ptp(np.asarray(picture)) == 0:
            return Seen(photo=size, faces=[])
        two = picture.width >= 2 * picture.height
        half = picture.width / (2 if two else 1)
        return Seen(photo=size, faces=[fake_face(index * half, half, picture.height) for index in range(1 + two)])

    def render(self, order: RenderOrder, materials: Materials) -> tuple[Rendered, bytes]:
        """The grey tiles of the code; a direction makes all of them brighter."""
        code = self._source(order, materials)
        for edit in order.edits:
            if edit.get("direction", "brightness") != "brightness":
                raise JobRefused(option_invalid("There is no such direction; there are: brightness."))
            code = code + np.float32(edit.get("strength", 0.0))
        time.sleep(self.render_s)
        if not materials.is_wanted():
            raise JobRefused(SUPERSEDED)
        told = Rendered(pack=PACK.name, version=PACK.version, digest=PACK.digest, width=SIDE_PX, height=SIDE_PX)
        if order.kind is RenderAs.LATENTS:
            return told, SourceCode(w_LD=code).to_bytes()
        buffer = io.BytesIO()
        render(code).resize((order.side or SIDE_PX, order.side or SIDE_PX)).save(buffer, order.format.value)
        return told, buffer.getvalue()

    def film(self, order: FilmOrder, materials: Materials) -> tuple[Rendered, bytes]:
        """No film: the picture of its beginning."""
        return self.render(order.first, materials)

    def _source(self, order: RenderOrder, materials: Materials) -> Floats:
        if order.source.get("sent"):
            return SourceCode.from_bytes(materials.sent).w_LD
        if "seed" in order.source:
            return np.random.default_rng(order.source["seed"]).random((LAYERS, WIDTH), dtype=np.float32)
        job_id = order.source["inversion"]
        found = stored_code(materials.read, job_id, ended=order.ended[job_id])
        if found is None:
            raise JobRefused(code_missing(job_id))
        return found.w_LD

    def prepare(self, photo: bytes, options: JobOptions, extras: Extras = NO_EXTRAS) -> Prepared:
        picture = Image.open(io.BytesIO(photo)).convert("RGB")
        grey = np.asarray(picture.convert("L").resize((WIDTH, LAYERS)), np.float32) / 255
        framed = self._framing(photo, options, PhotoSize(width=picture.width, height=picture.height))
        if options.pack not in (None, PACK.name):
            raise JobRefused(problem("pack-not-found", "The pack does not exist", 422, "No such pack."))
        if extras.mask is not None:
            grey = grey * np.asarray(extras.mask.resize((WIDTH, LAYERS)), np.float32) / 255
        return FakePrepared(
            options=options,
            target=grey,
            aligned=picture.crop((0, 0, min(picture.width, CROP_PX), min(picture.height, CROP_PX))),
            framing=framed,
            step_s=self.step_s,
            photo_size=picture.size,
            start=extras.start,
        )

    def _framing(self, photo: bytes, options: JobOptions, size: PhotoSize) -> Framing:
        if not options.align:
            return framing.middle(size)
        if options.quad is not None:
            return framing.by_quad(size, options.quad)
        seen = self.look(photo)
        if not seen.faces:
            raise JobRefused(problem("no-face-found", "No face was found in the photo", 422, "No face here."))
        return framing.by_face(seen, options.face or 0)


def fake_face(left: float, width: float, height: float) -> FaceSeen:
    """A face that fills this part of a photo."""
    right, middle = left + width, left + width / 2
    return FaceSeen(
        box=(left, 0, right, height),
        landmarks=((left, 1), (right, 1), (middle, height / 2), (left, height), (right, height)),
        score=0.75,
        quad=((left, 0), (left, height), (right, height), (right, 0)),
        warnings=[PhotoWarning(kind="cut-by-border", detail="The border cuts the face.")],
    )


def render(code: Floats) -> Image.Image:
    """The picture of a fake code: its values as grey tiles."""
    tiles = np.clip(code * 255, 0, 255).astype(np.uint8)
    return Image.fromarray(tiles).convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST)


def load(settings: WorkerSettings) -> FakeBackend:
    """What bootstrap.run asks for."""
    step_s, look_s, render_s = (
        float(os.environ.get(name, default))
        for name, default in (("FAKE_STEP_S", "0.01"), ("FAKE_LOOK_S", "0"), ("FAKE_RENDER_S", "0"))
    )
    return FakeBackend(step_s, settings.slots or 1, look_s, render_s)


if __name__ == "__main__":
    if limit := os.environ.get("FAKE_FILE_LIMIT_BYTES"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    sys.exit(run(WorkerSettings(), load))
