"""What interpolations are asked for, and the order that a worker gets."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from inversion_app import examples, renders
from inversion_app.deps import find_record
from inversion_app.errors import ProblemError
from inversion_app.rendered import InversionSource, LatentsSource, SeedSource, Source
from inversion_app.renders import Plan, Wanted
from inversion_app.settings import AppSettings
from inversion_worker.client import JobClient
from inversion_worker.contract import (
    MAX_FILM_SIDE,
    MAX_FRAMES,
    MIN_SIDE,
    EditList,
    FilmFormat,
    FilmOrder,
    Message,
    PackInfo,
    RenderOrder,
    Way,
)

_SOURCES = ("inversion", "latents", "seed")


def _target_kind(value: Any) -> str | None:
    if isinstance(value, list):
        return "edits"
    there = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return next((name for name in _SOURCES if name in there), None)


Target = Annotated[
    Annotated[InversionSource, Tag("inversion")]
    | Annotated[LatentsSource, Tag("latents")]
    | Annotated[SeedSource, Tag("seed")]
    | Annotated[EditList, Tag("edits")],
    Discriminator(
        _target_kind,
        custom_error_type="target_unknown",
        custom_error_message="must be an edit list, or name a code: one of `inversion`, `latents`, `seed`",
    ),
]


class InterpolationRequest(Message):
    """What to film."""

    from_: Source = Field(alias="from", description="Where it begins: an inversion, a code, or a random face.")
    to: Target = Field(
        description="Where it ends: another such code of the same pack, or a list of edits of the code in `from`.",
        examples=[{"seed": 8}, [{"direction": "smile", "strength": 1.5}]],
    )
    frames: int = Field(25, ge=2, le=MAX_FRAMES, description="Number of frames, the first and the last among them.")
    kind: Way = Field(
        Way.LINEAR,
        description="linear, or spherical about the average face, which keeps the middle from getting average. Edits "
        "change their strength linearly.",
    )
    format: FilmFormat = Field(
        FilmFormat.WEBP, description="webp and gif repeat for ever; mp4 if the worker has the extra `film`."
    )
    side: int | None = Field(
        None, ge=MIN_SIDE, le=MAX_FILM_SIDE, description="Side in pixels. Default: the pack's.", examples=[256]
    )
    fps: float = Field(25, ge=1, le=60, allow_inf_nan=False, description="Frames a second.")
    there_and_back: bool = Field(False, description="End with the same frames in reverse, so that it repeats smoothly.")


async def ordered(client: JobClient, settings: AppSettings, tenant: str, asked: InterpolationRequest) -> FilmOrder:
    """The order for a worker. Raises: ProblemError, NobodyAnswers."""
    packs = [pack for worker in await client.workers() for pack in worker.packs]
    edits = asked.to if isinstance(asked.to, list) else []
    first = await _plan(client, settings, tenant, asked.from_, Wanted(edits=edits, side=asked.side), packs, None)
    last: Plan | None = None
    if not isinstance(asked.to, list):
        last = await _plan(client, settings, tenant, asked.to, Wanted(), packs, first.order)
        ends = [order.digest or order.pack for order in (first.order, last.order)]
        if ends[0] != ends[1]:
            told = f"it is of pack {last.order.pack}, and `from` of {first.order.pack}"
            raise ProblemError("option-invalid", f"`to`: {told}.")
    return FilmOrder(
        first=first.order,
        last=None if last is None else last.order,
        frames=asked.frames,
        way=asked.kind,
        format=asked.format,
        fps=asked.fps,
        there_and_back=asked.there_and_back,
    )


async def _plan(
    client: JobClient,
    settings: AppSettings,
    tenant: str,
    source: InversionSource | LatentsSource | SeedSource,
    wanted: Wanted,
    packs: list[PackInfo],
    other: RenderOrder | None,
) -> Plan:
    """One end. A code that names no pack is of the other end's. Raises: ProblemError, NobodyAnswers."""
    if isinstance(source, InversionSource):
        record = await find_record(client, tenant, source.inversion)
        return await renders.of_inversion(client, settings, record, wanted)
    name = source.pack if source.pack is not None or other is None else other.pack
    if isinstance(source, SeedSource):
        return await renders.of_seed(client, tenant, renders.pack_for(packs, name), source.seed, wanted)
    code = renders.code_of(source.latents)
    plan = await renders.of_code(client, tenant, renders.pack_for(packs, name, code), code, wanted)
    return Plan(order=plan.order.model_copy(update={"source": {"code": renders.in_base64(plan.sent)}}))


EXAMPLE = {"from": {"inversion": examples.ID}, "to": {"seed": 8}, "frames": 25, "kind": "spherical", "side": 256}
