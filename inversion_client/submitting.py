"""Plans of submitting: one photo, or many with the same options; and of looking at one."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from inversion_client.managing import id_of
from inversion_client.models import Batch, Faces, Inversion
from inversion_client.plan import Call, Do, File, Plan, Retries
from inversion_client.sending import send_and_read, under_key
from inversion_client.uploading import Code, Photo, form_of, load, load_code

WAIT_MARGIN_S = 30.0
"""Beyond the time that the service was asked to wait, before its answer counts as lost."""


def submit(
    retries: Retries,
    photo: Photo | None,
    options: Mapping[str, Any],
    *,
    source: Inversion | str | None,
    mask: Photo | None,
    latents: Code | None,
    wait_s: float | None,
    idempotency_key: str | None,
) -> Plan[Inversion]:
    """Queue a photo, or go on from another inversion. Raises: ValueError where neither is given, or both."""
    if (photo is None) == (source is None):
        raise ValueError("Pass a photo, or source= with an inversion to go on from: one of them.")
    files: list[File] = [] if photo is None else [("image", (yield Do(lambda: load(photo))))]
    origin = {} if source is None else {"source": {"inversion": id_of(source)}}
    if mask is not None:
        files.append(("mask", (yield Do(lambda: load(mask)))))
    if latents is not None:
        files.append(("latents", (yield Do(lambda: load_code(latents)))))
    headers = under_key(idempotency_key)
    if wait_s is not None:
        headers["Prefer"] = f"wait={math.ceil(wait_s)}"
    call = Call(
        method="POST",
        path="/v1/inversions",
        headers=headers,
        form=form_of({**options, **origin}),
        files=files,
        read_timeout_s=None if wait_s is None else wait_s + WAIT_MARGIN_S,
    )
    return (yield from send_and_read(Inversion, call, retries))


def diffuse(
    retries: Retries,
    face: Photo | Inversion,
    context: Photo | Inversion,
    options: Mapping[str, Any],
    *,
    mask: Mapping[str, Any] | None,
    weight: float | None,
    ring: float | None,
    idempotency_key: str | None,
) -> Plan[Inversion]:
    """Queue a face for a context."""
    chosen = {name: value for name, value in options.items() if value is not None}
    join = {"mask": mask, "weight": weight, "ring": ring, "metadata": chosen.pop("metadata", None)}
    order = {
        "face": (yield Do(lambda: _photo_or_inversion(face))),
        "context": (yield Do(lambda: _photo_or_inversion(context))),
        "options": chosen,
        **{name: value for name, value in join.items() if value is not None},
    }
    call = Call(method="POST", path="/v1/diffusions", headers=under_key(idempotency_key), json=order)
    return (yield from send_and_read(Inversion, call, retries))


_AN_ID = re.compile("[0-9a-f]{32}")


def _photo_or_inversion(photo: Photo | Inversion) -> dict[str, Any]:
    """An inversion, its id, or a photo as `load` takes it."""
    if isinstance(photo, Inversion) or (isinstance(photo, str) and _AN_ID.fullmatch(photo)):
        return {"inversion": id_of(photo)}
    _, data = load(photo)
    return {"image": f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"}


def faces(retries: Retries, photo: Photo) -> Plan[Faces]:
    """Look at a photo without queueing it."""
    file = yield Do(lambda: load(photo))
    return (yield from send_and_read(Faces, Call(method="POST", path="/v1/faces", files=[("image", file)]), retries))


def submit_batch(
    retries: Retries, photos: Sequence[Photo], options: Mapping[str, Any], *, idempotency_key: str | None
) -> Plan[Batch]:
    """Queue many photos: all of them, or none where one is refused."""
    loaded = yield Do(lambda: [load(photo) for photo in photos])
    call = Call(
        method="POST",
        path="/v1/batches",
        headers=under_key(idempotency_key),
        form=form_of(options),
        files=[("image", file) for file in loaded],
    )
    return (yield from send_and_read(Batch, call, retries))
