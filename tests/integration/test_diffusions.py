"""A diffusion as a job: its two photos reach the worker, and stay together when it is repeated or gone on from."""

from __future__ import annotations

from pathlib import Path

import pytest
from worker_process import StartWorker, finished, stored_in

from inversion_worker.client import JobClient, Stored, Submission
from inversion_worker.contract import ArtifactKey, DiffusionRecord, JobOptions, JobStatus

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SPEC = DiffusionRecord.model_validate({"weight": 0.25, "face_index": 1, "mask": {"box": [0.2, 0.2, 0.8, 0.8]}})


async def test_the_worker_gets_both_photos(
    client: JobClient, start_worker: StartWorker, photo: bytes, large_photo: bytes
) -> None:
    start_worker(FAKE_STEP_S=0)
    job = await client.submit_one(
        Submission(photo=photo, options=JobOptions(steps=3), diffusion=SPEC, face=large_photo)
    )
    record = await finished(client, job.id)
    assert (record.status, record.diffusion) == (JobStatus.SUCCEEDED, SPEC)


async def test_without_the_face_it_fails(client: JobClient, start_worker: StartWorker, photo: bytes) -> None:
    start_worker(FAKE_STEP_S=0)
    job = await client.submit_one(Submission(photo=photo, options=JobOptions(steps=3), diffusion=SPEC))
    record = await finished(client, job.id)
    assert record.error is not None
    assert record.error.type == "/problems/photo-missing"


async def test_both_photos_stay_together(client: JobClient, artifacts_dir: Path) -> None:
    first = await client.submit_one(Submission(photo=b"context", options=JobOptions(), diffusion=SPEC, face=b"face"))
    await client.cancel(first.id)
    again = await client.retry(first)
    assert again is not None
    copied = await client.submit_one(
        Submission(
            photo=Stored(ArtifactKey.photo(first.id)),
            options=JobOptions(),
            diffusion=first.diffusion,
            face=Stored(ArtifactKey.face(first.id)),
        )
    )
    await client.delete(first.id)
    for record in (again, copied):
        assert record.diffusion == SPEC
        assert await client.read(ArtifactKey.photo(record.id)) == b"context"
        assert await client.read(ArtifactKey.face(record.id)) == b"face"
        await client.delete(record.id)
    assert stored_in(artifacts_dir) == []
