"""From a request to put a face into a context to a submission: a job of its own, with two photos."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from inversion_app import examples
from inversion_app.bodies import data_url
from inversion_app.errors import ProblemError
from inversion_app.forms import DATA_URL
from inversion_app.metadata import check_metadata
from inversion_app.origins import Origin
from inversion_app.terms import Terms
from inversion_app.uploads import check_picture, crop_of
from inversion_worker.client import JobClient, Stored, Submission
from inversion_worker.contract import (
    CODE_ID_PATTERN,
    MAX_FACE,
    Diffusion,
    DiffusionRecord,
    JobOptions,
    Message,
    Quad,
    StartKind,
)


class PhotoOfInversion(Message):
    """The photo of an inversion, with its crop."""

    inversion: str = Field(description="Id of an inversion of yours.", pattern=CODE_ID_PATTERN)


class PhotoItself(Message):
    """A photo, and which part of it."""

    image: str = Field(
        description="The photo as a base64 data URL: data:image/jpeg;base64,...",
        json_schema_extra={"format": "data-url", "pattern": DATA_URL},
    )
    align: bool = Field(True, description="Detect and align the face. False takes the centre crop as it is.")
    face: int | None = Field(None, ge=0, le=MAX_FACE, description="Which face. Default: the largest.", examples=[1])
    quad: Quad | None = Field(
        None,
        description="Corners of the crop in the upright photo, in pixels, in the place of `face`.",
        examples=[[[210.0, 96.0], [208.5, 540.2], [652.7, 541.7], [654.2, 97.5]]],
    )


def _kind(value: Any) -> str | None:
    there = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return next((name for name in ("inversion", "image") if name in there), None)


Photo = Annotated[
    Annotated[PhotoOfInversion, Tag("inversion")] | Annotated[PhotoItself, Tag("image")],
    Discriminator(
        _kind, custom_error_type="photo_unknown", custom_error_message="must be a photo: `inversion` or `image`"
    ),
]


class DiffusionRequest(Diffusion):
    """A face, a context, and how to join them."""

    face: Photo = Field(description="Whose face.", examples=[{"inversion": examples.ID}])
    context: Photo = Field(
        description="Whose hair, light and background: the result goes into this photo.",
        examples=[{"inversion": examples.SOURCE_ID}],
    )
    options: JobOptions = Field(
        default_factory=JobOptions,
        description="Options of an inversion, without `align`, `face` and `quad`, which belong to the two photos.",
    )
    metadata: dict[str, Any] | None = Field(
        None, description="As of an inversion: a JSON object of up to 2 kB that comes back with it."
    )


async def submission_of(client: JobClient, asked: DiffusionRequest, terms: Terms) -> Submission:
    """The job. Raises: ProblemError."""
    options = asked.options
    if options.face is not None or options.quad is not None or not options.align:
        raise ProblemError("option-invalid", "`options`: `align`, `face` and `quad` belong to `face` and `context`.")
    if options.start is StartKind.LATENTS:
        raise ProblemError("option-invalid", "`options`: `start` cannot be `latents`: it begins from both photos.")
    face, face_crop, face_pack = await _photo(client, asked.face, terms)
    context, crop, pack = await _photo(client, asked.context, terms)
    chosen = options.model_copy(update={**_crop(crop), "pack": options.pack or pack or face_pack})
    same = {name: getattr(asked, name) for name in Diffusion.model_fields}
    return Submission(
        photo=context,
        options=terms.settled(chosen),
        diffusion=DiffusionRecord(
            **same, face_align=face_crop.align, face_index=face_crop.face, face_quad=face_crop.quad
        ),
        face=face,
        metadata=None if asked.metadata is None else check_metadata(asked.metadata),
    )


def _crop(options: JobOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("align", "face", "quad")}


async def _photo(
    client: JobClient, photo: PhotoOfInversion | PhotoItself, terms: Terms
) -> tuple[bytes | Stored, JobOptions, str | None]:
    """A photo, options that say which part of it is meant, and the pack that it was inverted with."""
    if isinstance(photo, PhotoOfInversion):
        origin = await Origin.find(client, terms.tenant, terms.settings, photo.inversion)
        return origin.photo, origin.record.options, origin.record.pack_name
    crop = JobOptions(align=photo.align, face=photo.face, quad=photo.quad)
    data = data_url("image", photo.image)
    await check_picture(data, None, crop_of(crop), timeout_s=terms.settings.decode_timeout_s)
    return data, crop, None
