"""The library as a worker's backend: packs are loaded once, and every job is a request to the one engine.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inversion_core import Checkpoint, InversionError, InvertConfig
from inversion_core.course import course_of
from inversion_core.editing.diffusion import FACE, Diffusion, mixed
from inversion_core.editing.shapes import parse_mask
from inversion_core.engine import Engine, EngineConfig, ImageStep, Precision, Request, StopRules
from inversion_core.engine.capacity import default_slots, thread_counts
from inversion_core.errors import NoFaceFound, OptionInvalid
from inversion_core.faces import Face, FaceDetector, align, find_faces, mask_of_crop, no_face_found, paste_back
from inversion_core.latents import Latent, detail_shape
from inversion_core.packs import DEFAULT_PACK, Pack, list_packs, load_pack
from inversion_core.pictures import centre_crop, load_photo, to_image, to_tensor
from inversion_worker import framing
from inversion_worker.backend import NO_EXTRAS, NOTHING, Before, Code, Extras, Materials, Prepared
from inversion_worker.code import MAX_DETAIL
from inversion_worker.contract import (
    DetailInfo,
    DiffusionRecord,
    DirectionInfo,
    FaceInfo,
    FaceSeen,
    FilmOrder,
    JobOptions,
    PackInfo,
    PhotoSize,
    PhotoWarning,
    Rendered,
    RenderOrder,
    Seen,
    StartKind,
    StopReason,
)
from inversion_worker.digests import digest_of
from inversion_worker.errors import BackendUnavailable, JobRefused
from inversion_worker.framing import Framing
from inversion_worker.problems import MASK_BLACK, mask_size, problem
from inversion_worker.rendering import Renderer, code_of, latent_of
from inversion_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

REMEDIES = {NoFaceFound.slug: "Or set align=false to take the centre of the picture as it is."}
"""What a caller of the service can do besides what the library says: the library knows no options of the service."""


def load(settings: WorkerSettings) -> CoreBackend:
    """Load every pack that can be had by name, and warm the default one up.

    Raises: BackendUnavailable when the default pack or the device cannot be used.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = thread_counts(torch.device(device)) if settings.threads is None else ()
    default = settings.default_pack or DEFAULT_PACK
    try:
        packs = {default: load_pack(default, device)} | _others(default, device)
    except InversionError as error:
        raise BackendUnavailable(str(error)) from error
    slots = settings.slots or default_slots(packs.values(), torch.device(device))
    precision = None if settings.precision == "auto" else Precision(settings.precision)
    backend = CoreBackend(packs, default, device, EngineConfig(slots=slots, threads=threads, precision=precision))
    backend.warm_up()
    return backend


def _others(default: str, device: str) -> dict[str, Pack]:
    """The packs beside the default one; a broken one costs itself alone."""
    packs: dict[str, Pack] = {}
    for manifest in list_packs():
        if manifest.name == default:
            continue
        try:
            packs[manifest.name] = load_pack(manifest.name, device)
        except InversionError as error:
            log.error("pack left out pack=%s error=%s", manifest.name, error)
    return packs


