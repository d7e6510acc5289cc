"""From a request to a render: whose codes, which edits, which pack; its ETag; and a worker that does it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio import CapacityLimiter
from fastapi import Request

from inversion_app.bodies import data_url
from inversion_app.codes import Code, read_code
from inversion_app.errors import ProblemError
from inversion_app.settings import AppSettings
from inversion_worker.client import JobClient, NobodyAnswers, SourceCode, Turn
from inversion_worker.contract import (
    MAX_EDITS,
    MAX_FACE_SIDE,
    MAX_STRENGTH,
    RENDERER,
    ArtifactKey,
    FilmOrder,
    InversionCode,
    JobRecord,
    JobStatus,
    MixEdit,
    MoveEdit,
    PackInfo,
    PasteMode,
    PictureFormat,
    RenderAs,
    Rendered,
    RenderOrder,
    RowsCode,
    TruncateEdit,
    plain,
)

EditModel = MoveEdit | MixEdit | TruncateEdit
FORMATS = {
    RenderAs.FACE: (PictureFormat.PNG, PictureFormat.WEBP, PictureFormat.JPEG),
    RenderAs.PHOTO: (PictureFormat.JPEG, PictureFormat.WEBP, PictureFormat.PNG),
    RenderAs.PATCH: (PictureFormat.PNG, PictureFormat.WEBP),
}
"""Of each kind of picture, the default first."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be made of a code."""

    edits: Sequence[EditModel] = ()
    kind: RenderAs = RenderAs.FACE
    format: PictureFormat | None = None
    side: int | None = None
    paste: PasteMode = PasteMode.DIFFERENCE

    def check(self) -> None:
        """Raise ProblemError for what no worker could do."""
        if self.kind is RenderAs.FACE and (self.side or 0) > MAX_FACE_SIDE:
            raise _invalid(f"`side` of a face is at most {MAX_FACE_SIDE}.")
        if self.kind is RenderAs.PATCH and self.paste is not PasteMode.DIFFERENCE:
            raise _invalid("`paste`: a patch holds the difference.")
        if self.format is not None and self.kind is not RenderAs.LATENTS and self.format not in FORMATS[self.kind]:
            offered = ", ".join(format.value for format in FORMATS[self.kind])
            raise _invalid(f"`format`: a {self.kind.value} cannot be {self.format.value}. Offered: {offered}.")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A render whose codes are known to be there, and the caller's."""

    order: RenderOrder
    sent: bytes = b""
    record: JobRecord | None = None
    """The inversion whose code it is."""
    facts: Sequence[Any] = field(default_factory=tuple)
    """What else the picture depends on."""

    def etag(self, step: int | None) -> str:
        """Strong: the same bytes always. `step` is that of the source's code."""
        order = self.order.model_dump(mode="json", exclude={"ended"})
        text = json.dumps([RENDERER, order, list(self.facts), step], sort_keys=True)
        return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'

    @property
    def step(self) -> int | None:
        """The step of the source's code, as far as the record says."""
        return self.record.result_step if self.record is not None else None


# ---- edits in an address


def query_edit(text: str) -> EditModel:
    """`smile:1.5` or `truncate:0.7`. Raises: ProblemError."""
    name, colon, amount = text.rpartition(":")
    name = name.strip()
    try:
        number = float(amount)
    except ValueError:
        number = math.nan
    if not colon or not 0 < len(name) <= 64 or not math.isfinite(number):
        raise _invalid(f"`edit`: {text[:60]!r} is none: write a direction and a strength, such as smile:1.5.")
    if name == "truncate":
        if abs(number) > 2:
            raise _invalid("`edit`: truncate takes -2 to 2.")
        return TruncateEdit(truncate=number)
    if abs(number) > MAX_STRENGTH:
        raise _invalid(f"`edit`: the strength of {name[:64]} is at most {MAX_STRENGTH:g}, either way.")
    return MoveEdit(direction=name, strength=number)


def check_number(edits: Iterable[object]) -> None:
    """Raise ProblemError for more edits than one list has."""
    if sum(1 for _ in edits) > MAX_EDITS:
        raise _invalid(f"There are more than {MAX_EDITS} edits.")


# ---- plans


