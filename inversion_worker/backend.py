"""What a worker runs, as it sees it: one implementation is the library (core_backend.py), one a test's.

Nothing here knows Torch, so the worker's own machinery can be tested without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from inversion_worker.code import Code as Code
from inversion_worker.contract import (
    DiffusionRecord,
    FilmOrder,
    JobOptions,
    PackInfo,
    Rendered,
    RenderOrder,
    Seen,
    StopReason,
)
from inversion_worker.framing import Framing


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What came with the photo."""

    start: Code | None = None
    """The code to start from, for `StartKind.LATENTS`."""
    mask: Image.Image | None = None
    """8-bit grey, as large as the upright photo: white where the pictures must agree, black where anything goes."""
    diffusion: DiffusionRecord | None = None
    """How the face of another photo is put into this one."""
    face: bytes | None = None
    """The photo of that face."""


NO_EXTRAS = Extras()


@dataclass(frozen=True, kw_only=True)
class Before:
    """What has been done already, by an earlier attempt or by preparing this one."""

    checkpoint: bytes | None = None
    """Where to go on; none: from the start."""
    losses: Sequence[tuple[int, float]] = ()
    """Step and loss of the Steps until then."""
    seconds: float = 0.0
    """Of work; they count for `JobOptions.max_seconds`."""


NOTHING = Before()


@dataclass(frozen=True, kw_only=True)
class Materials:
    """What a render is made of, beside its order."""

    sent: bytes
    """The bytes of the question."""
    read: Callable[[str], bytes | None]
    """The bytes of an artifact by its key."""
    is_wanted: Callable[[], bool]
    """Whether somebody waits for it still."""


class BackendStep(Protocol):
    """One Step: its loss, code (with its detail) and picture belong together. May be read from another thread later."""

    @property
    def index(self) -> int:
        """Updates done; 0 is the start code."""

    @property
    def loss(self) -> float:
        """Loss of the picture; may be infinite or not a number."""

    @property
    def stopped_by(self) -> StopReason | None:
        """Which rule of the job's options makes it the last one; None while more are to come."""

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
    def pack_digest(self) -> str:
        """See `contract.PackInfo.digest`."""

    @property
    def optimizer(self) -> str:
        """Name of the optimizer that runs."""

    @property
    def total_steps(self) -> int:
        """Updates in all, of code and detail, where no rule ends it earlier."""

    @property
    def aligned(self) -> Image.Image:
        """The crop that is inverted."""

    @property
    def framing(self) -> Framing:
        """Where the crop lies, and why."""

    def steps(self, before: Before = NOTHING) -> Iterator[BackendStep]:
        """The Steps from the start, or those from a checkpoint on: the same ones as without the break."""

    def render(self, code: Code) -> Image.Image:
        """The picture of a code."""

    def pasted(self, image: Image.Image) -> Image.Image | None:
        """The upright photo with `image` in the place of the crop; None where no face was looked for."""


class Backend(Protocol):
    """Loaded packs. All methods may be called from several threads."""

    device: str

    @property
    def slots(self) -> int:
        """Jobs that are to run at the same time."""

    def packs(self) -> list[PackInfo]:
        """What can be asked for."""

    def look(self, photo: bytes) -> Seen:
        """Find the faces of a photo, in the order of the option `face`.

        Raises: JobRefused where the photo is at fault; that there is no face is no fault here.
        """

    def render(self, order: RenderOrder, materials: Materials) -> tuple[Rendered, bytes]:
        """The picture of a code with its edits, beside whatever else runs.

        Raises: JobRefused where the code, an edit or the photo is at fault, or nobody waits for it any more.
        """

    def film(self, order: FilmOrder, materials: Materials) -> tuple[Rendered, bytes]:
        """The way from one code to another as a film. Raises: as `render`."""

    def prepare(self, photo: bytes, options: JobOptions, extras: Extras = NO_EXTRAS) -> Prepared:
        """Decode, align, make the target. Raises: JobRefused when the photo, an option or an extra is at fault."""
