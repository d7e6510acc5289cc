"""Codes as files: npy, safetensors and JSON, out of what a worker stored and into what it takes.

A code belongs to a pack: each form says which, by name, version and digest, and what says so is checked when
it comes back as a start. Detail is in safetensors alone. Suffixes: L style layer, D latent width, C channel, H W height
and width.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import numpy as safetensors

from inversion_app.errors import ProblemError
from inversion_app.schemas import Latents, PackName
from inversion_app.strict_json import Limits, read_json
from inversion_worker.client import MAX_DETAIL
from inversion_worker.client import Code as StoredCode

NPY, SAFETENSORS, JSON = "application/octet-stream", "application/x-safetensors", "application/json"
"""npy has no media type of its own."""
MAX_LAYERS, MAX_WIDTH = 64, 4096
"""Largest code that is believed to be one."""
MAX_CODE_BYTES = 12 * 1024 * 1024
"""Largest file of a code: the largest code takes 2 MiB as 64-bit floats, and 7 as JSON; with the largest detail in
single precision 9."""
JSON_LIMITS = Limits(values=MAX_LAYERS * MAX_WIDTH + 1000)
"""Of a code as JSON, and of a request that holds one."""
_MAX_HEADER_BYTES = 65_536
"""Longest header of a safetensors file; one of a code has some 200 bytes."""
_TENSOR = "latents"
"""The code in JSON, and in safetensors of before detail."""
_W_PLUS, _DETAIL = "w_plus", "detail"
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Code:
    """An uploaded code, and what it says of its pack."""

    w_LD: Floats
    detail_CHW: Floats | None = None
    pack: str | None = None
    version: str | None = None
    digest: str | None = None

    @property
    def facts(self) -> list[str | None]:
        """What tells it from another one, in short."""
        own = self.latent() or self.npy()
        return [hashlib.sha256(own).hexdigest(), self.pack, self.version, self.digest]

    def npy(self) -> bytes:
        """As the worker reads it."""
        return to_npy(self.w_LD)

    def latent(self) -> bytes | None:
        """The same with its detail; None where it has none."""
        if self.detail_CHW is None:
            return None
        return StoredCode(w_LD=self.w_LD, detail_CHW=self.detail_CHW).to_bytes()


# ---- out


def to_npy(w_LD: Floats) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(w_LD, np.float32), allow_pickle=False)
    return buffer.getvalue()


def to_safetensors(code: StoredCode, pack: PackName) -> bytes:
    """`w_plus`, float32, and `detail`, float16, where there is any; the pack stands in the metadata."""
    return code.to_bytes({"pack": pack.name, "version": pack.version, "digest": pack.digest or ""})


def to_json(w_LD: Floats, pack: PackName, step: int | None = None) -> bytes:
    return Latents(shape=list(w_LD.shape), pack=pack, step=step, latents=w_LD.tolist()).model_dump_json().encode()


# ---- in


def check_size(size_bytes: int) -> None:
    """Refuse a file that is too large for a code before it is read. Raises: ProblemError `latents-invalid`."""
    if size_bytes > MAX_CODE_BYTES:
        raise _invalid(f"It has {size_bytes:,} bytes, and no code has more than {MAX_CODE_BYTES:,}.")


def read_code(given: Any) -> Code:
    """A code from the bytes of a file, or from a JSON value. Raises: ProblemError `latents-invalid`."""
    if isinstance(given, bytes):
        check_size(len(given))
    try:
        code = _from_bytes(given) if isinstance(given, bytes) else _from_json(given)
    except Exception as error:  # the readers leak whatever a hostile header makes them trip over, TokenError even
        raise _invalid(f"It cannot be read: {str(error)[:120]}.") from error
    w_LD = code.w_LD
    if w_LD.ndim != 2 or not 0 < w_LD.shape[0] <= MAX_LAYERS or not 0 < w_LD.shape[1] <= MAX_WIDTH:
        raise _invalid(f"It has the shape {list(w_LD.shape)}.")
    if not np.isfinite(w_LD).all():
        raise _invalid("It holds numbers that are not finite.")
    if code.detail_CHW is not None:
        _check_detail(code.detail_CHW)
    return code


def _check_detail(detail_CHW: Floats) -> None:
    shape = detail_CHW.shape
    if detail_CHW.ndim != 3 or 0 in shape or shape[1] != shape[2] or detail_CHW.size > MAX_DETAIL:
        raise _invalid(f"Its detail has the shape {list(shape)}: (C, H, H) is needed, {MAX_DETAIL:,} numbers at most.")
    if not np.isfinite(detail_CHW).all() or np.abs(detail_CHW).max() > np.finfo(np.float16).max:
        raise _invalid("Its detail holds numbers that are not finite in half precision.")


def _from_bytes(data: bytes) -> Code:
    if data.startswith(b"\x93NUMPY"):
        return Code(w_LD=_single(_read_npy(data)))
    if data.lstrip()[:1] in (b"{", b"["):
        return _from_json(read_json(data, JSON_LIMITS))
    if len(data) > 8 and data[8:9] == b"{":
        return _read_safetensors(data)
    raise ValueError("it is neither npy nor safetensors nor JSON")


def _read_npy(data: bytes) -> NDArray[Any]:
    """As np.load, but what the header claims is compared with what there is before any memory is taken."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError("its version of npy is not known")
    shape, fortran_order, dtype = readers[version](file)
    size = int(np.prod(shape, dtype=object)) if shape else 1
    body = data[file.tell() :]
    if dtype.hasobject or dtype.kind != "f" or size * dtype.itemsize != len(body):
        raise ValueError("it holds something else than the floating point numbers that its header claims")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran_order else "C")


