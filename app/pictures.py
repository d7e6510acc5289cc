"""Is this upload a picture that a worker can use? Runs in a process of its own: the bytes are a stranger's.

The whole picture is decoded, so that a job is never made of a damaged one, but nothing of it is kept.
"""

from __future__ import annotations

import contextlib
import io
import sys

from PIL import Image

from worker.contract import MAX_PIXELS, MIN_SIDE_PX, PHOTO_FORMATS

MEMORY_BYTES = 2 * 1024**3
"""Most address space of the decoding process: a WebP of MAX_PIXELS needs about 0.6 GB, the rest is room."""

Refusal = tuple[str, str]
"""(slug of the problem, what is wrong with this picture)."""


def refuse(photo: bytes) -> Refusal | None:
    """What `inspect` says, with the memory of this whole process limited from now on."""
    _limit_memory()
    return inspect(photo)


def inspect(photo: bytes) -> Refusal | None:
    """Decode `photo` whole; the reason to refuse it, or None when it is sound. Never raises."""
    if (kind := sniff(photo)) is None:
        return "picture-unsupported", "The content is none of JPEG, PNG and WebP."
    # Pillow warns from half of its own limit on and refuses at twice of it; the exact limit is checked below.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(io.BytesIO(photo), formats=[kind]) as picture:
            if refusal := _refuse_size(*picture.size):
                return refusal
            _decode(picture)
    except MemoryError:
        return "picture-too-large", "Decoding it takes too much memory."
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...: all mean this
        return "picture-invalid", f"The {kind} data is damaged or incomplete ({type(error).__name__})."
    return None


def sniff(photo: bytes) -> str | None:
    """Pillow's name of the format by the first bytes, None when it is not one of PHOTO_FORMATS."""
    if photo.startswith(b"\xff\xd8\xff"):
        kind = "JPEG"
    elif photo.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "PNG"
    elif photo[:4] == b"RIFF" and photo[8:12] == b"WEBP":
        kind = "WEBP"
    else:
        return None
    return kind if kind in PHOTO_FORMATS else None


def _refuse_size(width: int, height: int) -> Refusal | None:
    if min(width, height) < MIN_SIDE_PX:
        return "picture-too-small", f"It has {width} x {height} px."
    if width * height > MAX_PIXELS:
        return "picture-too-large", f"It has {width} x {height} px, {width * height / 1e6:.1f} megapixels."
    return None


def _decode(picture: Image.Image) -> None:
    # An eighth of the size still reads all of a JPEG, with 1/64 of the memory; other formats ignore it.
    picture.draft(None, (max(1, picture.width // 8), max(1, picture.height // 8)))
    picture.load()


def _limit_memory() -> None:
    if sys.platform != "linux":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(ValueError):  # a lower hard limit is in force already
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))
