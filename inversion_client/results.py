"""Plans of fetching what an inversion leaves, into memory or into a file."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from inversion_client.plan import Call, Do, Plan, Retries
from inversion_client.sending import send

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

Kind = Literal[
    "image",
    "image.webp",
    "image.jpeg",
    "aligned",
    "pasted",
    "strip",
    "animation",
    "npy",
    "safetensors",
    "json",
    "metrics",
    "metrics.csv",
]
"""A result: pictures, the code in three forms, and loss and time of every step as JSON or CSV."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Where a result lies, and what its file is called."""

    path: str
    filename: str
    params: Mapping[str, str] = field(default_factory=dict)


RESULTS: dict[str, Result] = {
    "image": Result(path="image", filename="reconstruction.png"),
    "image.webp": Result(path="image", filename="reconstruction.webp", params={"format": "webp"}),
    "image.jpeg": Result(path="image", filename="reconstruction.jpg", params={"format": "jpeg"}),
    "aligned": Result(path="aligned", filename="aligned.png"),
    "pasted": Result(path="pasted", filename="pasted.jpg"),
    "strip": Result(path="strip", filename="strip.png", params={"format": "png"}),
    "animation": Result(path="animation", filename="animation.webp"),
    "npy": Result(path="latents", filename="latents.npy", params={"format": "npy"}),
    "safetensors": Result(path="latents", filename="latents.safetensors", params={"format": "safetensors"}),
    "json": Result(path="latents", filename="latents.json", params={"format": "json"}),
    "metrics": Result(path="metrics", filename="metrics.json", params={"format": "json"}),
    "metrics.csv": Result(path="metrics", filename="metrics.csv", params={"format": "csv"}),
}


def download(retries: Retries, inversion_path: str, kind: str, params: Mapping[str, int | None]) -> Plan[bytes]:
    """The bytes of a result. `params` are the query's: frames, frame_ms."""
    result = result_of(kind)
    query = dict(result.params) | {name: str(value) for name, value in params.items() if value is not None}
    call = Call(method="GET", path=f"{inversion_path}/{result.path}", params=query)
    return (yield from send(call, retries)).content


def save(
    retries: Retries, inversion_path: str, kind: str, to: str | os.PathLike[str], params: Mapping[str, int | None]
) -> Plan[Path]:
    """As `download`, into a file, or one named for the kind in a folder. It is whole, or not there."""
    data = yield from download(retries, inversion_path, kind, params)
    path: Path = yield Do(lambda: _write(Path(to), result_of(kind).filename, data))
    return path


def frame(retries: Retries, inversion_path: str, step: int) -> Plan[bytes]:
    """The picture of one step, WebP."""
    return (yield from send(Call(method="GET", path=f"{inversion_path}/frames/{int(step)}"), retries)).content


def code(retries: Retries, inversion_path: str) -> Plan[Floats]:
    """The code as an array."""
    try:
        import numpy as np
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Codes as arrays need numpy: pip install numpy", name="numpy") from error
    data = yield from download(retries, inversion_path, "npy", {})
    w_LD: Floats = np.load(io.BytesIO(data), allow_pickle=False)
    return w_LD


def result_of(kind: str) -> Result:
    """Raises: ValueError for a kind that there is not."""
    if kind not in RESULTS:
        raise ValueError(f"There is no result {kind!r}: choose one of {', '.join(RESULTS)}.")
    return RESULTS[kind]


def _write(to: Path, filename: str, data: bytes) -> Path:
    path = to / filename if to.is_dir() else to
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
