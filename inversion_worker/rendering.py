"""Renders with the library: a code, its edits, and the way back into the photo, each on one CPU thread.

Whatever the device of the jobs is, renders are computed on the CPU: the device has one owner, the engine.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inversion_core.editing import Code, Edit, apply_edits, own_codes, parse_edits
from inversion_core.editing.apply import Resolve
from inversion_core.editing.films import film as filmed
from inversion_core.editing.interpolation import edit_path, path
from inversion_core.faces import Mode, Patch, paste, patch
from inversion_core.faces.one_thread import keep_to_one
from inversion_core.latents import Latent, plain_pictures, remembering
from inversion_core.models.serving import serving
from inversion_core.packs import Pack, load_pack
from inversion_core.packs.directions import Direction, DirectionSpec
from inversion_core.pictures import load_photo, to_image
from inversion_worker.backend import Materials
from inversion_worker.code import Code as StoredCode
from inversion_worker.contract import ArtifactKey, FilmOrder, PasteMode, PictureFormat, RenderAs, Rendered, RenderOrder
from inversion_worker.digests import digest_of
from inversion_worker.errors import JobRefused
from inversion_worker.kept import Kept
from inversion_worker.problems import SUPERSEDED, code_missing, option_invalid, pack_not_loaded
from inversion_worker.sources import SourceCode, stored_code

Levels = NDArray[np.float32]
KEPT_BYTES = 384 * 1024 * 1024
"""Most memory for photos and codes that were rendered just now: two photos of the largest size."""
KEPT_S = 60.0
JPEG_QUALITY, WEBP_QUALITY = 95, 90
_PNG_LEVEL = 1
"""A photo as PNG takes seconds with more, and is hardly smaller."""


class Renderer:
    """Renders of loaded packs. Any number of threads may call."""

    def __init__(self, packs: Mapping[str, Pack]) -> None:
        self._packs = packs
        self._on_cpu: dict[str, Pack] = {}
        self._loading = threading.Lock()
        self._kept = Kept(KEPT_BYTES, KEPT_S)
        self._threads = threading.local()

    def render(self, order: RenderOrder, materials: Materials) -> tuple[Rendered, bytes]:
        """See `Backend.render`. Raises: JobRefused, InversionError."""
        with self._ready():
            return _Render(self._pack(order), order, materials, self._kept).run()

    def film(self, order: FilmOrder, materials: Materials) -> tuple[Rendered, bytes]:
        """See `Backend.film`. Raises: JobRefused, InversionError."""
        with self._ready():
            pack = self._pack(order.first)
            first, last = (
                None if each is None else _Render(pack, each, materials, self._kept)
                for each in (order.first, order.last)
            )
            assert first is not None, "a film has a beginning"
            return first.film(order, last)

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """This thread computes on one core, and for nobody's gradients."""
        if not getattr(self._threads, "is_one", False):
            keep_to_one()
            self._threads.is_one = True
        with torch.inference_mode(), serving(), remembering(), _checking():
            yield

    def _pack(self, order: RenderOrder) -> Pack:
        """The pack of this name, or one of the same generator. Raises: JobRefused."""
        named = self._packs.get(order.pack)
        if named is not None and (not order.digest or digest_of(named) in ("", order.digest)):
            return self._here(named)
        for pack in self._packs.values():
            if order.digest and digest_of(pack) == order.digest:
                return self._here(pack)
        raise JobRefused(pack_not_loaded(order.pack))

    def _here(self, pack: Pack) -> Pack:
        if pack.device.type == "cpu":
            return pack
        with self._loading:
            if pack.name not in self._on_cpu:
                self._on_cpu[pack.name] = load_pack(pack.name, "cpu")
            return self._on_cpu[pack.name]


