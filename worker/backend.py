"""What a worker runs, as it sees it: one implementation is the library (core_backend.py), one a test's.

Nothing here knows Torch, so the worker's own machinery can be tested without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.contract import FaceInfo, JobOptions, PackInfo

Code = NDArray[np.float32]
"""A W+ code, float32, (L, D): one row of latent width D for each style layer."""


class BackendStep(Protocol):
    """One Step: its loss, code and picture belong together. May be read from another thread later."""

    @property
    def index(self) -> int:
        """Updates done; 0 is the start code."""

    @property
    def loss(self) -> float:
        """Loss of the picture; may be infinite or not a number."""

    def image(self) -> Image.Image:
        """The picture, RGB."""

    def code(self) -> Code:
        """The code."""

    def checkpoint(self) -> bytes:
        """All that it takes to go on from here."""


class Prepared(Protocol):
    """One job, ready to run."""

    @property
    def pack_name(self) -> str: ...

    @property
    def pack_version(self) -> str: ...

    @property
    def aligned(self) -> Image.Image:
        """The crop that is inverted."""

    @property
    def face(self) -> FaceInfo | None:
        """What was found; None where nothing was looked for."""

    def steps(self, resume: bytes | None) -> Iterator[BackendStep]:
        """The Steps from the start, or those from a checkpoint on: the same ones as without the break."""

    def render(self, code: Code) -> Image.Image:
        """The picture of a code."""


class Backend(Protocol):
    """Loaded packs. All methods may be called from several threads."""

    device: str

    @property
    def slots(self) -> int:
        """Jobs that are to run at the same time."""

    def packs(self) -> list[PackInfo]:
        """What can be asked for."""

    def prepare(self, photo: bytes, options: JobOptions) -> Prepared:
        """Decode, align, make the target. Raises: JobRefused when the photo or an option is at fault."""
