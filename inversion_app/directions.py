"""Editing directions as the API shows them and takes them: those of a pack, and a tenant's own.

Suffixes: L style layer, D latent width.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Self
from urllib.parse import quote

import numpy as np
from pydantic import Field, model_validator

from inversion_app import examples
from inversion_app.bodies import data_url
from inversion_app.codes import Code, Floats, read_code, to_npy
from inversion_app.deps import ID_PATTERN
from inversion_app.errors import ProblemError
from inversion_app.origins import best_code
from inversion_app.schemas import Answer, shown
from inversion_worker.client import JobClient
from inversion_worker.contract import (
    DIRECTION_NAME,
    DirectionInfo,
    DirectionRecord,
    Message,
    PackInfo,
)

MAX_SIDE_INVERSIONS = 100
"""Most inversions in one of the two lists of a direction."""
MAX_RANGE = 100.0
"""Largest strength that a range may name, either way."""
MIN_TTL_S, MAX_TTL_S = 60, 366 * 24 * 3600
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_Ids = Annotated[
    list[Annotated[str, Field(pattern=f"^{ID_PATTERN.pattern}$")]],
    Field(min_length=1, max_length=MAX_SIDE_INVERSIONS),
]


class DirectionLinks(Answer):
    """Links of a direction, relative to this host."""

    self: str = Field(description="The direction itself.")
    strip: str = Field(description="What it does to a face, as a row of pictures.")


class PackDirection(Answer):
    """An editing direction."""

    model_config = shown(examples.DIRECTION)

    name: str = Field(description="What edits call it.")
    label: str = Field(description="What a positive strength does.")
    low: float = Field(description="Lowest strength at which pictures stay plausible.")
    high: float = Field(description="Highest strength at which pictures stay plausible.")
    unit: str = Field(description="What a strength of 1 is.")
    source: str = Field(description="What it was made of, and how.")
    held_out_r2: float | None = Field(
        None,
        description="R^2 of the linear model of its attribute on pictures that it has not seen; null if it was not "
        "measured.",
    )
    side_effects: dict[str, float] = Field(
        default_factory=dict,
        description="What a strength of 1 does to the attributes of other directions, in their units; only what was "
        "measured on pictures.",
    )
    own: bool = Field(description="Whether it is yours; otherwise it belongs to the pack.")
    created_at: datetime | None = Field(None, description="Of one of yours: when it was made.")
    expires_at: datetime | None = Field(None, description="Of one of yours: when it will be deleted.")
    links: DirectionLinks = Field(description="Where it is, and what it looks like.")

    @classmethod
    def of_pack(cls, pack: str, info: DirectionInfo) -> PackDirection:
        """The public view of one that belongs to the pack."""
        return cls(**info.model_dump(), own=False, links=_links(pack, info.name))

    @classmethod
    def of_record(cls, pack: str, record: DirectionRecord) -> PackDirection:
        """The public view of a tenant's own."""
        same = record.model_dump(exclude={"id", "tenant", "pack", "digest"})
        return cls(**same, own=True, links=_links(pack, record.name))


class PackDirections(Answer):
    """The editing directions of a pack, and your own for it."""

    model_config = shown(examples.DIRECTIONS)

    pack: str = Field(description="Name of the pack.")
    directions: list[PackDirection] = Field(description="Those of the pack, then your own, oldest first.")


