"""Takes up what was lost: jobs of silent workers, messages that never arrived, files past their time.

Every worker runs one. Several at once are harmless: each change is one script in Redis, made once.
"""

from __future__ import annotations

import asyncio
import logging

from celery import Celery

from inversion_worker import broker
from inversion_worker.artifacts import ArtifactStore
from inversion_worker.client import JobClient
from inversion_worker.contract import ArtifactKey
from inversion_worker.settings import ClientSettings
from inversion_worker.store import JobStore

log = logging.getLogger(__name__)

SOON_MS = 3_000
"""A message sent that long ago is lost when the broker holds none."""
LATE_MS = 60_000
"""A message sent that long ago, of a job at the head of the line, is lost in any case."""


class Reaper:
    """Call `reap` about once a second and `sweep` about once a minute."""

    def __init__(self, store: JobStore, artifacts: ArtifactStore, celery: Celery, settings: ClientSettings) -> None:
        self._store = store
        self._artifacts = artifacts
        self._celery = celery
        self._settings = settings

    def reap(self) -> None:
        """Requeue or end the jobs of lost workers, then send what has no message."""
        for job_id, outcome in self._store.reclaim_lost().items():
            log.warning("worker lost job=%s outcome=%s", job_id, outcome)
            if outcome != "queued":
                self._artifacts.delete(ArtifactKey.checkpoint(job_id))
        for job_id in self._store.unsent(SOON_MS, LATE_MS):
            log.info("sent again job=%s", job_id)
            broker.send(self._celery, job_id)

    def sweep(self) -> None:
        """Delete what has expired."""
        deleted = asyncio.run(self._sweep())
        if deleted:
            log.info("swept jobs=%d", deleted)

    async def _sweep(self) -> int:
        client = JobClient.from_settings(self._settings)
        try:
            return await client.sweep()
        finally:
            await client.close()