class CoreBackend:
    """An inversion_worker.backend.Backend on loaded packs."""

    def __init__(
        self, packs: Mapping[str, Pack], default: str, device: str, config: EngineConfig | None = None
    ) -> None:
        self.device = device
        self._packs = packs
        self._default = default
        self._detector = FaceDetector()
        self._engine = Engine(config)
        self._renderer = Renderer(packs)

    @property
    def slots(self) -> int:
        return self._engine.slots

    def close(self) -> None:
        """Stop the engine; jobs that have not ended fail."""
        self._engine.close()

    def packs(self) -> list[PackInfo]:
        return [_info(pack, default=name == self._default) for name, pack in self._packs.items()]

    def prepare(self, photo: bytes, options: JobOptions, extras: Extras = NO_EXTRAS) -> Prepared:
        with refusing():
            pack = self._pack(options.pack)
            upright = load_photo(photo)
            framed = self._framing(upright, options)
            aligned = _cut_out(upright, framed, pack.resolution)
            mask_HW = mask_tensor(extras.mask, upright, framed.face, pack.resolution)
            if extras.diffusion is not None and extras.face is not None:
                aligned, mask_HW = self._with_face(pack, aligned, extras.face, extras.diffusion)
            prepared = CorePrepared(
                pack=pack,
                options=options,
                photo=photo,
                aligned=aligned,
                framing=framed,
                engine=self._engine,
                start=start_latent(pack, extras.start),
                mask_HW=mask_HW,
            )
            prepared.check_detail()
            return prepared

    def _with_face(
        self, pack: Pack, context: Image.Image, photo: bytes, asked: DiffusionRecord
    ) -> tuple[Image.Image, Tensor]:
        """An aligned picture with the face of another photo in it, and how much each pixel counts."""
        crop = {"align": asked.face_align, "face": asked.face_index, "quad": asked.face_quad}
        upright = load_photo(photo)
        face = _cut_out(upright, self._framing(upright, JobOptions(**crop)), pack.resolution)
        mask = FACE if asked.mask is None else parse_mask("mask", asked.mask.model_dump(mode="json", exclude_none=True))
        diffusion = Diffusion(mask=mask, context=asked.weight, ring=asked.ring)
        mix_BCHW, weight_HW = mixed(pack, to_tensor(face), to_tensor(context), diffusion)
        return to_image(mix_BCHW[0]), weight_HW.cpu()

    def look(self, photo: bytes) -> Seen:
        with refusing():
            upright = load_photo(photo)
            return _seen(upright, self._faces(upright))

    def render(self, order: RenderOrder, materials: Materials) -> tuple[Rendered, bytes]:
        with refusing():
            return self._renderer.render(order, materials)

    def film(self, order: FilmOrder, materials: Materials) -> tuple[Rendered, bytes]:
        with refusing():
            return self._renderer.film(order, materials)

    def warm_up(self) -> None:
        """An update of a grey picture: the first job does not wait for caches and kernels."""
        pack = self._packs[self._default]
        grey = Image.new("RGB", (pack.resolution, pack.resolution), "grey")
        self._detector.detect(grey)
        with self._engine.submit(
            Request(pack=pack, target_CHW=to_tensor(grey)[0], config=InvertConfig(num_steps=2))
        ) as ticket:
            for _ in ticket:
                pass

    def _pack(self, name: str | None) -> Pack:
        found = self._packs.get(name or self._default)
        if found is None:
            names = ", ".join(self._packs)
            raise JobRefused(
                problem(
                    "pack-not-found", "The pack does not exist", 422, f"There is no pack {name!r}; there are: {names}."
                )
            )
        return found

    def _framing(self, upright: Image.Image, options: JobOptions) -> Framing:
        """The part of the photo that is inverted. Raises: NoFaceFound, JobRefused."""
        if not options.align:
            return framing.middle(_size(upright))
        if options.quad is not None:
            return framing.by_quad(_size(upright), options.quad)
        faces = self._faces(upright)
        if not faces:
            raise no_face_found(upright)
        return framing.by_face(_seen(upright, faces), options.face or 0)

    def _faces(self, upright: Image.Image) -> list[Face]:
        return find_faces(upright, self._detector)


def _cut_out(upright: Image.Image, framed: Framing, side_px: int) -> Image.Image:
    if framed.face is None or framed.face.quad is None:
        return centre_crop(upright, side_px)
    return align(upright, np.array(framed.face.quad), side_px).image


def _size(upright: Image.Image) -> PhotoSize:
    return PhotoSize(width=upright.width, height=upright.height)


def _seen(upright: Image.Image, faces: Sequence[Face]) -> Seen:
    return Seen(
        photo=_size(upright),
        faces=[
            FaceSeen.model_validate(
                {
                    "box": face.box,
                    "landmarks": face.landmarks.tolist(),
                    "score": round(min(1.0, max(0.0, face.score)), 4),
                    "quad": face.quad.tolist(),
                    "warnings": [PhotoWarning(kind=each.value, detail=each.sentence) for each in face.warnings],
                }
            )
            for face in faces
        ],
    )


