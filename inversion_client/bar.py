"""A progress bar for `wait`. It needs tqdm; the rest of the client does not.

from inversion_client.bar import ProgressBar

client.wait(inversion, on_progress=ProgressBar())
"""

from __future__ import annotations

from typing import Never, TextIO

from tqdm import tqdm

from inversion_client.models import Batch, Inversion


class ProgressBar:
    """Shows the progress of an inversion or a batch, for `wait` and `wait_batch` of both clients."""

    def __init__(self, title: str = "", file: TextIO | None = None) -> None:
        """`title` defaults to the start of the id, `file` to standard error. Only a terminal gets a bar."""
        self._title = title
        self._file = file
        self._bar: tqdm[Never] | None = None

    def __call__(self, now: Inversion | Batch) -> None:
        """What `on_progress` calls."""
        total, unit = (now.total, "photo") if isinstance(now, Batch) else (now.steps, "step")
        if self._bar is None:
            self._bar = tqdm(total=total, desc=self._title or now.id[:8], unit=unit, file=self._file, disable=None)
        self._bar.total = total
        if isinstance(now, Inversion) and now.loss is not None:
            self._bar.set_postfix(loss=f"{now.loss:.4f}", refresh=False)
        self._bar.update(_done(now) - self._bar.n)
        if now.is_final:
            self._bar.close()


def _done(now: Inversion | Batch) -> int:
    if isinstance(now, Inversion):
        return now.step or 0
    return now.total - now.counts.get("queued", 0) - now.counts.get("running", 0)
