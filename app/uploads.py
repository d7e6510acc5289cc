"""From a request body to (photo, options), or to a problem. Nothing of a refused upload stays anywhere.

The body is counted while it arrives, so a lying or missing Content-Length changes nothing. What is
larger than a mebibyte waits in a nameless temporary file, which is gone as soon as it is closed.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
from anyio import BrokenWorkerProcess, CapacityLimiter, to_process
from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from app import pictures
from app.errors import ProblemError, explain
from worker.contract import JobOptions, PackInfo

log = logging.getLogger(__name__)

IMAGE_FIELD = "image"
OPTION_FIELDS = tuple(JobOptions.model_fields)
MAX_FIELDS = 64
"""Most form fields; more are refused before they are read."""
MAX_FIELD_BYTES = 4096
"""Most bytes of one option's value."""


@asynccontextmanager
async def read_form(request: Request, max_bytes: int) -> AsyncGenerator[FormData]:
    """The multipart form of `request`, of at most `max_bytes` in all; its files are closed at the end."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ProblemError("not-multipart", f"Content-Type: {request.headers.get('content-type', 'none')[:100]}.")
    try:
        async with aclosing(_counted(request, max_bytes)) as body:
            form = await _Parser(request.headers, body).parse()
    except MultiPartException as error:
        slug = "image-repeated" if error.message.startswith("Too many files") else "form-invalid"
        raise ProblemError(slug, error.message) from error
    except ClientDisconnect as error:
        raise ProblemError("form-invalid", "The connection ended before the body did.") from error
    except ValueError as error:  # a charset such as idna or undefined, which decodes by raising UnicodeError
        raise ProblemError("form-invalid", "The form's text cannot be decoded; use UTF-8.") from error
    try:
        yield form
    finally:
        await form.close()


class _Parser(MultiPartParser):
    """The framework's parser with our limits; a body without its last boundary is an error."""

    def __init__(self, headers: Headers, body: AsyncGenerator[bytes]) -> None:
        super().__init__(headers, body, max_files=2, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
        self._ended = False

    def on_end(self) -> None:
        self._ended = True

    async def parse(self) -> FormData:
        form = await super().parse()
        if not self._ended:
            for file in self._files_to_close_on_error:  # one whose part never ended is not in the form
                file.close()
            raise MultiPartException("It is cut short: the last boundary is missing.")
        return form


async def _counted(request: Request, max_bytes: int) -> AsyncGenerator[bytes]:
    """The body's chunks; raises at the first that makes them more than `max_bytes`."""
    # The rest of the body is never read, so the connection cannot be used again.
    too_large = ProblemError("body-too-large", f"At most {max_bytes:,} bytes are taken.", {"Connection": "close"})
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise too_large
    seen_bytes = 0
    async with aclosing(request.stream()) as stream:
        async for chunk in stream:
            seen_bytes += len(chunk)
            if seen_bytes > max_bytes:
                raise too_large
            yield chunk


def parse_options(form: FormData) -> JobOptions:
    """The options among the form's fields. An empty value counts as not given, as browsers' forms send it."""
    fields = [(name, value) for name, value in form.multi_items() if name != IMAGE_FIELD]
    _check_names([name for name, _ in fields])
    if files := [name for name, value in fields if isinstance(value, UploadFile)]:
        raise ProblemError("option-invalid", f"`{files[0]}` is a file where a value was expected.")
    try:
        return JobOptions.model_validate({name: value for name, value in fields if value != ""})
    except ValidationError as error:
        raise ProblemError("option-invalid", explain(_named(error))) from error


def _named(error: ValidationError) -> Sequence[Mapping[str, Any]]:
    return error.errors(include_url=False, include_context=False, include_input=False)


def _check_names(names: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in OPTION_FIELDS]:
        known = ", ".join((IMAGE_FIELD, *OPTION_FIELDS))
        raise ProblemError("option-unknown", f"`{unknown[0][:100]}` is no form field. Known fields: {known}.")
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ProblemError("option-invalid", f"`{repeated[0]}` is given more than once.")


def image_file(form: FormData) -> UploadFile:
    """The one file of the field `image`."""
    images = form.getlist(IMAGE_FIELD)
    if len(images) > 1:
        raise ProblemError("image-repeated")
    if not images:
        raise ProblemError("image-missing")
    image = images[0]
    if not isinstance(image, UploadFile):
        raise ProblemError("image-missing", "The field `image` holds text, not a file.")
    if not image.size:
        raise ProblemError("image-missing", "The file in the field `image` is empty.")
    return image


async def read_picture(image: UploadFile, timeout_s: float, slots: CapacityLimiter) -> bytes:
    """The file's bytes, once they are known to decode; else ProblemError.

    Only so many uploads as there are `slots` are in memory at once; the others wait in their files.
    """
    async with slots:
        photo = await image.read()
        await _check_picture(photo, timeout_s)
        return photo


async def _check_picture(photo: bytes, timeout_s: float) -> None:
    own_slot = CapacityLimiter(1)  # waiting for a slot has been done, and does not count as decoding
    try:
        with anyio.fail_after(timeout_s):  # on time-out the process is killed
            refusal = await to_process.run_sync(pictures.refuse, photo, cancellable=True, limiter=own_slot)
    except TimeoutError as error:
        raise ProblemError("picture-invalid", f"Decoding it took longer than {timeout_s:g} s.") from error
    except BrokenWorkerProcess as error:  # the decoder crashed on it
        raise ProblemError("picture-invalid", "The decoder cannot cope with it.") from error
    if refusal is not None:
        raise ProblemError(*refusal)


async def warm_up() -> None:
    """Start the decoding process, so that the first upload does not wait for it."""
    try:
        await to_process.run_sync(pictures.refuse, b"", cancellable=True)
    except BrokenWorkerProcess:
        log.exception("the decoding process does not start; uploads will be refused")


def check_options(options: JobOptions, packs: Sequence[PackInfo]) -> None:
    """Raise ProblemError where no pack that a live worker announced can do this.

    With no worker alive nothing is known, and the job is queued: the worker that takes it checks again.
    """
    if not packs:
        return
    names = ", ".join(sorted({pack.name for pack in packs}))
    if options.pack is not None:
        packs = [pack for pack in packs if pack.name == options.pack]
        if not packs:
            raise ProblemError("pack-not-found", f"`{options.pack[:100]}` is not among the packs: {names}.")
    else:
        packs = [pack for pack in packs if pack.default] or packs
    _check_choice("optimizer", options.optimizer, sorted({name for pack in packs for name in pack.optimizers}))
    if options.start is not None:
        _check_choice("start", options.start.value, sorted({kind.value for pack in packs for kind in pack.starts}))


def _check_choice(field: str, chosen: str, offered: Sequence[str]) -> None:
    if chosen not in offered:
        raise ProblemError(
            "option-invalid",
            f"`{field}`: `{chosen[:100]}` is not offered by this pack. Offered: {', '.join(offered)}.",
        )