def _read_safetensors(data: bytes) -> Code:
    length = int.from_bytes(data[:8], "little")
    if length > _MAX_HEADER_BYTES:
        raise ValueError("its header is longer than that of any code")
    header = read_json(data[8 : 8 + length].rstrip(b" "), JSON_LIMITS)
    tensors = safetensors.load(data)
    name = next((name for name in (_W_PLUS, _TENSOR) if name in tensors), None)
    if name is None and len(tensors) == 1:
        name = next(iter(tensors))
    if name is None:
        raise ValueError(f"it needs one tensor, or one named {_W_PLUS}")
    said = {key: value for key, value in header.get("__metadata__", {}).items() if value}
    detail = tensors.get(_DETAIL) if name == _W_PLUS else None
    return Code(
        w_LD=_single(tensors[name]),
        detail_CHW=None if detail is None else _single(detail, 3),
        pack=said.get("pack"),
        version=said.get("version"),
        digest=said.get("digest"),
    )


def _from_json(value: Any) -> Code:
    """The rows themselves, or an object such as `to_json` makes."""
    if not isinstance(value, dict):
        return Code(w_LD=_rows(value))
    said = PackName.model_validate(value["pack"]) if value.get("pack") is not None else None
    w_LD = _rows(value[_TENSOR])
    if said is None:
        return Code(w_LD=w_LD)
    return Code(w_LD=w_LD, pack=said.name, version=said.version, digest=said.digest)


def _rows(value: Any) -> Floats:
    if not isinstance(value, list) or not all(isinstance(row, list) for row in value):
        raise ValueError("it is no list of rows")
    if len(value) > MAX_LAYERS or any(len(row) > MAX_WIDTH for row in value):
        raise ValueError("it is too large")
    if not all(type(number) in (int, float) for row in value for number in row):
        raise ValueError("it holds something else than numbers")
    return _single(np.array(value, np.float64))


def _single(w: NDArray[Any], dimensions: int = 2) -> Floats:
    """(L, D) or detail (C, H, W), also of a batch of one, as float32. What overflows becomes infinite: refused."""
    if w.dtype.kind != "f":
        raise ValueError("it holds something else than floating point numbers")
    with np.errstate(over="ignore"):
        found: Floats = (w[0] if w.ndim == dimensions + 1 and len(w) == 1 else w).astype(np.float32)
    return found


def _invalid(detail: str) -> ProblemError:
    return ProblemError("latents-invalid", detail)
