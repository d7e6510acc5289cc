"""From an Upload to checked Submissions, or to a problem. Nothing of a refused upload stays anywhere."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import anyio
from anyio import BrokenWorkerProcess, CapacityLimiter, to_process
from pydantic import ValidationError

from inversion_app import pictures
from inversion_app.bodies import FILES, IMAGE, IMAGES, LATENTS, MASK, METADATA, SOURCE, Upload
from inversion_app.codes import Code, read_code
from inversion_app.errors import ProblemError, explain
from inversion_app.origins import Origin
from inversion_app.terms import Terms
from inversion_worker.client import Submission
from inversion_worker.contract import MAX_BATCH, JobOptions, Seen, StartKind, quad_fault

log = logging.getLogger(__name__)

Look: TypeAlias = Callable[[bytes], Awaitable[Seen | None]]
"""What a worker sees in a photo, where one says so soon: see UploadLooks."""
OPTION_FIELDS = tuple(JobOptions.model_fields)
_FLAGS = {name for name, field in JobOptions.model_fields.items() if field.annotation is bool}


async def check_one(upload: Upload, terms: Terms, look: Look, origin: Origin | None = None) -> Submission:
    """The one photo of an upload with all that came along, checked. Raises: ProblemError.

    Args:
        origin: the inversion that the upload goes on from, in the place of a photo.
    """
    options = parse_options(upload, (*FILES, SOURCE))
    code = upload.latents
    if isinstance(code, bytes):
        code = await asyncio.to_thread(read_code, code)
    if origin is not None:
        return await _check_next(upload, options, code, terms, look, origin)
    photo = _only_photo(upload)
    options = _with_start(options, code)
    options = terms.settled(options, code)
    crop = crop_of(options)
    sound = await check_picture(photo, upload.mask, crop, timeout_s=terms.settings.decode_timeout_s)
    if options.align and options.quad is None and (sound.mask is not None or options.face is not None):
        await _check_face(photo, sound.mask, options, look, timeout_s=terms.settings.decode_timeout_s)
    return Submission(
        photo=photo,
        options=options,
        mask=sound.mask,
        start=code.npy() if code else None,
        start_latent=code.latent() if code else None,
        metadata=upload.metadata,
    )


async def _check_next(
    upload: Upload, options: JobOptions, code: Code | None, terms: Terms, look: Look, origin: Origin
) -> Submission:
    """One that goes on from another. Its photo and its crop were checked then; what is new is checked now."""
    if upload.images:
        raise ProblemError("option-invalid", "`image` and `source` are both given: send one of them.")
    chosen = [name for name, value in upload.fields.items() if value is not None]
    options = origin.completed(options, chosen)
    if code is None:
        code = await origin.code(options)
    options = terms.settled(_with_start(options, code), code)
    crop, mask = crop_of(options), None
    if upload.mask is not None or options.face != origin.record.options.face or {"quad", "align"}.intersection(chosen):
        photo = await origin.read_photo()
        timeout_s = terms.settings.decode_timeout_s
        mask = (await check_picture(photo, upload.mask, crop, timeout_s=timeout_s)).mask
        if options.align and options.quad is None:
            await _check_face(photo, mask, options, look, timeout_s=timeout_s)
    return Submission(
        photo=origin.photo,
        options=options,
        mask=origin.mask if mask is None else mask,
        start=code.npy() if code else None,
        start_latent=code.latent() if code else None,
        diffusion=origin.record.diffusion,
        face=origin.face,
        source=origin.record.id,
        metadata=upload.metadata,
    )


async def check_photo(upload: Upload, files: Sequence[str], timeout_s: float) -> bytes:
    """The one photo of an upload that takes no options, checked. Raises: ProblemError."""
    came_along = [name for name in (MASK, LATENTS, SOURCE, METADATA) if getattr(upload, name) is not None]
    if unknown := [*upload.fields, *upload.blank, *came_along]:
        known = ", ".join(files)
        raise ProblemError("option-unknown", f"`{unknown[0][:100]}` is no field. Known fields: {known}.")
    photo = _only_photo(upload)
    await check_picture(photo, None, None, timeout_s=timeout_s)
    return photo


def _only_photo(upload: Upload) -> bytes:
    if len(upload.images) > 1:
        raise ProblemError("image-repeated", f"There are {len(upload.images)}.")
    if not upload.images:
        raise ProblemError("image-missing")
    return upload.images[0]


async def _check_face(photo: bytes, mask: bytes | None, options: JobOptions, look: Look, *, timeout_s: float) -> None:
    """Whether `face` is there and the mask leaves anything of it, where a worker says so soon; else the job finds out.

    Raises: ProblemError.
    """
    seen = await look(photo)
    if seen is None:
        return
    index = options.face or 0
    if not seen.faces:
        raise ProblemError("no-face-found")
    if index >= len(seen.faces):
        raise ProblemError("no-such-face", f"`face` is {index}, and the photo has {len(seen.faces)}.")
    if mask is not None:
        crop = pictures.Crop(seen.faces[index].quad)
        await in_decoder(pictures.check_mask, mask, crop, timeout_s=timeout_s)


async def check_batch(upload: Upload, terms: Terms) -> list[Submission]:
    """Every photo of a batch, all with the same options, checked. Raises: ProblemError of the first unsound one."""
    options = parse_options(upload, (IMAGE if upload.is_form else IMAGES,))
    for name, given in ((MASK, upload.mask), (LATENTS, upload.latents), (SOURCE, upload.source)):
        if given is not None:
            raise ProblemError("option-unknown", f"`{name}` belongs to one photo; submit that photo by itself.")
    if not upload.images:
        raise ProblemError("image-missing")
    if len(upload.images) > MAX_BATCH:
        raise ProblemError("batch-too-large", f"It has {len(upload.images)} photos.")
    options = terms.settled(_with_start(options, None))
    crop = crop_of(options)
    for index, photo in enumerate(upload.images):
        try:
            await check_picture(photo, None, crop, timeout_s=terms.settings.decode_timeout_s)
        except ProblemError as error:
            raise ProblemError(error.kind.slug, f"Of photo {index}, counted from 0: {error.said or ''}") from error
    return [Submission(photo=photo, options=options, metadata=upload.metadata) for photo in upload.images]


def parse_options(upload: Upload, files: Sequence[str]) -> JobOptions:
    """The options among the fields; `files` are the names that are none, for the list of known ones."""
    if unknown := [name for name in upload.fields if name not in OPTION_FIELDS]:
        known = ", ".join((*files, METADATA, *OPTION_FIELDS))
        raise ProblemError("option-unknown", f"`{unknown[0][:100]}` is no field. Known fields: {known}.")
    try:
        if upload.is_form:
            return JobOptions.model_validate(_of_form(upload.fields))
        return JobOptions.model_validate_json(json.dumps(_of_json(upload.fields)), strict=True)
    except (ValidationError, ValueError, RecursionError) as error:  # ValueError: text that is no Unicode
        detail = explain(_named(error)) if isinstance(error, ValidationError) else "A value cannot be read."
        raise ProblemError("option-invalid", detail) from error


def _of_form(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A form has neither lists nor truth: parts stand between commas, and true and false are words."""
    found = dict(fields)
    for name in _FLAGS & found.keys():
        if found[name].lower() not in ("true", "false"):
            raise ProblemError("option-invalid", f"`{name}`: must be true or false.")
    if isinstance(events := found.get("webhook_events"), str):
        found["webhook_events"] = [part.strip(" ") for part in events.split(",")]
    if isinstance(quad := found.get("quad"), str):
        found["quad"] = quad.split(",")
    return found


