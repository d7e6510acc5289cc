"""`source`: an inversion that a new one goes on from, with its photo, its crop and its best code so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from inversion_app.codes import Code
from inversion_app.deps import ID_PATTERN, require
from inversion_app.errors import ProblemError
from inversion_app.settings import AppSettings
from inversion_app.strict_json import Limits, read_json
from inversion_worker.client import Code as StoredCode
from inversion_worker.client import JobClient, Stored
from inversion_worker.contract import ArtifactKey, JobOptions, JobRecord, JobStatus, StartKind

_LIMITS = Limits(values=4, texts=4, depth=2)
_CROP = ("align", "face", "quad")
"""Options that say together which part of the photo is inverted."""


def read_source(text: str) -> str:
    """The id in a `source` of a form. Raises: ProblemError `option-invalid`."""
    try:
        return check_source(read_json(text.encode(), _LIMITS))
    except ValueError as error:
        raise _invalid() from error


def check_source(value: Any) -> str:
    """The id in a `source` of a JSON body. Raises: ProblemError `option-invalid`."""
    if not isinstance(value, dict) or value.keys() != {"inversion"}:
        raise _invalid()
    found = value["inversion"]
    if not isinstance(found, str) or not ID_PATTERN.fullmatch(found):
        raise _invalid()
    return found


def _invalid() -> ProblemError:
    return ProblemError("option-invalid", '`source`: it is not {"inversion": ID}, with the id of an inversion.')


async def best_code(client: JobClient, record: JobRecord) -> StoredCode | None:
    """The code of an inversion, the best so far of one that has not succeeded; None where it has none."""
    if record.status is JobStatus.SUCCEEDED:
        return await client.code(record.id)
    found = await client.found(record.id) if record.result_step is not None else None
    return None if found is None else StoredCode(w_LD=found.code, detail_CHW=found.detail)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """An inversion of the same tenant, to go on from."""

    record: JobRecord
    client: JobClient
    settings: AppSettings

    @classmethod
    async def find(cls, client: JobClient, tenant: str, settings: AppSettings, inversion_id: str) -> Origin:
        """Raises: ProblemError, as for an inversion in the path."""
        record = await require(client, tenant, inversion_id, await client.get(inversion_id))
        return cls(record=record, client=client, settings=settings)

    @property
    def photo(self) -> Stored:
        return Stored(ArtifactKey.photo(self.record.id))

    @property
    def mask(self) -> Stored | None:
        return Stored(ArtifactKey.mask(self.record.id)) if self.record.masked else None

    @property
    def face(self) -> Stored | None:
        """Of a diffusion: the photo of the face."""
        return Stored(ArtifactKey.face(self.record.id)) if self.record.diffusion is not None else None

    def completed(self, options: JobOptions, chosen: Iterable[str]) -> JobOptions:
        """The options, with this inversion's pack and crop where the request has `chosen` none."""
        names = {*chosen}
        kept: dict[str, Any] = {}
        if "pack" not in names:
            kept["pack"] = self.record.pack_name or self.record.options.pack
        if not names.intersection(_CROP):
            kept |= {name: getattr(self.record.options, name) for name in _CROP}
        return options.model_copy(update=kept)

    async def code(self, options: JobOptions) -> Code | None:
        """The best code so far; None where another start is chosen. Raises: ProblemError where there is none."""
        if options.start not in (None, StartKind.LATENTS):
            return None
        record = self.record
        digest, pack = record.pack_digest, record.pack_name
        if (found := await best_code(self.client, record)) is not None:
            return Code(
                w_LD=found.w_LD,
                detail_CHW=found.detail_CHW,
                pack=None if digest else pack,
                version=record.pack_version,
                digest=digest,
            )
        state = f"The inversion {record.id} is {record.status.value} and has no code."
        told = f"{state} To take its photo alone, name a `start`."
        if record.status.is_final:
            raise ProblemError("result-not-available", told)
        raise ProblemError("result-not-ready", told, {"Retry-After": str(self.settings.retry_after_s)})

    async def read_photo(self) -> bytes:
        """Raises: ProblemError where it has gone meanwhile."""
        if (data := await self.client.read(self.photo.key)) is None:
            raise ProblemError("inversion-not-found", "It went while its photo was read.")
        return data