async def of_inversion(client: JobClient, settings: AppSettings, record: JobRecord, wanted: Wanted) -> Plan:
    """A render of an inversion's code, the best so far while it runs. Raises: ProblemError."""
    wanted.check()
    check_has_code(record, settings)
    assert record.pack_name is not None, "an inversion that has found something has a pack"
    edits, named = await _edits(client, wanted.edits, record.tenant, record.pack_name, record.pack_digest or "")
    quad = record.face.quad if record.face is not None and record.face.quad is not None else None
    in_photo = wanted.kind in (RenderAs.PHOTO, RenderAs.PATCH)
    order = RenderOrder(
        pack=record.pack_name,
        digest=record.pack_digest or "",
        source={"inversion": record.id},
        edits=edits,
        directions=await _own_steps(client, wanted.edits, record.tenant, record.pack_name, record.pack_digest or ""),
        ended={each.id: _has_succeeded(each) for each in (record, *named)},
        quad=tuple(quad) if in_photo and quad is not None else None,
        **_options(wanted),
    )
    return Plan(order=order, record=record, facts=[record.pack_version, *map(_version, named)])


async def of_code(client: JobClient, tenant: str, pack: PackInfo, code: Code, wanted: Wanted) -> Plan:
    """A render of a code that came with the request. Raises: ProblemError."""
    _check_no_photo(wanted)
    if code.w_LD.shape != (pack.layers, pack.w_dim):
        raise ProblemError(
            "latents-invalid", f"Its shape is {code.w_LD.shape}, and pack {pack.name} has {(pack.layers, pack.w_dim)}."
        )
    sent = SourceCode(w_LD=code.w_LD, detail_CHW=code.detail_CHW).to_bytes()
    return await _without_inversion(client, tenant, pack, {"sent": True}, wanted, sent)


async def of_seed(client: JobClient, tenant: str, pack: PackInfo, seed: int, wanted: Wanted) -> Plan:
    """A render of a random code. Raises: ProblemError."""
    _check_no_photo(wanted)
    return await _without_inversion(client, tenant, pack, {"seed": seed}, wanted, b"")


async def _without_inversion(
    client: JobClient, tenant: str, pack: PackInfo, source: Mapping[str, Any], wanted: Wanted, sent: bytes
) -> Plan:
    wanted.check()
    edits, named = await _edits(client, wanted.edits, tenant, pack.name, pack.digest)
    order = RenderOrder(
        pack=pack.name,
        digest=pack.digest,
        source=source,
        edits=edits,
        directions=await _own_steps(client, wanted.edits, tenant, pack.name, pack.digest),
        ended={each.id: _has_succeeded(each) for each in named},
        **_options(wanted),
    )
    return Plan(order=order, sent=sent)


def _options(wanted: Wanted) -> dict[str, Any]:
    offered = FORMATS.get(wanted.kind, (PictureFormat.PNG,))
    return {"kind": wanted.kind, "format": wanted.format or offered[0], "side": wanted.side, "paste": wanted.paste}


def _check_no_photo(wanted: Wanted) -> None:
    if wanted.kind in (RenderAs.PHOTO, RenderAs.PATCH):
        raise _invalid(f"`as`: only an inversion has a photo; {wanted.kind.value} needs a source of that kind.")


def check_has_code(record: JobRecord, settings: AppSettings) -> None:
    """Raise ProblemError where an inversion has no code, yet or ever."""
    if record.status is JobStatus.SUCCEEDED or record.result_step is not None:
        return
    if not record.status.is_final:
        wait = {"Retry-After": str(settings.retry_after_s)}
        raise ProblemError("result-not-ready", f"The inversion {record.id} is {record.status.value}.", wait)
    raise ProblemError("result-not-available", f"The inversion {record.id} is {record.status.value}.")


def _has_succeeded(record: JobRecord) -> bool:
    return record.status is JobStatus.SUCCEEDED


def _version(record: JobRecord) -> list[Any]:
    return [record.id, record.result_step, _has_succeeded(record)]


async def _edits(
    client: JobClient, edits: Sequence[EditModel], tenant: str, pack: str, digest: str
) -> tuple[list[dict[str, Any]], list[JobRecord]]:
    """The edits as a worker takes them, and the inversions that they name. Raises: ProblemError."""
    ids = {edit.mix.inversion for edit in edits if isinstance(edit, MixEdit) and isinstance(edit.mix, InversionCode)}
    found = await client.records_of(sorted(ids)) if ids else []
    for job_id, record in zip(sorted(ids), found, strict=True):
        if record is None or record.tenant != tenant:
            raise _invalid(f"`mix`: there is no inversion {job_id}.")
        if record.status is not JobStatus.SUCCEEDED and record.result_step is None:
            raise ProblemError(
                "option-invalid", f"`mix`: the inversion {job_id} has no code; it is {record.status.value}."
            )
        if (record.pack_digest or record.pack_name) != (digest or pack):
            raise ProblemError(
                "option-invalid",
                f"`mix`: the inversion {job_id} is of pack {record.pack_name}, and this one of {pack}.",
            )
    return plain_edits(edits), [record for record in found if record is not None]