@dataclass(frozen=True, kw_only=True)
class CorePrepared:
    """An inversion_worker.backend.Prepared: one picture and what to do with it."""

    pack: Pack
    options: JobOptions
    photo: bytes
    aligned: Image.Image
    framing: Framing
    engine: Engine
    start: Latent | None
    mask_HW: Tensor | None

    @property
    def pack_name(self) -> str:
        return self.pack.name

    @property
    def pack_version(self) -> str:
        return self.pack.version

    @property
    def pack_digest(self) -> str:
        return digest_of(self.pack)

    @property
    def optimizer(self) -> str:
        return self.options.optimizer or self.pack.default_optimizer

    def check_detail(self) -> None:
        """Raises: OptionInvalid."""
        px = course_of(self.pack, self._config, self.start).detail_px
        if px is None:
            return
        channels, height, width = detail_shape(self.pack.manifest.generator, px)
        if channels * height * width > MAX_DETAIL:
            raise OptionInvalid(
                f"detail at {px} px is {channels} x {height} x {width} numbers of pack {self.pack.name}, and a service "
                f"takes {MAX_DETAIL:,} at most; choose a smaller detail_px"
            )

    @property
    def total_steps(self) -> int:
        return course_of(self.pack, self._config, self.start).total

    def pasted(self, image: Image.Image) -> Image.Image | None:
        if self.framing.face is None or self.framing.face.quad is None:
            return None
        return paste_back(load_photo(self.photo), image, np.array(self.framing.face.quad))

    def steps(self, before: Before = NOTHING) -> Iterator[CoreStep]:
        with refusing(), self.engine.submit(self._request(before)) as ticket:
            for step in ticket:
                yield CoreStep(step)

    def render(self, code: Code) -> Image.Image:
        request = Request(
            pack=self.pack,
            target_CHW=to_tensor(self.aligned)[0],
            config=InvertConfig(num_steps=0, detail_steps=0),
            start_LD=latent_of(code),
        )
        with refusing(), self.engine.submit(request) as ticket:
            return CoreStep(next(ticket)).image()

    @property
    def _config(self) -> InvertConfig:
        return InvertConfig(
            num_steps=self.options.steps,
            detail_steps=self.options.detail_steps,
            detail_px=self.options.detail_px,
            optimizer=self.optimizer,
            start=None if self.start is not None else self.options.start and self.options.start.value,
            seed=self.options.seed,
            focus=self.options.focus,
        )

    def _request(self, before: Before) -> Request:
        return Request(
            pack=self.pack,
            target_CHW=to_tensor(self.aligned)[0],
            config=self._config,
            start_LD=self.start,
            mask_HW=self.mask_HW,
            rules=StopRules(
                target_loss=self.options.target_loss,
                max_seconds=self.options.max_seconds,
                seconds_before=before.seconds,
                plateau_steps=self.options.plateau_steps,
            ),
            resume=Checkpoint.from_bytes(before.checkpoint) if before.checkpoint is not None else None,
            losses_before=before.losses,
            frame_every=self.options.frame_every,
            priority=-self.options.priority.rank,  # the engine's highest goes first
        )


class CoreStep:
    """An inversion_worker.backend.BackendStep: the engine's."""

    def __init__(self, step: ImageStep) -> None:
        self._step = step
        self.index = step.index
        self.loss = step.loss
        self.stopped_by = StopReason(step.reason.value) if step.reason is not None else None

    def image(self) -> Image.Image:
        frame_HWC = self._step.frame_HWC
        return to_image(self._step.image_CHW) if frame_HWC is None else Image.fromarray(frame_HWC.numpy())

    def code(self) -> Code:
        return code_of(self._step.latent)

    def checkpoint(self) -> bytes:
        return self._step.checkpoint().to_bytes()


def _info(pack: Pack, *, default: bool) -> PackInfo:
    return PackInfo(
        name=pack.name,
        version=pack.version,
        digest=digest_of(pack),
        resolution=pack.resolution,
        layers=pack.num_layers,
        w_dim=pack.w_dim,
        starts=[StartKind(start) for start in pack.manifest.starts],
        optimizers=sorted(pack.optimizers),
        default_optimizer=pack.default_optimizer,
        focus=pack.focus,
        detail=DetailInfo(px=pack.detail.px, after=pack.detail.after, steps=pack.detail.steps),
        directions=[
            DirectionInfo(
                name=spec.name,
                label=spec.label,
                low=spec.range[0],
                high=spec.range[1],
                unit=spec.unit,
                source=spec.source,
                held_out_r2=spec.held_out_r2,
                side_effects=dict(spec.side_effects),
            )
            for spec in pack.manifest.directions
        ],
        licence=pack.manifest.licence,
        description=pack.manifest.description,
        default=default,
    )


def start_latent(pack: Pack, code: Code | None) -> Latent | None:
    """A code that came with the photo. Raises: OptionInvalid."""
    if code is None:
        return None
    try:
        return pack.check_latent(latent_of(code))
    except ValueError as error:
        raise OptionInvalid(f"the start code is of another pack: {error}; send a code of this pack") from error


def mask_tensor(mask: Image.Image | None, upright: Image.Image, face: FaceInfo | None, side_px: int) -> Tensor | None:
    """The photo's mask, cut out as the face was: (H, W) in [0, 1]. Raises: JobRefused."""
    if mask is None:
        return None
    if mask.size != upright.size:
        raise JobRefused(mask_size(mask.size, upright.size))
    quad = np.array(face.quad) if face is not None and face.quad is not None else None
    mask_HW = mask_of_crop(mask, quad, side_px)
    if not mask_HW.any():
        raise JobRefused(MASK_BLACK)
    return mask_HW


@contextmanager
def refusing() -> Iterator[None]:
    """What the library refuses becomes the problem that the job's record will name."""
    try:
        yield
    except InversionError as error:
        detail = " ".join([str(error), *filter(None, [REMEDIES.get(error.slug)])])
        raise JobRefused(problem(error.slug, error.title, error.status, detail)) from error
