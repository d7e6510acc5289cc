"""The best code so far with its picture, as one file: whenever somebody looks, both are of the same step.

A running job is asked for it, and one that was canceled or failed on the way; one that succeeded has files of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save


@dataclass(frozen=True, kw_only=True)
class Found:
    """What `best.safetensors` holds."""

    step: int
    """Updates done before it."""
    code: NDArray[np.float32]
    """(L, D)."""
    picture: bytes | None
    """PNG; None where it could not be made."""
    detail: NDArray[np.float32] | None = None
    """(C, H, W); None where the code has none."""

    def to_bytes(self) -> bytes:
        tensors: dict[str, NDArray[Any]] = {
            "step": np.array([self.step], np.int64),
            "code": np.ascontiguousarray(self.code, np.float32),
        }
        if self.detail is not None:
            tensors["detail"] = np.ascontiguousarray(self.detail, np.float16)
        if self.picture is not None:
            tensors["picture"] = np.frombuffer(self.picture, np.uint8)
        return save(tensors)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises: ValueError for anything but such a file."""
        try:
            tensors = load(data)
            picture = tensors["picture"].tobytes() if "picture" in tensors else None
            detail = tensors["detail"].astype(np.float32) if "detail" in tensors else None
            return cls(step=int(tensors["step"][0]), code=tensors["code"], picture=picture, detail=detail)
        except (SafetensorError, KeyError, IndexError) as error:
            raise ValueError(f"not a best code with its picture: {error}") from error
