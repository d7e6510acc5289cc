"""Errors of the core.

    InversionError              anything this library refuses, with a sentence for a person
      + PictureInvalid          the picture is at fault           422   picture-invalid
      |   + PictureTooLarge     more pixels than are decoded      422   picture-too-large
      |   + PictureTooSmall     a side under the minimum          422   picture-too-small
      |   + PictureUnsupported  not a JPEG, PNG or WebP           415   picture-unsupported
      + NoFaceFound             the photo is at fault             422   no-face-found
      + OptionInvalid           the caller's choice is at fault   422   option-invalid
      + PackNotFound            the caller's choice is at fault   422   pack-not-found
      + PackInvalid             the deployment is at fault        500   pack-invalid
      + EngineFull              too many want something at once   503   engine-full
      + EngineClosed            the engine is no more             503   engine-closed

Divergence is no error: `invert` keeps the best finite Step and says `nonfinite`.
"""

from __future__ import annotations

from typing import ClassVar


class InversionError(Exception):
    """Base. `str(error)` says what happened and what to do; `slug` never changes, so programs may test it."""

    slug: ClassVar[str] = "inversion-error"
    title: ClassVar[str] = "The inversion could not be done"
    status: ClassVar[int] = 500


class PictureInvalid(InversionError):
    """The bytes are no picture that can be decoded whole."""

    slug = "picture-invalid"
    title = "The picture cannot be read"
    status = 422


class PictureTooLarge(PictureInvalid):
    """More pixels than are decoded; found from the header, before anything is decoded."""

    slug = "picture-too-large"
    title = "The picture has too many pixels"


class PictureTooSmall(PictureInvalid):
    """A side is shorter than the smallest that is taken."""

    slug = "picture-too-small"
    title = "The picture is too small"


class PictureUnsupported(PictureInvalid):
    """A sound picture perhaps, but in a format that is not taken."""

    slug = "picture-unsupported"
    title = "The picture's format is not supported"
    status = 415


class NoFaceFound(InversionError):
    """The detector found no face in a sound picture."""

    slug = "no-face-found"
    title = "No face was found in the photo"
    status = 422


class OptionInvalid(InversionError):
    """An option, or a combination of them, that this pack cannot do."""

    slug = "option-invalid"
    title = "An option is not valid"
    status = 422


class PackNotFound(InversionError):
    """No pack of that name, and no folder."""

    slug = "pack-not-found"
    title = "The pack does not exist"
    status = 422


class PackInvalid(InversionError):
    """A pack, or a file to be converted into one, is broken. The message names file, key and remedy."""

    slug = "pack-invalid"
    title = "The pack is broken"


class EngineFull(InversionError):
    """As many requests wait for the engine as may."""

    slug = "engine-full"
    title = "Too many inversions wait"
    status = 503


class EngineClosed(InversionError):
    """The engine was closed before the request ended."""

    slug = "engine-closed"
    title = "The engine is closed"
    status = 503
