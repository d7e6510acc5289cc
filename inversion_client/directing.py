"""Plans of editing directions: list, look at, make and delete them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from inversion_client.errors import Gone, NotFound, ProblemError
from inversion_client.managing import id_of
from inversion_client.models import Direction, Inversion, Pack
from inversion_client.plan import Call, Do, File, Plan, Retries
from inversion_client.sending import send, send_and_read
from inversion_client.uploading import Code, form_of, load_code

_EXISTS = "/problems/direction-exists"
_DIRECTION = re.compile(r"[A-Za-z0-9._-]{1,64}")


def directions_path(pack: Pack | str) -> str:
    """Where the directions of a pack live, given it or its name."""
    name = pack if isinstance(pack, str) else pack.name
    if name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no name of a pack.")
    return f"/v1/packs/{quote(name, safe='')}/directions"


def direction_path(pack: Pack | str, direction: Direction | str) -> str:
    """Where a direction lives, given it or its name."""
    name = direction if isinstance(direction, str) else direction.name
    if not _DIRECTION.fullmatch(name) or name in (".", ".."):
        raise ValueError(f"{name!r} is no name of a direction.")
    return f"{directions_path(pack)}/{name}"


def directions(retries: Retries, pack: Pack | str) -> Plan[tuple[Direction, ...]]:
    """The pack's directions, then those of one's own."""
    found = yield from send_and_read(_Directions, Call(method="GET", path=directions_path(pack)), retries)
    return found.directions


def make(
    retries: Retries,
    pack: Pack | str,
    name: str,
    *,
    direction: Code | None,
    plus: Sequence[Inversion | str],
    minus: Sequence[Inversion | str],
    options: Mapping[str, Any],
) -> Plan[Direction]:
    """Make a direction of a file, or of two lists of inversions."""
    files: list[File] = []
    if direction is not None:
        files.append(("direction", (yield Do(lambda: load_code(direction)))))
    lists = {"plus": [id_of(each) for each in plus], "minus": [id_of(each) for each in minus]}
    fields = {"name": name, **options, **{side: ids for side, ids in lists.items() if ids}}
    call = Call(method="POST", path=directions_path(pack), form=form_of(fields), files=files)
    try:
        return (yield from send_and_read(Direction, call, retries))
    except ProblemError as error:
        if error.type != _EXISTS or not error.repeated:
            raise
    # The first try made it, and its answer was lost.
    return (yield from send_and_read(Direction, Call(method="GET", path=direction_path(pack, name)), retries))


def strip(retries: Retries, path: str, params: Mapping[str, int | None]) -> Plan[bytes]:
    """A direction as a row of pictures."""
    query = {"format": "webp"} | {name: str(value) for name, value in params.items() if value is not None}
    return (yield from send(Call(method="GET", path=f"{path}/strip", params=query), retries)).content


def delete(retries: Retries, path: str) -> Plan[None]:
    """Delete a direction of one's own."""
    try:
        yield from send(Call(method="DELETE", path=path), retries)
    except (NotFound, Gone) as error:
        if not error.repeated:
            raise


@dataclass(frozen=True, kw_only=True)
class _Directions:
    directions: tuple[Direction, ...]
