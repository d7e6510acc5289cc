"""From photos, masks, codes and options to a form."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypedDict


class Readable(Protocol):
    """A file that was opened for reading bytes."""

    def read(self) -> bytes:
        """All that is left."""


Photo: TypeAlias = str | os.PathLike[str] | bytes | Readable
"""A file's path, its bytes, or the open file."""
Code: TypeAlias = Any
"""A code of shape (layers, w_dim): a numpy array, or a file of one (npy, safetensors, JSON) as a Photo is given."""


class Options(TypedDict, total=False):
    """Options of an inversion, validated by the service. Omitted or None: the service's default.

    The service's /docs describes each option and its range.
    """

    pack: str | None
    optimizer: str | None
    start: str | None
    """encoder, mean or random."""
    steps: int | None
    """Steps of the code; None is the pack's number."""
    detail_steps: int | None
    """Steps of detail after them; 0 switches it off, None is the pack's number."""
    detail_px: int | None
    seed: int
    frame_every: int
    align: bool
    face: int | None
    """Index into `faces` of the client; None is the largest face."""
    quad: Sequence[float] | Sequence[Sequence[float]] | None
    """Corners of the crop in the upright photo: `FaceSeen.quad`, or eight numbers in the same order."""
    focus: float | None
    """How much more the centre of the face counts than the rest; 0 is the paper's loss."""
    target_loss: float | None
    max_seconds: float | None
    plateau_steps: int | None
    paste: bool
    priority: str
    """low, normal or high."""
    ttl: int | None
    """Seconds to keep photo and results after the inversion has ended."""
    webhook: str | None
    webhook_events: Sequence[str]
    metadata: Mapping[str, Any] | None
    """A JSON object of your own, up to 2 kB; `Inversion.metadata` and `Event.metadata` give it back."""


class DirectionOptions(TypedDict, total=False):
    """Options of a direction. Omitted or None: the service's default."""

    label: str | None
    """What a positive strength does; by default the name."""
    unit: str | None
    """What a strength of 1 is."""
    low: float | None
    high: float | None
    """The range that you find plausible."""
    ttl: int | None
    """Seconds to keep it."""


def load(photo: Photo) -> tuple[str, bytes]:
    """A name for the file, and its bytes; they are held, so that the request can be repeated."""
    if isinstance(photo, bytes | bytearray | memoryview):
        return "photo", bytes(photo)
    if isinstance(photo, str | os.PathLike):
        path = Path(photo)
        return path.name, path.read_bytes()
    data = photo.read()
    if not isinstance(data, bytes):
        raise ValueError("The photo's file gives text: open it with mode 'rb'.")
    return Path(str(getattr(photo, "name", "photo"))).name, data


def load_code(code: Code) -> tuple[str, bytes]:
    """As `load`, and a numpy array as npy."""
    if not hasattr(code, "__array__"):
        return load(code)
    import numpy as np  # it is there: the array came from it, or from something that needs it

    file = io.BytesIO()
    np.save(file, np.asarray(code, np.float32), allow_pickle=False)
    return "latents.npy", file.getvalue()


def form_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Options as form fields."""
    return {name: _text(value) for name, value in options.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(_text(each) for each in value)
    return str(value)