def _of_json(fields: Mapping[str, Any]) -> dict[str, Any]:
    """To JSON 5.0 and 5 are the same number, and so they are to JSON Schema."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in fields.items()
    }


def _named(error: ValidationError) -> list[Mapping[str, Any]]:
    """Each error under its option's name, also where it lies within a list."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [{**one, "loc": one["loc"][:1]} for one in found]


def _with_start(options: JobOptions, code: Code | None) -> JobOptions:
    """A code that is sent is the start; to name another one besides is a contradiction."""
    if code is None:
        if options.start is StartKind.LATENTS:
            raise ProblemError("option-invalid", "`start` is `latents`, and no `latents` came along.")
        return options
    if options.start not in (None, StartKind.LATENTS):
        raise ProblemError("option-invalid", f"`start` is `{options.start.value}`, and `latents` came along.")
    return options.model_copy(update={"start": StartKind.LATENTS})


def crop_of(options: JobOptions) -> pictures.Crop | None:
    """The part of the photo that will be inverted, where that is known before anybody has looked at it.

    Raises: ProblemError for a quad that is none, and for options that contradict each other.
    """
    named = [name for name in ("face", "quad") if getattr(options, name) is not None]
    if len(named) > 1:
        raise ProblemError("option-invalid", "`face` and `quad` are both given: send one of them.")
    if named and not options.align:
        raise ProblemError("option-invalid", f"`{named[0]}` is given with `align` false: leave one of them out.")
    if options.quad is not None:
        if (fault := quad_fault(options.quad)) is not None:
            raise ProblemError("quad-invalid", f"`quad`: {fault}.")
        return pictures.Crop(options.quad)
    return None if options.align else pictures.CENTRE


async def check_picture(
    photo: bytes, mask: bytes | None, crop: pictures.Crop | None, *, timeout_s: float
) -> pictures.Sound:
    """Decode the photo and its mask in a process of its own; the mask comes back as the worker takes it."""
    return await in_decoder(pictures.check, photo, mask, crop, timeout_s=timeout_s)


async def in_decoder(
    check: Callable[..., pictures.Sound | pictures.Refusal], *arguments: Any, timeout_s: float
) -> pictures.Sound:
    """Run a check of a stranger's bytes in a process of its own. Raises: ProblemError."""
    own_slot = CapacityLimiter(1)  # waiting for a slot has been done, and does not count as decoding
    try:
        with anyio.fail_after(timeout_s):  # on time-out the process is killed
            found = await to_process.run_sync(check, *arguments, cancellable=True, limiter=own_slot)
    except TimeoutError as error:
        raise ProblemError("picture-invalid", f"Decoding it took longer than {timeout_s:g} s.") from error
    except BrokenWorkerProcess as error:  # the decoder crashed on it
        raise ProblemError("picture-invalid", "The decoder cannot cope with it.") from error
    if not isinstance(found, pictures.Sound):
        raise ProblemError(*found)
    return found


async def warm_up() -> None:
    """Start the decoding process, so that the first upload does not wait for it."""
    try:
        await to_process.run_sync(pictures.check, b"", cancellable=True)
    except BrokenWorkerProcess:
        log.exception("the decoding process does not start; uploads will be refused")