class _Render:
    """One order."""

    def __init__(self, pack: Pack, order: RenderOrder, materials: Materials, kept: Kept) -> None:
        self._pack = pack
        self._order = order
        self._materials = materials
        self._kept = kept

    def run(self) -> tuple[Rendered, bytes]:
        source = self._source()
        latent = latent_of(source)
        self._pack.check_latent(latent)
        edited = self._edited(latent)
        kind = self._order.kind
        if kind is RenderAs.LATENTS:
            return self._told(source), code_of(edited).to_bytes()
        if kind is RenderAs.FACE:
            face = resized(self._face(edited), self._order.side)
            return self._encoded(source, face)
        if kind is RenderAs.PATCH:
            found = self._patch(latent, edited)
            return self._encoded(source, found.image, found.offset)
        return self._encoded(source, self._in_photo(latent, edited))

    def film(self, order: FilmOrder, last: _Render | None) -> tuple[Rendered, bytes]:
        """From this code to that of `last`, or to this one with its edits."""
        source = self._source()
        latent = self._pack.check_latent(latent_of(source))
        if last is not None:
            ends = [self._edited(latent), last._edited(self._pack.check_latent(latent_of(last._source())))]
            latents = path(self._pack, ends, order.frames, order.way.value)
        else:
            edits, resolve, directions = self._edits()
            latents = edit_path(self._pack, latent, (), edits, order.frames, resolve, directions)
        pictures = []
        for each in latents:
            if not self._materials.is_wanted():
                raise JobRefused(SUPERSEDED)
            pictures.append(resized(self._face(each), self._order.side))
        data = filmed(pictures, order.format.value, order.fps, there_and_back=order.there_and_back)
        size = {"width": pictures[0].width, "height": pictures[0].height}
        return self._told(source).model_copy(update=size), data

    # ---- codes

    def _source(self) -> SourceCode:
        source = self._order.source
        if (text := source.get("code")) is not None:
            return SourceCode.from_bytes(base64.b64decode(text))
        if source.get("sent"):
            return SourceCode.from_bytes(self._materials.sent)
        if (seed := source.get("seed")) is not None:
            return code_of(own_codes(self._pack)(Code(seed=int(seed))))
        return self._stored(str(source["inversion"]))

    def _stored(self, job_id: str) -> SourceCode:
        """The code of an inversion. One that is final is kept for a moment. Raises: JobRefused."""
        ended = self._order.ended.get(job_id, False)

        def make() -> tuple[SourceCode, int]:
            found = stored_code(self._materials.read, job_id, ended=ended)
            if found is None:
                raise JobRefused(code_missing(job_id))
            return found, found.w_LD.nbytes + (0 if found.detail_CHW is None else found.detail_CHW.nbytes)

        return self._kept.get(("code", job_id), make) if ended else make()[0]

    def _edited(self, latent: Latent) -> Latent:
        """Raises: OptionInvalid, JobRefused."""
        edits, resolve, directions = self._edits()
        before_BCHW = self._without_detail(latent) if edits and latent.detail_BCHW is not None else None
        return apply_edits(self._pack, latent, edits, resolve, directions=directions, before_BCHW=before_BCHW)

    def _edits(self) -> tuple[tuple[Edit, ...], Resolve, dict[str, Direction]]:
        """The edits, whose codes they may name, and the directions that they may name."""
        resolve = own_codes(self._pack, lambda job_id: latent_of(self._stored(job_id)))
        own = {name: self._own_direction(name, key) for name, key in self._order.directions.items()}
        return parse_edits(self._order.edits), resolve, {**self._pack.directions, **own}

    def _own_direction(self, name: str, key: str) -> Direction:
        """A direction of a tenant's own. Raises: JobRefused where it is gone, ValueError."""

        def read() -> tuple[Direction, int]:
            data = self._materials.read(key)
            if data is None:
                raise JobRefused(option_invalid(f"`direction`: {name!r} was deleted."))
            step_LD = torch.from_numpy(np.load(io.BytesIO(data), allow_pickle=False))
            spec = DirectionSpec(name=name, label=name, range=(-1.0, 1.0), unit="its own", source="a tenant")
            return Direction(spec=spec, step_LD=step_LD), len(data)

        return self._kept.get(("direction", key), read)

    # ---- pictures

    def _face(self, latent: Latent) -> Image.Image:
        return to_image(self._pack.synthesize(latent))

    def _in_photo(self, latent: Latent, edited: Latent) -> Image.Image:
        photo, quad = self._photo()
        self._check_wanted()
        mode: Mode = "replace" if self._order.paste is PasteMode.REPLACE else "difference"
        return paste(photo, quad, self._before(latent), self._levels(edited), mode=mode)

    def _patch(self, latent: Latent, edited: Latent) -> Patch:
        photo, quad = self._photo()
        self._check_wanted()
        return patch(photo, quad, self._before(latent), self._levels(edited))

    def _without_detail(self, latent: Latent) -> Tensor | None:
        """The picture (1, 3, H, W) of the source's W+ code, from which detail is carried along, where it is final."""
        job_id = str(self._order.source.get("inversion", ""))

        def make() -> tuple[Tensor, int]:
            assert latent.detail_BCHW is not None, "without detail nothing is carried along"
            image_BCHW = plain_pictures(self._pack.generator, latent.w_BLD, latent.detail_BCHW.shape[-1])
            return image_BCHW, image_BCHW.nbytes

        if self._order.ended.get(job_id, False):
            return self._kept.get(("plain", job_id, digest_of(self._pack)), make)
        return None

    def _before(self, latent: Latent) -> Levels:
        """The source's own picture. That of a code which is final is kept for a moment."""
        job_id = str(self._order.source["inversion"])

        def make() -> tuple[Levels, int]:
            levels_HWC = self._levels(latent)
            return levels_HWC, levels_HWC.nbytes

        if self._order.ended.get(job_id, False):
            return self._kept.get(("before", job_id, digest_of(self._pack)), make)
        return make()[0]

    def _levels(self, latent: Latent) -> Levels:
        """The picture, (H, W, C) in levels from 0 to 255, not rounded."""
        image_CHW = self._pack.synthesize(latent)[0]
        levels_HWC: Levels = ((image_CHW.clamp(-1, 1) + 1) * 127.5).movedim(0, -1).contiguous().numpy()
        return levels_HWC

    def _photo(self) -> tuple[Image.Image, Any]:
        """The upright photo, and the place of the crop in it; both smaller where a smaller side is asked for."""
        job_id = str(self._order.source["inversion"])

        def read() -> tuple[Image.Image, int]:
            data = self._materials.read(ArtifactKey.photo(job_id))
            if data is None:
                raise JobRefused(code_missing(job_id))
            photo = load_photo(data)
            return photo, 3 * photo.width * photo.height

        photo = self._kept.get(("photo", job_id), read)
        quad = middle(photo.size) if self._order.quad is None else np.array(self._order.quad, np.float64)
        side = self._order.side
        if side is None or side >= max(photo.size):
            return photo, quad
        size = fitting(photo.size, side)

        def shrink() -> tuple[Image.Image, int]:
            return photo.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0), 3 * size[0] * size[1]

        scale = np.array(size) / np.array(photo.size)
        return self._kept.get(("photo", job_id, side), shrink), quad * scale

    def _encoded(
        self, source: SourceCode, picture: Image.Image, offset: tuple[int, int] = (0, 0)
    ) -> tuple[Rendered, bytes]:
        self._check_wanted()
        size = {"width": picture.width, "height": picture.height, "left": offset[0], "top": offset[1]}
        return self._told(source).model_copy(update=size), encoded(picture, self._order.format)

    def _check_wanted(self) -> None:
        """Raise JobRefused, before the longer part of the work, where nobody waits for it any more."""
        if not self._materials.is_wanted():
            raise JobRefused(SUPERSEDED)

    def _told(self, source: SourceCode) -> Rendered:
        return Rendered(
            step=source.step, pack=self._pack.name, version=self._pack.version, digest=digest_of(self._pack)
        )


