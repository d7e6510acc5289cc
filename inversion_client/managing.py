"""Plans of looking, listing, canceling, repeating and deleting."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from inversion_client.errors import Gone, NotFound
from inversion_client.models import Batch, Frame, Inversion, Pack, SavedEdit
from inversion_client.plan import Call, Emit, Plan, Retries
from inversion_client.reading import AnswerInvalid
from inversion_client.sending import send, send_and_read, under_key

T = TypeVar("T")
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def inversion_path(inversion: Inversion | str) -> str:
    """Where an inversion lives, given it or its id."""
    return f"/v1/inversions/{id_of(inversion)}"


def batch_path(batch: Batch | str) -> str:
    """Where a batch lives, given it or its id."""
    return f"/v1/batches/{id_of(batch)}"


def id_of(of: Inversion | Batch | SavedEdit | str) -> str:
    """The id of an inversion or a batch, given it or its id. Raises: ValueError for what is none."""
    found = of if isinstance(of, str) else of.id
    if not _ID.fullmatch(found):  # "" or ".." would be the address of something else
        raise ValueError(f"{found!r} is no id: it has letters, digits, _ and -.")
    return found


def get(retries: Retries, kind: type[T], path: str) -> Plan[T]:
    """Look at an inversion or a batch."""
    return (yield from send_and_read(kind, Call(method="GET", path=path), retries))


def cancel(retries: Retries, kind: type[T], path: str) -> Plan[T]:
    """Cancel an inversion or a batch; doing it twice changes nothing."""
    return (yield from send_and_read(kind, Call(method="POST", path=f"{path}/cancel"), retries))


def finish(retries: Retries, path: str) -> Plan[Inversion]:
    """End an inversion with the best so far; doing it twice changes nothing."""
    return (yield from send_and_read(Inversion, Call(method="POST", path=f"{path}/finish"), retries))


def retry(retries: Retries, path: str, *, idempotency_key: str | None) -> Plan[Inversion]:
    """Queue a new inversion in the place of one that failed."""
    call = Call(method="POST", path=f"{path}/retry", headers=under_key(idempotency_key))
    return (yield from send_and_read(Inversion, call, retries))


def delete(retries: Retries, path: str) -> Plan[None]:
    """Delete an inversion or a batch with all that belongs to it."""
    try:
        yield from send(Call(method="DELETE", path=path), retries)
    except (NotFound, Gone) as error:
        if not error.repeated:  # else the first try did it, and its answer was lost
            raise


def inversions(
    retries: Retries,
    *,
    status: str | None,
    pack: str | None,
    created_after: datetime | None,
    created_before: datetime | None,
    page_size: int,
) -> Plan[None]:
    """Emit every inversion that the filters let through, newest first, page by page."""
    chosen = {"status": status, "pack": pack, "limit": str(page_size)}
    chosen |= {"created_after": _time(created_after), "created_before": _time(created_before)}
    params = {name: value for name, value in chosen.items() if value is not None}
    while True:
        page = yield from send_and_read(_Page, Call(method="GET", path="/v1/inversions", params=params), retries)
        for inversion in page.inversions:
            yield Emit(inversion)
        if page.next is None:
            return
        # Of the next page's address the query alone: the key goes nowhere but to this service.
        params = dict(parse_qsl(urlsplit(page.next).query))
        if "cursor" not in params:
            raise AnswerInvalid("The address of the next page has no cursor.")


def frames(retries: Retries, path: str) -> Plan[tuple[Frame, ...]]:
    """The frames by now."""
    found = yield from send_and_read(_Frames, Call(method="GET", path=f"{path}/frames"), retries)
    return found.frames


def packs(retries: Retries) -> Plan[tuple[Pack, ...]]:
    """The packs that live workers have announced."""
    found = yield from send_and_read(_Packs, Call(method="GET", path="/v1/packs"), retries)
    return found.packs


def _time(when: datetime | None) -> str | None:
    """With a zone: one without is this machine's."""
    return None if when is None else when.astimezone().isoformat()


@dataclass(frozen=True, kw_only=True)
class _Page:
    inversions: tuple[Inversion, ...]
    next: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Frames:
    frames: tuple[Frame, ...]


@dataclass(frozen=True, kw_only=True)
class _Packs:
    packs: tuple[Pack, ...]
