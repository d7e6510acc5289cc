"""Which part of a photo a job inverts: the middle, a face, or what lies under a quad that was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inversion_worker.contract import FaceInfo, PhotoSize, PhotoWarning, Quad, Seen, share_inside
from inversion_worker.errors import JobRefused
from inversion_worker.problems import no_such_face, quad_beside

LEAST_INSIDE = 0.5
"""Share of a quad within the photo below which a job warns."""


@dataclass(frozen=True, kw_only=True)
class Framing:
    """A choice, and what it was made from."""

    seen: Seen
    """The photo's size, and its faces; none where nobody looked."""
    face: FaceInfo | None = None
    """Where the crop lies; None for the middle."""
    face_index: int | None = None
    """Which of the faces was taken."""
    warnings: Sequence[PhotoWarning] = ()
    """What may spoil the result."""


def middle(photo: PhotoSize) -> Framing:
    """The largest square in the middle."""
    return Framing(seen=Seen(photo=photo, faces=[]))


def by_face(seen: Seen, index: int) -> Framing:
    """One of the faces, of which there is at least one. Raises: JobRefused, where there is none of that number."""
    if index >= len(seen.faces):
        raise JobRefused(no_such_face(index, len(seen.faces)))
    taken = seen.faces[index]
    face = FaceInfo(found=len(seen.faces), quad=list(taken.quad))
    return Framing(seen=seen, face=face, face_index=index, warnings=taken.warnings)


def by_quad(photo: PhotoSize, quad: Quad) -> Framing:
    """What lies under a quad. Raises: JobRefused, where that is nothing of the photo."""
    share = share_inside(quad, photo.width, photo.height)
    if share <= 0:
        raise JobRefused(quad_beside(photo.width, photo.height))
    outside = PhotoWarning(
        kind="crop-outside",
        detail=f"Only {100 * share:.0f} % of the quad lies within the photo; the rest is mirrored and blurred.",
    )
    return Framing(
        seen=Seen(photo=photo, faces=[]),
        face=FaceInfo(found=0, quad=list(quad)),
        warnings=[outside] if share < LEAST_INSIDE else [],
    )