def latent_of(code: StoredCode) -> Latent:
    """As the library has it."""
    detail = None if code.detail_CHW is None else torch.tensor(code.detail_CHW)[None]
    return Latent(w_BLD=torch.tensor(code.w_LD)[None], detail_BCHW=detail)


def code_of(latent: Latent) -> SourceCode:
    """As the seam has it."""
    detail = None if latent.detail_BCHW is None else latent.detail_BCHW[0].cpu().numpy()
    return SourceCode(w_LD=latent.w_BLD[0].cpu().numpy(), detail_CHW=detail)


def resized(face: Image.Image, side: int | None) -> Image.Image:
    """A square picture of this side."""
    return face if side in (None, face.width) else face.resize((side, side), Image.Resampling.LANCZOS)


def fitting(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size of a picture whose longer side is `side`."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def middle(size: tuple[int, int]) -> Any:
    """The quad of what `centre_crop` takes."""
    side = min(size)
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    return np.array([(left, top), (left, top + side), (left + side, top + side), (left + side, top)])


def encoded(picture: Image.Image, format: PictureFormat) -> bytes:
    """The file. The picture was made here, so it has nothing but pixels."""
    buffer = io.BytesIO()
    if format is PictureFormat.JPEG:
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    elif format is PictureFormat.WEBP:
        picture.save(buffer, "WEBP", quality=WEBP_QUALITY, method=2)
    else:
        picture.save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()


@contextmanager
def _checking() -> Iterator[None]:
    """What a shape or a value is refused for is the order's fault."""
    try:
        yield
    except ValueError as error:
        raise JobRefused(option_invalid(f"{error}.")) from error
