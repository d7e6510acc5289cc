"""From a request's body to what it holds: multipart/form-data, or JSON with data URLs.

The body is counted while it arrives, so a lying or missing Content-Length changes nothing. What is larger
than a mebibyte waits in a nameless temporary file, which is gone as soon as it is closed; `Body.load` takes
it into memory, and is called by one of few at a time. However many bodies arrive, one chunk is taken in at a
time, and whoever else wants something of this process comes in between.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import tempfile
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser, MultipartPart
from starlette.requests import ClientDisconnect

from inversion_app.codes import JSON_LIMITS, Code, check_size, read_code
from inversion_app.errors import ProblemError
from inversion_app.metadata import check_metadata, read_metadata
from inversion_app.origins import check_source, read_source
from inversion_app.strict_json import read_json
from inversion_worker.contract import MAX_BATCH, JobOptions

IMAGE, IMAGES, MASK, LATENTS = "image", "images", "mask", "latents"
SOURCE, METADATA = "source", "metadata"
FILES = (IMAGE, MASK, LATENTS)
_KNOWN = (*JobOptions.model_fields, SOURCE, METADATA)
"""Fields of a form that are no files."""
MAX_FIELDS = 64
"""Most form fields; more are refused before they are read."""
MAX_FIELD_BYTES = 4096
"""Most bytes of one option's value in a form."""
_IN_MEMORY_BYTES = 1024 * 1024
_AS_THEY_ARE = (b"binary", b"8bit", b"7bit")
"""The ways of sending bytes that change nothing of them (RFC 2045, section 6.2)."""
_MAX_LIST = 64
"""Most values in the list of an option."""
_MAX_DATA_HEADER = 200
"""Longest head of a data URL: its media type and parameters."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What a body holds, nothing of it checked yet but its shape."""

    images: list[bytes]
    mask: bytes | None = None
    latents: bytes | Code | None = None
    """Bytes of a file, or what a JSON value said."""
    source: str | None = None
    """Id of an inversion whose photo is meant; it is of an id's shape."""
    metadata: Mapping[str, Any] | None = None
    """A JSON object for the sender alone; it has been checked."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The options. Of a form they are text, of JSON they have their types."""
    blank: tuple[str, ...] = ()
    """Options that a form has without a value: they count as not given, where there are options."""
    is_form: bool


class Body(Protocol):
    """A body that has arrived whole."""

    async def load(self) -> Upload:
        """Take it into memory. Raises: ProblemError."""


@asynccontextmanager
async def receive(request: Request, max_bytes: int, *, batch: bool = False) -> AsyncGenerator[Body]:
    """The body of `request`, of at most `max_bytes` in all; its files are closed at the end."""
    kind = request.headers.get("content-type", "")
    media_type = kind.split(";")[0].strip().lower()
    if media_type == "application/json":
        check_charset(kind, "json-invalid")
        async with _received_json(request, max_bytes, batch) as body:
            yield body
    elif media_type == "multipart/form-data":
        check_charset(kind, "form-invalid")
        async with _received_form(request, max_bytes, batch) as body:
            yield body
    else:
        raise ProblemError("not-multipart", f"Content-Type: {kind[:100] or 'none'}.")


async def counted(request: Request, max_bytes: int, more: str = "") -> AsyncGenerator[bytes]:
    """The body's chunks; raises at the first that makes them more than `max_bytes`."""
    # The rest of the body is never read, so the connection cannot be used again.
    too_large = ProblemError("body-too-large", f"At most {max_bytes:,} bytes are taken{more}.", {"Connection": "close"})
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise too_large
    seen_bytes = 0
    one_at_a_time: asyncio.Lock = request.app.state.body_lock
    async with aclosing(request.stream()) as stream:
        async for chunk in stream:
            seen_bytes += len(chunk)
            if seen_bytes > max_bytes:
                raise too_large
            async with one_at_a_time:  # not while a chunk is waited for: a slow sender holds nobody up
                yield chunk
                await asyncio.sleep(0)


# ---- multipart/form-data


@asynccontextmanager
async def _received_form(request: Request, max_bytes: int, batch: bool) -> AsyncGenerator[_Form]:
    try:
        async with aclosing(counted(request, max_bytes)) as chunks:
            form = await _Parser(request.headers, chunks, max_files=MAX_BATCH + 2 if batch else 4).parse()
    except MultiPartException as error:
        many = "batch-too-large" if batch else "image-repeated"
        slug = many if error.message.startswith("Too many files") else "form-invalid"
        raise ProblemError(slug, error.message) from error
    except ClientDisconnect as error:
        raise ProblemError("form-invalid", "The connection ended before the body did.") from error
    try:
        yield _Form(form)
    finally:
        await form.close()


