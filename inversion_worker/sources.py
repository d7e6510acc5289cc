"""Codes to render, out of the artifact store or as they came with a question. No Torch.

Suffixes: L style layer, D latent width, C channel, H W height and width.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from inversion_worker.contract import ArtifactKey
from inversion_worker.found import Found

Read = Callable[[str], bytes | None]
"""The bytes of an artifact by its key."""


@dataclass(frozen=True, kw_only=True)
class SourceCode:
    """What is rendered."""

    w_LD: NDArray[np.float32]
    detail_CHW: NDArray[np.float32] | None = None
    step: int | None = None
    """The step that it is of, where it may change still."""

    def to_bytes(self) -> bytes:
        """As a question or a reply carries it: safetensors, `w_plus` and, where there is any, `detail`."""
        tensors = {"w_plus": np.ascontiguousarray(self.w_LD, np.float32)}
        if self.detail_CHW is not None:
            tensors["detail"] = np.ascontiguousarray(self.detail_CHW, np.float32)
        return save(tensors)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises: ValueError for anything else."""
        try:
            tensors = load(data)
            w_LD, detail = tensors["w_plus"], tensors.get("detail")
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"not a code: {error}") from error
        detail_CHW = None if detail is None else detail.astype(np.float32)
        return cls(w_LD=w_LD.astype(np.float32), detail_CHW=detail_CHW)


def stored_code(read: Read, job_id: str, *, ended: bool) -> SourceCode | None:
    """The code of an inversion: the result of one that has succeeded, the best so far of any other."""
    if ended:
        data = read(ArtifactKey.latents(job_id))
        return None if data is None else SourceCode(w_LD=np.load(io.BytesIO(data), allow_pickle=False))
    data = read(ArtifactKey.best(job_id))
    if data is None:
        return None
    found = Found.from_bytes(data)
    return SourceCode(w_LD=found.code, step=found.step)
