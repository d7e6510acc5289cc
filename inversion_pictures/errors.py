"""Why a picture is not taken."""

from __future__ import annotations

SAVE_ANEW = "Open it in a picture program, save it again as JPEG or PNG, and send that file."


class PictureRefused(Exception):
    """`slug` is one of picture-unsupported, picture-too-small, picture-too-large, picture-invalid, mask-invalid.

    `said` tells what is wrong with this picture, `remedy` what to do about it; each is a sentence or two.
    """

    def __init__(self, slug: str, said: str, remedy: str = SAVE_ANEW) -> None:
        super().__init__(f"{said} {remedy}")
        self.slug = slug
        self.said = said
        self.remedy = remedy


def damaged(kind: str, said: str) -> PictureRefused:
    """`said` follows "The PNG ..."."""
    return PictureRefused("picture-invalid", f"The {kind} {said}.")
