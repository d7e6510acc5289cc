"""Writes a job's pictures and checkpoints beside the inversion, in order.

One thread for each job: encoding never holds the loop up, unless the loop is `_PENDING` writes ahead.
An event is said only after its bytes are stored. A write that fails costs that file alone, and is remembered.
"""

from __future__ import annotations

import io
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from PIL import Image
from redis.exceptions import RedisError

from inversion_pictures.colours import bare
from inversion_worker.artifacts import ArtifactStore
from inversion_worker.backend import BackendStep
from inversion_worker.checkpoint import Best, Checkpoint
from inversion_worker.contract import ArtifactKey, FrameReady
from inversion_worker.errors import LeaseLost
from inversion_worker.found import Found
from inversion_worker.store import JobStore
from inversion_worker.transitions import Lease

log = logging.getLogger(__name__)

_PENDING = 4
_WEBP_QUALITY = 90
_JPEG_QUALITY = 95


class FrameWriter:
    """Frames and checkpoints of one attempt. Raises from every method: LeaseLost, RedisError, at the next call."""

    def __init__(self, store: JobStore, artifacts: ArtifactStore, lease: Lease, frames: Iterable[int]) -> None:
        """`frames` are the steps that an earlier attempt has stored; they are not said again."""
        self._store = store
        self._artifacts = artifacts
        self._lease = lease
        self._stored = sorted(frames)
        self._taken = set(self._stored)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"frames-{lease.job_id[:8]}")
        self._pending: deque[Future[None]] = deque()
        self._failed: set[str] = set()
        self.best_took_s = 0.0
        """How long the last best took to encode and store."""

    @property
    def failed(self) -> frozenset[str]:
        """Results of which something could not be written."""
        return frozenset(self._failed)

    def frame(self, step: BackendStep) -> None:
        """Store the picture of a Step and say so; once for each step."""
        if step.index in self._taken:
            return
        self._taken.add(step.index)
        self._later("frames", lambda: self._write_frame(step))

    def checkpoint(self, checkpoint: Checkpoint, metrics: bytes) -> None:
        """Store a checkpoint in place of the one before, and the metrics first: whoever goes on lacks no row."""
        self._later("checkpoint", lambda: self._write_checkpoint(checkpoint, metrics))

    def best(self, best: Best, image: Callable[[], Image.Image]) -> None:
        """Store the best so far with its picture in place of the one before, and say of which step it is."""
        self._later("best", lambda: self._write_best(best, image))

    def metrics(self, data: bytes) -> None:
        """Store the metrics so far in place of those before."""
        self._later("metrics", lambda: self._write(ArtifactKey.metrics(self._lease.job_id), data))

    def drain(self) -> None:
        """Wait until everything is stored."""
        while self._pending:
            self._pending.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """No write is under way after this, so that the files may be deleted."""
        try:
            if error is None:
                self.drain()
        finally:
            self._thread.shutdown(wait=True, cancel_futures=True)

    def _later(self, result: str, write: Callable[[], None]) -> None:
        while self._pending and (len(self._pending) >= _PENDING or self._pending[0].done()):
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._guarded, result, write))

    def _guarded(self, result: str, write: Callable[[], None]) -> None:
        try:
            write()
        except (LeaseLost, RedisError):
            raise
        except Exception:
            if result not in self._failed:  # the next one will fail for the same reason
                log.exception("not written job=%s result=%s", self._lease.job_id, result)
            self._failed.add(result)

    def _write_frame(self, step: BackendStep) -> None:
        key = ArtifactKey.frame(self._lease.job_id, step.index)
        self._write(key, webp(step.image()))
        self._stored = sorted([*self._stored, step.index])
        event = FrameReady(step=step.index, loss=step.loss, frame_key=key)
        self._store.update(self._lease, event, frames=self._stored)

    def _write_best(self, best: Best, image: Callable[[], Image.Image]) -> None:
        began = time.monotonic()
        pictures: list[bytes] = []
        self._guarded("image", lambda: pictures.append(png(image(), quick=True)))
        code, picture = best.code(), pictures[0] if pictures else None
        found = Found(step=best.step, code=code.w_LD, picture=picture, detail=code.detail_CHW)
        self._write(ArtifactKey.best(self._lease.job_id), found.to_bytes())
        self._store.update(self._lease, result_step=best.step)
        self.best_took_s = time.monotonic() - began

    def _write_checkpoint(self, checkpoint: Checkpoint, metrics: bytes) -> None:
        self._write(ArtifactKey.metrics(self._lease.job_id), metrics)
        self._artifacts.write(ArtifactKey.checkpoint(self._lease.job_id), checkpoint.to_bytes())

    def _write(self, key: str, data: bytes) -> None:
        self._store.update(self._lease)  # a job that was deleted meanwhile gets no new file
        self._artifacts.write(key, data)


def webp(image: Image.Image) -> bytes:
    """A frame's bytes."""
    return _encoded(image, "WEBP", quality=_WEBP_QUALITY)


def png(image: Image.Image, *, quick: bool = False) -> bytes:
    """The bytes of a picture that loses nothing; a quick one takes a fifth of the time, and some more bytes."""
    if quick:
        return _encoded(image, "PNG", compress_level=1)
    return _encoded(image, "PNG")


def jpeg(image: Image.Image) -> bytes:
    """The bytes of a photo, with all of its colour: PNG would take ten times as long."""
    return _encoded(image, "JPEG", quality=_JPEG_QUALITY, subsampling=0)


def _encoded(image: Image.Image, form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    bare(image).save(buffer, form, **options)  # nothing of an upload but its pixels goes out
    return buffer.getvalue()
