"""Frames as a film: animated WebP, GIF, or MP4 (which needs the extra `film`)."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from inversion_core.errors import OptionInvalid

FASTEST, SLOWEST = 1.0, 60.0
WEBP_QUALITY = 85
MP4_CRF = "18"
"""Of libx264; 18 is hardly to be told from the original."""


def film(frames: Sequence[Image.Image], kind: str, fps: float = 25.0, *, there_and_back: bool = False) -> bytes:
    """A film of at least one frame, all of one size.

    Args:
        kind: "webp", "gif" or "mp4". WebP and GIF repeat for ever.
        fps: frames a second, 1 to 60. GIF counts in hundredths of a second.
        there_and_back: ends with the same frames in reverse.
    Raises:
        OptionInvalid: no such kind or speed, no frame, or PyAV is not installed.
    """
    if kind not in KINDS:
        raise OptionInvalid(f"a film cannot be {kind!r}; there are {', '.join(KINDS)}")
    if not FASTEST <= fps <= SLOWEST:
        raise OptionInvalid(f"fps is {fps}; give from {FASTEST:g} to {SLOWEST:g}")
    if not frames or len({frame.size for frame in frames}) > 1:
        raise OptionInvalid("a film needs at least one frame, and all of one size")
    shown = [frame.convert("RGB") for frame in frames]
    return KINDS[kind](shown + shown[-2:0:-1] if there_and_back else shown, fps)


def _webp(frames: list[Image.Image], fps: float) -> bytes:
    return _animated(frames, "WEBP", fps, quality=WEBP_QUALITY, method=2)


def _gif(frames: list[Image.Image], fps: float) -> bytes:
    palettes = [frame.quantize(256, method=Image.Quantize.MEDIANCUT) for frame in frames]
    return _animated(palettes, "GIF", fps, disposal=1)


def _animated(frames: list[Image.Image], form: str, fps: float, **options: int) -> bytes:
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=1000 / fps, loop=0, **options)
    return buffer.getvalue()


def _mp4(frames: list[Image.Image], fps: float) -> bytes:
    """H.264 that every browser plays: even sides, 4:2:0, and the index at the beginning of the file."""
    try:
        import av
    except ImportError as error:
        raise OptionInvalid(
            "MP4 needs PyAV, which is not installed: pip install 'stylegan-inversion[film]', or take webp"
        ) from error
    width, height = (side + side % 2 for side in frames[0].size)
    with TemporaryDirectory() as folder:
        file = Path(folder, "film.mp4")  # to put the index first, a file is written and read again
        with av.open(str(file), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {"crf": MP4_CRF}
            for frame in frames:
                pixels_HWC = np.asarray(frame if frame.size == (width, height) else _widened(frame, width, height))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_HWC, format="rgb24")))
            container.mux(stream.encode())
        return file.read_bytes()


def _widened(frame: Image.Image, width: int, height: int) -> Image.Image:
    """With the last column and row once more."""
    return frame.resize((width, height), Image.Resampling.NEAREST, box=(0, 0, *frame.size))


KINDS: Mapping[str, Callable[[list[Image.Image], float], bytes]] = {"webp": _webp, "gif": _gif, "mp4": _mp4}
"""The kinds of films, named as their files end."""
