"""Loss and time of every step of a job: a NumPy file, (N, 3), float64: step, loss, seconds.

A loss that was infinite or not a number stands there as it was.
"""

from __future__ import annotations

import io

import numpy as np

Row = tuple[int, float, float]
"""(step, loss, seconds of work until then)."""


class Metrics:
    """Rows in the order of their steps; one that goes back to an earlier step forgets what came after it."""

    def __init__(self, rows: list[Row] | None = None) -> None:
        self.rows = rows or []

    def add(self, step: int, loss: float, seconds: float) -> None:
        while self.rows and self.rows[-1][0] >= step:
            self.rows.pop()
        self.rows.append((step, loss, seconds))

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, np.array(self.rows, np.float64).reshape(-1, 3), allow_pickle=False)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes | None) -> Metrics:
        """What `to_bytes` wrote; nothing where there is none, or it is damaged."""
        try:
            rows = np.load(io.BytesIO(data or b""), allow_pickle=False)
            return cls([(int(step), float(loss), float(seconds)) for step, loss, seconds in rows])
        except (ValueError, EOFError, OSError, TypeError):
            return cls()
