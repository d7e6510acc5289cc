"""Plans of rendering codes with edits, and of edit lists that are saved with an inversion."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import httpx

from inversion_client.errors import Gone, NotFound
from inversion_client.managing import id_of, inversion_path
from inversion_client.models import Inversion, Render, SavedEdit
from inversion_client.plan import Call, Plan, Retries
from inversion_client.sending import send, send_and_read
from inversion_client.uploading import load_code

if TYPE_CHECKING:
    from inversion_client.results import Floats

RenderSource: TypeAlias = Any
"""An inversion or its id, `{"seed": 7}`, or a code as `submit(latents=)` takes it."""
Edits: TypeAlias = "Sequence[Mapping[str, Any]] | Mapping[str, float]"
"""An edit list, or directions and strengths in short: `{"smile": 1.5}`."""
RenderAs = Literal["face", "photo", "patch"]
PictureFormat = Literal["png", "jpeg", "webp"]
FilmFormat = Literal["webp", "mp4", "gif"]
FILM_TIMEOUT_S = 60.0
"""Longest silence before a film comes."""
_NPY = "application/octet-stream"


def render(
    retries: Retries,
    source: RenderSource,
    edits: Edits,
    *,
    as_: RenderAs,
    format: PictureFormat | None,
    side: int | None,
    paste: str | None,
    pack: str | None,
    session: str | None,
) -> Plan[Render]:
    """The picture of a code with its edits."""
    order = _order(source, edits, pack) | _given({"as": as_, "format": format, "side": side, "paste": paste})
    response = yield from send(_call(order, "image/*", session), retries)
    return _read(response)


def render_code(retries: Retries, source: RenderSource, edits: Edits, *, pack: str | None) -> Plan[Floats]:
    """The code after the edits as an array."""
    try:
        import numpy as np
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Codes as arrays need numpy: pip install numpy", name="numpy") from error
    response = yield from send(_call(_order(source, edits, pack) | {"as": "latents"}, _NPY, None), retries)
    w_LD: Floats = np.load(io.BytesIO(response.content), allow_pickle=False)
    return w_LD


def interpolate(
    retries: Retries, source: RenderSource, to: RenderSource | Edits, options: Mapping[str, Any], *, pack: str | None
) -> Plan[bytes]:
    """A film of the way from a code to another, or to the same with edits."""
    order = {"from": _source(source) | _given({"pack": pack}), "to": _target(to), **_given(options)}
    timeout_s = FILM_TIMEOUT_S
    call = Call(method="POST", path="/v1/interpolations", json=order, read_timeout_s=timeout_s)
    return (yield from send(call, retries)).content


def _target(to: RenderSource | Edits) -> dict[str, Any] | list[dict[str, Any]]:
    if isinstance(to, list | tuple):
        return _listed(to)
    if isinstance(to, Mapping) and not {"inversion", "latents", "seed"} & to.keys():
        return _listed(to)
    return _source(to)


def save_edit(
    retries: Retries, inversion: Inversion | str, edits: Edits, *, name: str, parent: SavedEdit | str | None
) -> Plan[SavedEdit]:
    """Keep an edit list with an inversion; doing it twice keeps it once."""
    asked = {"name": name, "edits": _listed(edits)} | _given({"parent": _edit_id(parent) if parent else None})
    call = Call(method="POST", path=_edits_path(inversion), json=asked)
    return (yield from send_and_read(SavedEdit, call, retries))


def edits(retries: Retries, inversion: Inversion | str) -> Plan[tuple[SavedEdit, ...]]:
    """The edit lists that are saved with an inversion."""
    found = yield from send_and_read(_Edits, Call(method="GET", path=_edits_path(inversion)), retries)
    return found.edits


def delete_edit(retries: Retries, inversion: Inversion | str, edit: SavedEdit | str) -> Plan[None]:
    """Delete a saved edit list."""
    try:
        yield from send(Call(method="DELETE", path=f"{_edits_path(inversion)}/{_edit_id(edit)}"), retries)
    except (NotFound, Gone) as error:
        if not error.repeated:  # else the first try did it, and its answer was lost
            raise


def _order(source: RenderSource, edits: Edits, pack: str | None) -> dict[str, Any]:
    return {"source": _source(source) | _given({"pack": pack}), "edits": _listed(edits)}


def _source(source: RenderSource) -> dict[str, Any]:
    if isinstance(source, Inversion | str):
        return {"inversion": id_of(source)}
    if isinstance(source, Mapping):
        return dict(source)
    _, data = load_code(source)
    return {"latents": f"data:{_NPY};base64,{base64.b64encode(data).decode()}"}


def _listed(edits: Edits) -> list[dict[str, Any]]:
    if isinstance(edits, Mapping):
        return [{"direction": name, "strength": strength} for name, strength in edits.items()]
    return [dict(edit) for edit in edits]


def _call(order: Mapping[str, Any], accept: str, session: str | None) -> Call:
    headers = {"Accept": accept} | _given({"X-Render-Session": session})
    return Call(method="POST", path="/v1/renders", headers=headers, json=order)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _read(response: httpx.Response) -> Render:
    offset = response.headers.get("inversion-offset")
    step = response.headers.get("inversion-step")
    x, _, y = (offset or "").partition(",")
    return Render(
        data=response.content,
        media_type=response.headers.get("content-type", ""),
        offset=(int(x), int(y)) if offset else None,
        step=int(step) if step else None,
    )


def _edits_path(inversion: Inversion | str) -> str:
    return f"{inversion_path(inversion)}/edits"


def _edit_id(edit: SavedEdit | str) -> str:
    return id_of(edit)


@dataclass(frozen=True, kw_only=True)
class _Edits:
    edits: tuple[SavedEdit, ...]
