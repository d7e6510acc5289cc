"""Whatever an upload says beside its pixels, no picture that goes out repeats it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from corpus import SWAPPED, photo_like
from PIL import Image
from tiny import rough_pack
from told import SECRET, assert_bare, mask, photos

from inversion_app import pictures, sheets
from inversion_core.faces import paste_back
from inversion_core.pictures import centre_crop, load_photo
from inversion_worker.backend import Extras
from inversion_worker.contract import FaceInfo, JobOptions
from inversion_worker.core_backend import CoreBackend, CorePrepared
from inversion_worker.frames import jpeg, png, webp

pytestmark = pytest.mark.unit

PHOTOS = photos()
QUAD = [(20.0, 10.0), (20.0, 110.0), (120.0, 110.0), (120.0, 10.0)]


@pytest.fixture(scope="module")
def backend() -> Iterator[CoreBackend]:
    backend = CoreBackend({"tiny": rough_pack()}, "tiny", "cpu")
    yield backend
    backend.close()


def telling() -> Image.Image:
    """A picture in memory with all that Pillow would write along."""
    image = photo_like()
    image.info = {
        "comment": SECRET,
        "icc_profile": SWAPPED + SECRET,
        "exif": b"Exif\0\0" + SECRET,
        "xmp": SECRET,
        "dpi": (9, 9),
    }
    return image


@pytest.mark.parametrize("kind", sorted(PHOTOS))
def test_a_photo_is_read_as_pixels_alone(kind: str) -> None:
    assert SECRET in PHOTOS[kind] or kind == "animated PNG"
    photo = load_photo(PHOTOS[kind])
    assert photo.info == {}
    assert not photo.getexif()
    assert type(photo) is Image.Image
    assert photo.size == (200, 160)


@pytest.mark.parametrize("kind", sorted(PHOTOS))
def test_the_workers_pictures_are_bare(backend: CoreBackend, kind: str) -> None:
    job = backend.prepare(PHOTOS[kind], JobOptions(align=False, steps=1))
    assert isinstance(job, CorePrepared)
    framed = replace(job, framing=replace(job.framing, face=FaceInfo(found=1, quad=QUAD)))
    pasted = framed.pasted(Image.new("RGB", (16, 16)))
    assert pasted is not None
    *_, step = job.steps()
    for image in (job.aligned, pasted, step.image()):
        for picture in (png(image), jpeg(image), webp(image)):
            assert_bare(picture)


def test_pictures_are_written_bare_whatever_they_carry() -> None:
    for picture in (png(telling()), jpeg(telling()), webp(telling())):
        assert_bare(picture)
    quad = np.array(QUAD)
    assert paste_back(telling(), Image.new("RGB", (16, 16)), quad).info == {}


def test_strips_and_films_are_bare() -> None:
    frames = [PHOTOS["WEBP"], PHOTOS["WEBP"]]
    assert_bare(sheets.animation(frames, 50), animated=True)
    for kind in ("PNG", "WEBP"):
        assert_bare(sheets.strip(frames, kind))
    for kind in ("JPEG", "WEBP"):
        assert_bare(sheets.encoded(PHOTOS["PNG"], kind))


def test_a_mask_is_kept_bare(backend: CoreBackend) -> None:
    found = pictures.inspect(PHOTOS["JPEG"], mask((200, 160)))
    assert isinstance(found, pictures.Sound)
    assert found.mask is not None
    assert_bare(found.mask)
    with Image.open(io.BytesIO(found.mask)) as kept:
        job = backend.prepare(PHOTOS["JPEG"], JobOptions(align=False, steps=1), Extras(mask=kept.copy()))
    assert_bare(png(job.aligned))


def test_a_crop_of_a_read_photo_is_bare() -> None:
    assert centre_crop(load_photo(PHOTOS["JPEG"]), 64).info == {}