async def read_small_form(request: Request, max_bytes: int, files: Collection[str]) -> dict[str, str | bytes]:
    """The fields of a form that takes no photo: text, and bytes of those that are `files`. Without a value: left out.

    Raises: ProblemError.
    """
    check_charset(request.headers.get("content-type", ""), "form-invalid")
    found: dict[str, str | bytes] = {}
    async with _received_form(request, max_bytes, batch=False) as body:
        for name, value in body.form.multi_items():
            if name in found:
                raise ProblemError("option-invalid", f"`{name[:100]}` is given more than once.")
            if isinstance(value, UploadFile) != (name in files) and not _is_unchosen(value):
                told = "text where a file was expected" if name in files else "a file where a value was expected"
                raise ProblemError("option-invalid", f"`{name[:100]}` is {told}.")
            if not _is_unchosen(value):
                found[name] = await value.read() if isinstance(value, UploadFile) else value
    return found


class _Parser(MultiPartParser):
    """The framework's parser with our limits; a body without its last boundary is an error."""

    def __init__(self, headers: Headers, body: AsyncGenerator[bytes], max_files: int) -> None:
        super().__init__(headers, body, max_files=max_files, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
        self._ended = False

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        part = self._current_part
        for name, value in part.item_headers:
            if name == b"content-transfer-encoding" and value.strip().lower() not in _AS_THEY_ARE:
                told = value[:50].decode("latin-1")
                raise MultiPartException(f"{_told(part)} has the Content-Transfer-Encoding {told}: send it as it is.")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._current_part
        if part.file is None and len(part.data) + end - start > MAX_FIELD_BYTES:
            raise MultiPartException(f"{_told(part)} has more than {MAX_FIELD_BYTES:,} bytes.")
        super().on_part_data(data, start, end)

    def on_end(self) -> None:
        self._ended = True

    async def parse(self) -> FormData:
        form = await super().parse()
        if not self._ended:
            for file in self._files_to_close_on_error:  # one whose part never ended is not in the form
                file.close()
            raise MultiPartException("It is cut short: the last boundary is missing.")
        return form


def _told(part: MultipartPart) -> str:
    return f"`{part.field_name[:100]}`"


def check_charset(kind: str, slug: str) -> None:
    """Refuse a Content-Type with another encoding of text: some of them make what is no Unicode."""
    _, parameters = parse_options_header(kind)
    charset = parameters.get(b"charset", b"utf-8").decode("latin-1")
    if charset.lower() not in ("utf-8", "utf8", "us-ascii"):
        raise ProblemError(slug, f"Its text is in {charset[:50]}; UTF-8 is taken.")


class _Form:
    """A form with its files. An option with an empty value counts as not given, as browsers' forms send it."""

    def __init__(self, form: FormData) -> None:
        self.form = form

    async def load(self) -> Upload:
        pairs = [(name, value) for name, value in self.form.multi_items() if name not in FILES]
        options = [(name, value) for name, value in pairs if name in _KNOWN]
        if files := [name for name, value in options if isinstance(value, UploadFile)]:
            raise ProblemError("option-invalid", f"`{files[0][:100]}` is a file where a value was expected.")
        names = [name for name, _ in pairs]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ProblemError("option-invalid", f"`{repeated[0][:100]}` is given more than once.")
        unknown = {name: "" for name in names if name not in _KNOWN}  # all that counts is its name
        given = {name: value for name, value in options if value != ""}
        source, metadata = given.pop(SOURCE, None), given.pop(METADATA, None)
        return Upload(
            images=[await _image(value) for value in self.form.getlist(IMAGE)],
            mask=await self._file(MASK, "mask-invalid"),
            latents=await self._file(LATENTS, "latents-invalid"),
            source=None if source is None else read_source(str(source)),
            metadata=None if metadata is None else read_metadata(str(metadata)),
            fields=given | unknown,
            blank=tuple(name for name, value in options if value == ""),
            is_form=True,
        )

    async def _file(self, name: str, slug: str) -> bytes | None:
        """The bytes of a file that may be left out: its field is not there, or nothing was chosen in it."""
        files = [file for file in self.form.getlist(name) if not _is_unchosen(file)]
        if len(files) > 1:
            raise ProblemError("option-invalid", f"`{name}` is given more than once.")
        if not files:
            return None
        if not isinstance(files[0], UploadFile):
            raise ProblemError("option-invalid", f"`{name}` is text where a file was expected.")
        if not files[0].size:
            raise ProblemError(slug, f"The file in the field `{name}` is empty.")
        if name == LATENTS:
            check_size(files[0].size)
        return await files[0].read()


def _is_unchosen(value: UploadFile | str) -> bool:
    """Whether this is what a browser sends for a field of files that nobody used: neither a name nor a byte."""
    return value == "" if isinstance(value, str) else not value.filename and not value.size


async def _image(image: UploadFile | str) -> bytes:
    if not isinstance(image, UploadFile):
        raise ProblemError("image-missing", "The field `image` holds text, not a file.")
    if not image.size:
        raise ProblemError("image-missing", "The file in the field `image` is empty.")
    return await image.read()


# ---- JSON


@asynccontextmanager
async def _received_json(request: Request, max_bytes: int, batch: bool) -> AsyncGenerator[Body]:
    most = min(max_bytes, request.app.state.settings.max_json_bytes)
    more = f" in JSON, and {max_bytes:,} as a form" if most < max_bytes else ""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
        try:
            async with aclosing(counted(request, most, more)) as chunks:
                async for chunk in chunks:
                    await asyncio.to_thread(file.write, chunk) if len(chunk) > 65536 else file.write(chunk)
        except ClientDisconnect as error:
            raise ProblemError("json-invalid", "The connection ended before the body did.") from error
        yield _Json(file, batch)


class _Json:
    """A JSON object with data URLs."""

    def __init__(self, file: IO[bytes], batch: bool) -> None:
        self._file = file
        self._batch = batch

    async def load(self) -> Upload:
        return await asyncio.to_thread(self._load)

    def _load(self) -> Upload:
        self._file.seek(0)
        try:
            found = read_json(self._file.read(), JSON_LIMITS)
        except ValueError as error:
            raise ProblemError("json-invalid", f"{error}.") from error
        if not isinstance(found, dict):
            raise ProblemError("json-invalid", "It holds no object.")
        images = self._images(found)
        mask, latents = (None, None) if self._batch else (found.pop(MASK, None), found.pop(LATENTS, None))
        source, metadata = found.pop(SOURCE, None), found.pop(METADATA, None)
        return Upload(
            images=[data_url(name, image) for name, image in images],
            mask=None if mask is None else data_url(MASK, mask),
            latents=None if latents is None else _code(latents),
            source=None if source is None else check_source(source),
            metadata=None if metadata is None else check_metadata(metadata),
            fields={name: _option(name, value) for name, value in found.items()},
            is_form=False,
        )

    def _images(self, found: dict[str, Any]) -> list[tuple[str, Any]]:
        """Each image with the name it goes by; takes them out of `found`."""
        if not self._batch:
            return [(IMAGE, found.pop(IMAGE))] if IMAGE in found else []
        images = found.pop(IMAGES, [])
        if not isinstance(images, list):
            raise ProblemError("image-missing", "`images` is no list.")
        return [(f"{IMAGES}[{index}]", image) for index, image in enumerate(images)]


def _code(latents: Any) -> bytes | Code:
    return data_url(LATENTS, latents) if isinstance(latents, str) else read_code(latents)


def _option(name: str, value: Any) -> Any:
    """The value of an option; of a name that is none, all that counts is the name. Raises: ProblemError."""
    if name not in JobOptions.model_fields:
        return None
    if _size(value) > _MAX_LIST:
        raise ProblemError("option-invalid", f"`{name}`: holds more than any option does.")
    return value


def _size(value: Any) -> int:
    """How many values there are in a list, and in the lists in it. No option is an object, nor holds one."""
    if isinstance(value, dict):
        return _MAX_LIST + 1
    return sum(1 + _size(each) for each in value) if isinstance(value, list) else 0


def data_url(name: str, url: Any) -> bytes:
    """The bytes of a data URL in base64 (RFC 2397). Raises: ProblemError."""
    if not isinstance(url, str):
        raise ProblemError("data-url-invalid", f"`{name}` is no text.")
    head, comma, _ = url[:_MAX_DATA_HEADER].partition(",")
    if not head.lower().startswith("data:") or not comma:
        raise ProblemError("data-url-invalid", f"`{name}` does not begin as a data URL.")
    if not head.lower().endswith(";base64"):
        raise ProblemError("data-url-invalid", f"`{name}` is not in base64.")
    try:
        data = base64.b64decode(url[len(head) + 1 :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProblemError("data-url-invalid", f"`{name}` holds text that is not base64.") from error
    if not data:
        raise ProblemError("data-url-invalid", f"`{name}` is empty.")
    return data
