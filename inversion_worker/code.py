"""What an inversion finds, without Torch: a W+ code and, where there is any, detail.

Suffixes: L style layer, D latent width, C channel, H W height and width.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

MAX_DETAIL = 2**21
"""Most numbers in a detail: 4 MiB in half precision, which is 512 channels at 64 px."""
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Code:
    """One image's latent."""

    w_LD: Floats
    """The W+ code: one row of latent width D for each style layer."""
    detail_CHW: Floats | None = None

    def npy(self) -> bytes:
        """The W+ code alone as a NumPy file, float32, (L, D)."""
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(self.w_LD, dtype=np.float32), allow_pickle=False)
        return buffer.getvalue()

    def to_bytes(self, about: Mapping[str, str] | None = None) -> bytes:
        """As safetensors: `w_plus` (L, D) float32 and, with detail, `detail` (C, H, W) float16."""
        tensors: dict[str, NDArray[Any]] = {"w_plus": np.ascontiguousarray(self.w_LD, np.float32)}
        if self.detail_CHW is not None:
            tensors["detail"] = np.ascontiguousarray(self.detail_CHW, np.float16)
        return save(tensors, dict(about) if about else None)

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

    @classmethod
    def from_npy(cls, data: bytes) -> Self:
        """A W+ code alone."""
        return cls(w_LD=np.load(io.BytesIO(data), allow_pickle=False))
