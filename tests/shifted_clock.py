"""A process whose wall clock is wrong by so many days: `python shifted_clock.py DAYS FILE [ARGUMENT...]` runs FILE so.

The clock is replaced before anything else is imported that could keep hold of it.
"""

from __future__ import annotations

import datetime
import runpy
import sys
import time

Datetime, Date = datetime.datetime, datetime.date


class ShiftedDatetime(Datetime):
    """A datetime whose now is wrong; what it makes are plain ones."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Datetime:  # type: ignore[override]
        return Datetime.now(tz) + datetime.timedelta(days=DAYS)

    @classmethod
    def utcnow(cls) -> Datetime:  # type: ignore[override]
        return Datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(days=DAYS)


def shift() -> None:
    """From now on this process is wrong about the time."""
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + DAYS * 86_400
    time.time_ns = lambda: right_ns() + int(DAYS * 86_400e9)
    datetime.datetime = ShiftedDatetime  # type: ignore[misc]


if __name__ == "__main__":
    DAYS = float(sys.argv.pop(1))
    sys.argv.pop(0)
    shift()
    runpy.run_path(sys.argv[0], run_name="__main__")