async def _own_steps(
    client: JobClient, edits: Sequence[EditModel], tenant: str, pack: str, digest: str
) -> dict[str, str]:
    """Where the steps of those of the tenant's own directions lie that edits name."""
    moves = [edit for edit in edits if isinstance(edit, MoveEdit)]
    names = {name for move in moves for name in (move.direction, *(move.hold or ()))}
    own = await client.directions(tenant) if names else []
    return {
        each.name: ArtifactKey.direction(each.id)
        for each in own
        if each.name in names and (each.digest or each.pack) == (digest or pack)
    }


def plain_edits(edits: Sequence[EditModel]) -> list[dict[str, Any]]:
    """As the library takes them. Raises: ProblemError for a code in them that is none."""
    return [_plain(edit) for edit in edits]


def _plain(edit: EditModel) -> dict[str, Any]:
    """As the library takes it; a code in it as its rows."""
    if isinstance(edit, MixEdit) and isinstance(edit.mix, RowsCode):
        code = code_of(edit.mix.latents)
        return plain(edit) | {"mix": {"latents": code.w_LD.tolist()}}
    return plain(edit)


def code_of(given: Any) -> Code:
    """A code in a JSON body: its rows, what `links.latents` answers, or a data URL. Raises: ProblemError."""
    return read_code(data_url("latents", given) if isinstance(given, str) else given)


def pack_for(packs: Sequence[PackInfo], name: str | None, code: Code | None = None) -> PackInfo:
    """The pack of a code, or of a seed, among those that workers offer. Raises: ProblemError, NobodyAnswers."""
    if not packs:
        raise NobodyAnswers("No worker is alive.")
    digest = code.digest if code is not None else None
    wanted = name or (code.pack if code is not None else None)
    if digest and name is None and (alike := [pack for pack in packs if pack.digest == digest]):
        return alike[0]
    if wanted is None:
        return next((pack for pack in packs if pack.default), packs[0])
    found = [pack for pack in packs if pack.name == wanted]
    if not found:
        names = ", ".join(sorted({pack.name for pack in packs}))
        raise ProblemError("pack-not-found", f"`{wanted[:100]}` is not among the packs: {names}.")
    if digest and all(pack.digest and pack.digest != digest for pack in found):
        raise ProblemError("latents-invalid", f"It is of other weights of pack {wanted[:100]} than those at work.")
    return found[0]


# ---- doing it


async def begun(client: JobClient, tenant: str, session: str | None) -> Turn | None:
    """The newest turn of a session, if the request names one."""
    return await client.begin_session(tenant, session) if session is not None else None


async def rendered(
    request: Request, client: JobClient, settings: AppSettings, tenant: str, plan: Plan, turn: Turn | None
) -> tuple[Rendered, bytes]:
    """What a worker makes of a plan. Raises: ProblemError, NobodyAnswers, JobRefused."""
    async with _slot(request, client, settings.render_timeout_s, plan.order) as left_s:
        return await client.render(plan.order, plan.sent, left_s, tenant=tenant, turn=turn)


async def filmed(request: Request, client: JobClient, settings: AppSettings, tenant: str, order: FilmOrder) -> bytes:
    """The film that a worker makes. Raises: as `rendered`."""
    async with _slot(request, client, settings.film_timeout_s, order.first) as left_s:
        return (await client.film(order, left_s, tenant=tenant))[1]


@asynccontextmanager
async def _slot(request: Request, client: JobClient, timeout_s: float, order: RenderOrder) -> AsyncGenerator[float]:
    """One of the renders that may be under way at once; yields how many seconds are left for it."""
    slots: CapacityLimiter = request.app.state.render_slots
    until_s = time.monotonic() + timeout_s
    with anyio.move_on_after(timeout_s) as waited:
        await slots.acquire_on_behalf_of(request)
    if waited.cancelled_caught:
        raise NobodyAnswers("Too many renders wait.")
    try:
        yield max(1.0, until_s - time.monotonic())
    except NobodyAnswers:
        await _check_pack_is_loaded(client, order)
        raise
    finally:
        slots.release_on_behalf_of(request)


async def _check_pack_is_loaded(client: JobClient, order: RenderOrder) -> None:
    """Raise ProblemError where workers are alive, and none has the generator."""
    packs = [pack for worker in await client.workers() for pack in worker.packs]
    if not packs or any((pack.digest or pack.name) == (order.digest or order.pack) for pack in packs):
        return
    names = ", ".join(sorted({pack.name for pack in packs}))
    same = " of this name has other weights" if order.pack in names.split(", ") else f" is named {order.pack}"
    raise ProblemError("pack-not-loaded", f"No pack at work{same}; there are: {names}.", {"Retry-After": "5"})


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _invalid(detail: str) -> ProblemError:
    return ProblemError("option-invalid", detail)
