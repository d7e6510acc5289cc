"""Results that could not be made. A job's code is what counts: no picture that fails may cost it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from redis.exceptions import RedisError

from inversion_worker.contract import MissingResult
from inversion_worker.errors import Interrupted

log = logging.getLogger(__name__)

T = TypeVar("T")
_DETAILS = {
    "aligned": "The crop could not be stored as a picture; it was inverted all the same.",
    "frames": "Some pictures on the way could not be stored; `frames` lists those that were.",
    "metrics": "Loss and time of the steps could not be stored.",
    "image": "The reconstruction could not be stored as a picture; the code renders it.",
    "pasted": "The photo with the reconstruction in it could not be made; code and reconstruction are there.",
}
"""Names of results as `links` has them, and what to say where one is missing."""


class MissingResults:
    """What one attempt could not make, for its record."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._names: set[str] = set()

    def tried(self, name: str, make: Callable[[], T]) -> T | None:
        """What `make` returns; None, and `name` is noted, when it raises anything but Interrupted or RedisError."""
        try:
            return make()
        except (Interrupted, RedisError):
            raise
        except Exception:
            log.exception("not made job=%s result=%s", self._job_id, name)
            self.add([name])
            return None

    def add(self, names: Iterable[str]) -> None:
        """Note those of `names` that are results."""
        self._names |= _DETAILS.keys() & set(names)

    def noted(self) -> list[MissingResult]:
        """For `JobRecord.missing`."""
        return [MissingResult(result=name, detail=_DETAILS[name]) for name in _DETAILS if name in self._names]
