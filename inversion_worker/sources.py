"""Codes to render, out of the artifact store or as they came with a question. No Torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inversion_worker.code import Code
from inversion_worker.contract import ArtifactKey
from inversion_worker.found import Found

Read = Callable[[str], bytes | None]
"""The bytes of an artifact by its key."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceCode(Code):
    """What is rendered. As a question or a reply carries it, it is the bytes of a Code."""

    step: int | None = None
    """The step that it is of, where it may change still."""


def stored_code(read: Read, job_id: str, *, ended: bool) -> SourceCode | None:
    """The code of an inversion: the result of one that has succeeded, the best so far of any other."""
    if ended:
        if (whole := read(ArtifactKey.latent(job_id))) is not None:
            return SourceCode.from_bytes(whole)
        data = read(ArtifactKey.latents(job_id))
        return None if data is None else SourceCode.from_npy(data)
    data = read(ArtifactKey.best(job_id))
    if data is None:
        return None
    found = Found.from_bytes(data)
    return SourceCode(w_LD=found.code, detail_CHW=found.detail, step=found.step)
