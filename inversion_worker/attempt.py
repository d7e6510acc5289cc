"""One attempt at a job: prepare, step, write, finish. Read this first.

Every Step may be the last one this process does. Every tenth of a second or so, one of them renews the lease, tells
how far the job is, and reads the cancel flag.
"""

from __future__ import annotations

import io
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from PIL import Image
from redis.exceptions import RedisError

from inversion_worker import tracing
from inversion_worker.artifacts import ArtifactStore
from inversion_worker.backend import Backend, BackendStep, Before, Code, Extras, Prepared
from inversion_worker.checkpoint import Best, Checkpoint, better
from inversion_worker.contract import ArtifactKey, JobDone, JobRecord, JobStarted, JobStatus, StartKind, StopReason
from inversion_worker.errors import CancelAsked, JobRefused, LeaseLost, Stopping
from inversion_worker.frames import FrameWriter, jpeg, png
from inversion_worker.meters import Meters
from inversion_worker.metrics import Metrics
from inversion_worker.missing import MissingResults
from inversion_worker.problems import NOT_FINITE, PHOTO_MISSING
from inversion_worker.store import JobStore
from inversion_worker.transitions import Asked, Lease

log = logging.getLogger(__name__)

_BEST_PAUSE = 10
"""A large picture is written so many times more seldom than its writing takes."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every attempt of a process shares."""

    store: JobStore
    artifacts: ArtifactStore
    backend: Backend
    stopping: Event
    """Set when the process is asked to stop."""
    checkpoint_s: float
    report_s: float = 0.1
    """Seconds between two reports of a job's progress; also the longest that a cancel waits for, beside a Step."""
    best_s: float = 1.0
    """Least seconds between two writes of the best so far with its picture, for whoever looks while the job runs."""
    meters: Meters = field(default_factory=Meters)


@dataclass(frozen=True, kw_only=True)
class _Progress:
    """How far an attempt has come."""

    prepared: Prepared
    best: Best | None
    metrics: Metrics