class DirectionToMake(Message):
    """A direction of your own: a step that you send, or the difference between two lists of inversions."""

    name: str = Field(pattern=f"^{DIRECTION_NAME}$", description="What edits will call it.", examples=["smirk"])
    label: str | None = Field(
        None, min_length=1, max_length=100, description="What a positive strength does. Default: the name."
    )
    direction: Any = Field(
        None,
        description="What a strength of 1 adds to a code: (layers, dimensions), or one row for all layers. In JSON its "
        "rows, or a data URL of an npy or safetensors file.",
    )
    plus: _Ids | None = Field(
        None,
        description=f"Ids of 1 to {MAX_SIDE_INVERSIONS} inversions of yours that show what a positive strength does. "
        "The direction is the mean of their codes less the mean of those in `minus`.",
    )
    minus: _Ids | None = Field(None, description="Ids of inversions that show the opposite.")
    unit: str | None = Field(
        None, min_length=1, max_length=200, description="What a strength of 1 is. Default: how it was made."
    )
    low: float | None = Field(
        None, ge=-MAX_RANGE, le=0, allow_inf_nan=False,
        description="Lowest strength that you find plausible. Default: -3, or -1 of two lists.",
    )  # fmt: skip
    high: float | None = Field(
        None, ge=0, le=MAX_RANGE, allow_inf_nan=False,
        description="Highest strength that you find plausible. Default: 3, or 1 of two lists.",
    )  # fmt: skip
    ttl: int | None = Field(
        None,
        ge=MIN_TTL_S,
        le=MAX_TTL_S,
        description="Seconds to keep it. Default: that of the service, 90 days.",
        examples=[86400],
    )

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        lists = (self.plus, self.minus)
        if (self.direction is None) == (lists == (None, None)) or None in lists != (None, None):
            raise ValueError("needs either `direction`, or both `plus` and `minus`")
        return self


@dataclass(frozen=True, kw_only=True)
class Known:
    """The directions that a tenant can use with a pack."""

    tenant: str
    name: str
    """Of the pack."""
    pack: PackInfo | None
    """None while no worker offers it: then its own directions are not known."""
    own: Sequence[DirectionRecord]

    @classmethod
    async def of(cls, client: JobClient, tenant: str, name: str) -> Known:
        """Raises: ProblemError `no-such-pack`."""
        packs = [pack for worker in await client.workers() for pack in worker.packs if pack.name == name]
        pack = max(packs, key=lambda each: each.version, default=None)
        own = [each for each in await client.directions(tenant) if _belongs(each, name, pack)]
        if pack is None and not own:
            raise ProblemError("no-such-pack", f"No running worker offers {name[:64]!r}.")
        return cls(tenant=tenant, name=name, pack=pack, own=own)

    def answers(self) -> PackDirections:
        """The public view of all of them. One's own goes before the pack's of the same name."""
        mine = {each.name for each in self.own}
        packs = self.pack.directions if self.pack is not None else []
        found = [PackDirection.of_pack(self.name, each) for each in packs if each.name not in mine]
        return PackDirections(
            pack=self.name, directions=[*found, *(PackDirection.of_record(self.name, each) for each in self.own)]
        )

    def find(self, direction: str) -> DirectionInfo | DirectionRecord:
        """Raises: ProblemError `direction-not-found`."""
        if (mine := self.find_own(direction)) is not None:
            return mine
        packs = self.pack.directions if self.pack is not None else []
        for info in packs:
            if info.name == direction:
                return info
        names = ", ".join([*(each.name for each in packs), *(each.name for each in self.own)]) or "none"
        raise ProblemError("direction-not-found", f"Pack {self.name} has {names}.")

    def find_own(self, direction: str) -> DirectionRecord | None:
        return next((each for each in self.own if each.name == direction), None)

    def required_pack(self) -> PackInfo:
        """Raises: ProblemError `no-such-pack` while no worker offers it."""
        if self.pack is None:
            raise ProblemError("no-such-pack", f"No running worker offers {self.name[:64]!r}.")
        return self.pack


def _belongs(record: DirectionRecord, name: str, pack: PackInfo | None) -> bool:
    """Whether a direction is for these weights, whatever the packs are called."""
    if pack is None:
        return record.pack == name
    return (record.digest or record.pack) == (pack.digest or pack.name)


def public(pack: str, found: DirectionInfo | DirectionRecord) -> PackDirection:
    """The public view of either kind."""
    if isinstance(found, DirectionRecord):
        return PackDirection.of_record(pack, found)
    return PackDirection.of_pack(pack, found)


# ---- making one


