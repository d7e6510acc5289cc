"""Whose files: several services on one store, a server that has lost its data, a store of an earlier release."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from worker_process import StartWorker, finished, own_folder, stored_in

from inversion_worker.artifacts import ArtifactStore
from inversion_worker.client import JobClient
from inversion_worker.connection import connect
from inversion_worker.contract import ArtifactKey, JobOptions, JobStatus
from inversion_worker.owner import Owner
from inversion_worker.settings import WorkerSettings
from inversion_worker.valkey import EmbeddedValkey

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


@pytest.fixture
async def neighbour(tmp_path: Path, settings: WorkerSettings) -> AsyncIterator[JobClient]:
    """A service with a server of its own on the same store."""
    with EmbeddedValkey(tmp_path / "other") as server:
        client = JobClient.from_settings(settings.model_copy(update={"redis_url": server.url}))
        yield client
        await client.close()


async def age_orphans(client: JobClient) -> None:
    """What a sweep has noticed, it noticed a day ago."""
    for name in await client._redis.zrange("inversion:orphans", 0, -1):
        await client._redis.zincrby("inversion:orphans", -24 * 3600 * 1000, name)


async def test_two_services_on_one_store_leave_each_other_alone(
    client: JobClient, neighbour: JobClient, artifacts_dir: Path
) -> None:
    mine, theirs = [await each.submit(b"photo", JobOptions()) for each in (client, neighbour)]
    for _ in range(2):
        for each in (client, neighbour):
            assert await each.sweep() == 0
            await age_orphans(each)
    for each, job in ((client, mine), (neighbour, theirs)):
        assert await each.read(ArtifactKey.photo(job.id)) == b"photo"
        assert "other owners" in each.notes[0]
    assert await neighbour.read(ArtifactKey.photo(mine.id)) is None
    assert len([path for path in artifacts_dir.iterdir() if (path / "OWNER.txt").exists()]) == 2


async def test_a_server_that_came_back_empty_deletes_nothing(
    client: JobClient, settings: WorkerSettings, artifacts_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = await client.submit(b"photo", JobOptions())
    before = own_folder(artifacts_dir)
    await client._redis.flushall()
    with caplog.at_level(logging.WARNING):
        again = JobClient.from_settings(settings)
        try:
            for _ in range(3):
                assert await again.sweep() == 0
                await age_orphans(again)
            assert again.notes
        finally:
            await again.close()
    assert (before / job.id / "photo").read_bytes() == b"photo"
    assert f"nothing is deleted in {before.name}" in caplog.text


async def test_a_process_that_lives_on_learns_of_it(settings: WorkerSettings, artifacts_dir: Path) -> None:
    redis = connect(settings.redis_url)
    owner = Owner(redis)
    first = owner.id()
    redis.delete("inversion:owner")
    assert owner.id() == first  # told a moment ago
    owner._told_s -= 60
    assert owner.id() not in (first, None)
    owner.close()


async def test_a_store_without_its_mark_is_told_of(
    client: JobClient, settings: WorkerSettings, artifacts_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = await client.submit(b"photo", JobOptions())
    (own_folder(artifacts_dir) / "OWNER.txt").unlink()
    again = JobClient.from_settings(settings)
    assert await again.read(ArtifactKey.photo(job.id)) == b"photo"
    await again.close()
    assert "had lost its mark" in caplog.text
    assert (own_folder(artifacts_dir) / "OWNER.txt").exists()


async def test_jobs_of_an_earlier_release_go_on_where_they_lie(
    client: JobClient, start_worker: StartWorker, photo: bytes, artifacts_dir: Path
) -> None:
    queued = await client.submit(photo, JobOptions(steps=1))
    (own_folder(artifacts_dir) / queued.id).rename(artifacts_dir / queued.id)
    client._artifacts._homes.clear()  # as after the upgrade
    start_worker()
    assert (await finished(client, queued.id)).status is JobStatus.SUCCEEDED
    assert await client.read(ArtifactKey.latents(queued.id)) is not None
    assert (artifacts_dir / queued.id / "latents.npy").exists()
    assert await client.delete(queued.id)
    assert stored_in(artifacts_dir) == []


@pytest.mark.parametrize("scheme", ["file", "memory"])
async def test_any_file_system_has_owners(settings: WorkerSettings, tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}://{tmp_path}/store"
    plain, owned = ArtifactStore(url), ArtifactStore(url, Owner(connect(settings.redis_url)))
    old, new = 32 * "a", 32 * "b"
    plain.write(f"{old}/photo", b"1")
    plain.write("holiday-photos/beach.jpg", b"2")
    owned.write(f"{new}/photo", b"3")
    assert (owned.read(f"{old}/photo"), owned.read(f"{new}/photo"), plain.read(f"{new}/photo")) == (b"1", b"3", None)
    assert (owned.job_ids(), owned.others()) == ([new], [])
    for job_id in (old, new):
        owned.delete_job(job_id)
    assert (owned.read(f"{old}/photo"), owned.read(f"{new}/photo"), owned.job_ids()) == (None, None, [])
    assert plain.read("holiday-photos/beach.jpg") == b"2"
    owned.close()