class Attempt:
    """Raises from `run`: LeaseLost, CancelAsked, Stopping, JobRefused, StorageFull, and the backend's own."""

    def __init__(self, context: Context, lease: Lease, record: JobRecord) -> None:
        self._context = context
        self._lease = lease
        self._record = record
        self._began = time.monotonic() - (record.seconds or 0.0)
        self._checkpointed = time.monotonic()
        self._reported = -math.inf
        self._kept = time.monotonic()
        self._kept_step: int | None = None
        self._is_to_finish = False
        self._missing = MissingResults(lease.job_id)

    def run(self) -> None:
        """Do the whole job, from its checkpoint where there is one."""
        with tracing.span("prepare"):
            prepared = self._prepare()
        saved = self._saved(prepared)
        best = saved.best if saved else None
        metrics = Metrics.from_bytes(self._read(ArtifactKey.metrics) if saved else None)
        step: BackendStep | None = None
        reason: StopReason | None = None
        if saved is not None:
            log.info("resuming job=%s step=%d", self._lease.job_id, saved.step)
        with self._writer() as writer:
            try:
                for step in self._context.meters.timed(prepared.steps(self._before(saved, metrics))):
                    best = better(best, step)
                    metrics.add(step.index, step.loss, self._seconds())
                    if time.monotonic() - self._reported >= self._context.report_s:
                        self._report(step, best)
                    reason = step.stopped_by
                    self._write(writer, step, _Progress(prepared=prepared, best=best, metrics=metrics))
                    if self._is_to_finish and reason is None and best is not None:
                        reason = StopReason.REQUEST
                        break
                if step is not None:
                    self._report(step, best)
                    if math.isfinite(step.loss):
                        writer.frame(step)
                writer.metrics(metrics.to_bytes())
            except (LeaseLost, Stopping, RedisError):
                raise
            except Exception:  # canceled, or broken on the way: what was found until then stays
                self._keep(writer, _Progress(prepared=prepared, best=best, metrics=metrics))
                raise
        self._missing.add(writer.failed)
        with tracing.span("finish"):
            self._finish(prepared, best, reason or StopReason.NOT_FINITE)

    def _prepare(self) -> Prepared:
        photo = self._required(ArtifactKey.photo)
        prepared = self._context.backend.prepare(photo, self._record.options, self._extras())
        key = ArtifactKey.aligned(self._lease.job_id)
        self._missing.tried("aligned", lambda: self._store(key, png(prepared.aligned)))
        started = JobStarted(attempt=self._record.attempts, steps=prepared.total_steps, aligned_key=key)
        pack = {"pack_name": prepared.pack_name, "pack_version": prepared.pack_version}
        framed = prepared.framing
        seen = {
            "face": framed.face,
            "photo": framed.seen.photo,
            "faces": framed.seen.faces,
            "face_index": framed.face_index,
            "warnings": list(framed.warnings),
        }
        self._update(
            started,
            **pack,
            **seen,
            pack_digest=prepared.pack_digest or None,
            optimizer=prepared.optimizer,
            steps=prepared.total_steps,
            missing=self._missing.noted(),
        )
        return prepared

    def _extras(self) -> Extras:
        """What came with the photo. Both were checked when they came."""
        start = mask = None
        if self._record.options.start is StartKind.LATENTS:
            whole = self._read(ArtifactKey.start_latent)
            start = Code.from_npy(self._required(ArtifactKey.start)) if whole is None else Code.from_bytes(whole)
        if self._record.masked:
            mask = Image.open(io.BytesIO(self._required(ArtifactKey.mask)), formats=["PNG"])
            mask.load()
        face = self._required(ArtifactKey.face) if self._record.diffusion is not None else None
        return Extras(start=start, mask=mask, diffusion=self._record.diffusion, face=face)

    def _required(self, key: Callable[[str], str]) -> bytes:
        if (data := self._read(key)) is None:
            raise JobRefused(PHOTO_MISSING)
        return data

    def _read(self, key: Callable[[str], str]) -> bytes | None:
        return self._context.artifacts.read(key(self._lease.job_id))

    def _saved(self, prepared: Prepared) -> Checkpoint | None:
        """The checkpoint of an earlier attempt with the same pack."""
        data = self._read(ArtifactKey.checkpoint)
        before = (self._record.pack_name, self._record.pack_version)
        if data is None or before != (prepared.pack_name, prepared.pack_version):
            return None
        try:
            return Checkpoint.from_bytes(data)
        except ValueError as error:
            log.warning("checkpoint ignored job=%s error=%s", self._lease.job_id, error)
            return None

    def _before(self, saved: Checkpoint | None, metrics: Metrics) -> Before:
        if saved is None:
            return Before(seconds=self._seconds())
        losses = [(step, loss) for step, loss, _ in metrics.rows if step < saved.step]
        return Before(checkpoint=saved.state, losses=losses, seconds=self._seconds())

    def _writer(self) -> FrameWriter:
        return FrameWriter(self._context.store, self._context.artifacts, self._lease, self._record.frames)

    def _report(self, step: BackendStep, best: Best | None) -> None:
        loss = step.loss if math.isfinite(step.loss) else None  # JSON has no NaN
        found = {"best_step": best.step, "best_loss": best.loss} if best else {}
        self._update(None, step=step.index, loss=loss, seconds=self._seconds(), **found)
        self._reported = time.monotonic()

    def _write(self, writer: FrameWriter, step: BackendStep, progress: _Progress) -> None:
        if step.index % self._record.options.frame_every == 0 and math.isfinite(step.loss):
            writer.frame(step)
            self._context.meters.frame()
        now, stopping = time.monotonic(), self._context.stopping.is_set()
        if stopping or now - self._kept >= max(self._context.best_s, _BEST_PAUSE * writer.best_took_s):
            self._write_best(writer, progress)
        if stopping or now - self._checkpointed >= self._context.checkpoint_s:
            checkpoint = Checkpoint(step=step.index, state=step.checkpoint(), best=progress.best)
            writer.checkpoint(checkpoint, progress.metrics.to_bytes())
            self._checkpointed = time.monotonic()
        if stopping:
            writer.drain()
            raise Stopping

    def _write_best(self, writer: FrameWriter, progress: _Progress) -> None:
        best = progress.best
        if best is not None and best.step != self._kept_step:
            writer.best(best, lambda: picture_of(progress.prepared, best))
            self._kept_step = best.step
        self._kept = time.monotonic()

    def _keep(self, writer: FrameWriter, progress: _Progress) -> None:
        """What can be had of a job that will not succeed: its best code and picture, and the metrics."""
        self._write_best(writer, progress)
        writer.metrics(progress.metrics.to_bytes())
        writer.drain()
        self._missing.add(writer.failed)
        best = progress.best
        found: dict[str, Any] = {"best_step": best.step, "best_loss": best.loss} if best else {}
        self._context.store.update(self._lease, seconds=self._seconds(), missing=self._missing.noted(), **found)

    def _finish(self, prepared: Prepared, best: Best | None, reason: StopReason) -> None:
        """The code first, since nothing that comes after it may cost it."""
        if best is None:
            raise JobRefused(NOT_FINITE)
        code = best.code()
        if code.detail_CHW is not None:
            self._store(ArtifactKey.latent(self._lease.job_id), code.to_bytes())
        self._store(ArtifactKey.latents(self._lease.job_id), code.npy())
        image = self._missing.tried("image", lambda: self._store_image(prepared, best))
        if self._record.options.paste and image is None:
            self._missing.add(["pasted"] if prepared.framing.face is not None else [])
        pasted = image is not None and self._missing.tried("pasted", lambda: self._paste(prepared, image))
        done = JobDone(step=best.step, loss=best.loss)
        found = {"best_step": best.step, "best_loss": best.loss, "result_step": best.step, "stopped_by": reason}
        found |= {"pasted": bool(pasted), "missing": self._missing.noted()}
        self._context.store.finish(self._lease, JobStatus.SUCCEEDED, done, seconds=self._seconds(), **found)

    def _store_image(self, prepared: Prepared, best: Best) -> Image.Image:
        image = picture_of(prepared, best)
        self._store(ArtifactKey.image(self._lease.job_id), png(image))
        return image

    def _paste(self, prepared: Prepared, image: Image.Image) -> bool:
        photo = prepared.pasted(image) if self._record.options.paste else None
        if photo is not None:
            self._store(ArtifactKey.pasted(self._lease.job_id), jpeg(photo))
        return photo is not None

    def _store(self, key: str, data: bytes) -> None:
        self._update(None)  # a job that was deleted meanwhile gets no new file
        self._context.artifacts.write(key, data)

    def _update(self, event: JobStarted | None, **fields: object) -> None:
        asked = self._context.store.update(self._lease, event, **fields)
        if asked is Asked.CANCEL:
            raise CancelAsked
        self._is_to_finish = self._is_to_finish or asked is Asked.FINISH

    def _seconds(self) -> float:
        return round(time.monotonic() - self._began, 3)


def picture_of(prepared: Prepared, best: Best) -> Image.Image:
    """What the best code renders."""
    return best.source.image() if best.source else prepared.render(best.code())
