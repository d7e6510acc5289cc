"""A look at a photo while it is uploaded, so that a mask or a `face` that does not fit it is refused at once.

No upload fails, or waits for long, because no worker answers: the job finds out then.
"""

from __future__ import annotations

import logging
import time

from inversion_app.outages import OUTAGES
from inversion_worker.client import JobClient, JobRefused, NobodyAnswers, StorageFull
from inversion_worker.contract import Seen

log = logging.getLogger(__name__)

_UNANSWERED: tuple[type[Exception], ...] = (NobodyAnswers, StorageFull, *OUTAGES)


class UploadLooks:
    """Asks workers, and rests for a while when none has answered: the next uploads shall not wait too."""

    def __init__(self, timeout_s: float, rest_s: float = 10.0) -> None:
        """`timeout_s` 0: never asks."""
        self._timeout_s = timeout_s
        self._rest_s = rest_s
        self._rests_until_s = 0.0

    async def seen(self, client: JobClient, photo: bytes) -> Seen | None:
        """What a worker sees in the photo; None where none has said so in time."""
        if self._timeout_s == 0 or time.monotonic() < self._rests_until_s:
            return None
        try:
            return await client.look(photo, self._timeout_s)
        except _UNANSWERED as error:
            self._rests_until_s = time.monotonic() + self._rest_s
            log.info("not looked at before it is queued: %s", error)
        except JobRefused as error:  # the job will say the same
            log.info("not looked at before it is queued: %s", error)
        return None