async def made(client: JobClient, known: Known, wanted: DirectionToMake) -> tuple[DirectionRecord, bytes]:
    """A direction that is not kept yet, and its step as npy. Raises: ProblemError."""
    pack = known.required_pack()
    if wanted.name in {*(each.name for each in pack.directions), *(each.name for each in known.own)}:
        raise ProblemError("direction-exists", f"Pack {pack.name} has {wanted.name!r} already.")
    if wanted.direction is not None:
        step_LD = await asyncio.to_thread(_sent, wanted.direction, pack)
        how, unit, reach = "sent by its owner", "the length of the step that was sent", 3.0
    else:
        assert wanted.plus is not None, "the model has seen to that"
        assert wanted.minus is not None, "the model has seen to that"
        step_LD = await _mean(client, known, pack, "plus", wanted.plus)
        step_LD = step_LD - await _mean(client, known, pack, "minus", wanted.minus)
        counts = len(set(wanted.plus)), len(set(wanted.minus))
        how, reach = f"{counts[0]} inversions less {counts[1]}", 1.0
        unit = f"the difference between the means of {counts[0]} and {counts[1]} inversions"
    step_LD = step_LD.astype(np.float32)
    if not step_LD.any():
        raise ProblemError("direction-invalid", "It is zero everywhere, so it would change nothing.")
    low, high = (-reach if wanted.low is None else wanted.low), (reach if wanted.high is None else wanted.high)
    if low == high:
        raise ProblemError("option-invalid", "`low`: and `high` are both 0; a range holds more than that.")
    record = DirectionRecord(
        id=uuid.uuid4().hex,
        tenant=known.tenant,
        pack=pack.name,
        digest=pack.digest,
        name=wanted.name,
        label=wanted.label or wanted.name,
        low=low,
        high=high,
        unit=wanted.unit or unit,
        source=how,
        created_at=_NO_TIME,
        expires_at=_NO_TIME,
    )
    return record, to_npy(step_LD)


def _sent(given: Any, pack: PackInfo) -> Floats:
    """Raises: ProblemError `direction-invalid`."""
    try:
        code = read_code(data_url("direction", given) if isinstance(given, str) else given)
    except ProblemError as error:
        raise ProblemError("direction-invalid", error.said) from error
    _check_weights(code, pack)
    shape = (pack.layers, pack.w_dim)
    if code.w_LD.shape not in (shape, (1, pack.w_dim)):
        raise ProblemError("direction-invalid", f"Its shape is {code.w_LD.shape}, and pack {pack.name} has {shape}.")
    return np.broadcast_to(code.w_LD, shape)


def _check_weights(code: Code, pack: PackInfo) -> None:
    if code.digest and pack.digest and code.digest != pack.digest:
        raise ProblemError("direction-invalid", f"It is of other weights than pack {pack.name}.")
    if not code.digest and code.pack is not None and code.pack != pack.name:
        raise ProblemError("direction-invalid", f"It is of pack {code.pack[:64]!r}, not of {pack.name}.")


async def _mean(client: JobClient, known: Known, pack: PackInfo, field: str, ids: Sequence[str]) -> Any:
    """The mean code of some inversions, in double precision. Raises: ProblemError `direction-invalid`."""
    unique = list(dict.fromkeys(ids))
    total_LD = np.zeros((pack.layers, pack.w_dim))
    for job_id, record in zip(unique, await client.records_of(unique), strict=True):
        if record is None or record.tenant != known.tenant:
            raise ProblemError("direction-invalid", f"`{field}`: there is no inversion {job_id}.")
        if (record.pack_digest or record.pack_name) not in (None, pack.digest or pack.name):
            raise ProblemError(
                "direction-invalid",
                f"`{field}`: the inversion {job_id} is of pack {record.pack_name}, not {pack.name}.",
            )
        code = await best_code(client, record)
        if code is None:
            raise ProblemError(
                "direction-invalid", f"`{field}`: the inversion {job_id} has no code; it is {record.status.value}."
            )
        total_LD += code.w_LD
    return total_LD / len(unique)


def address(pack: str) -> str:
    """Where the directions of a pack live."""
    return f"/v1/packs/{quote(pack, safe='')}/directions"


def _links(pack: str, name: str) -> DirectionLinks:
    own = f"{address(pack)}/{name}"
    return DirectionLinks(self=own, strip=f"{own}/strip")
