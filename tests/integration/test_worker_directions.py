"""A tenant's own directions, on a real Valkey: kept, bounded, and gone with their files when their time is over."""

from __future__ import annotations

import asyncio
import io
import uuid
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import httpx
import numpy as np
import pytest
from api_process import ApiProcess
from PIL import Image
from worker_process import StartWorker, stored_in

from inversion_worker import directions
from inversion_worker.client import DirectionExists, JobClient, TooManyDirections
from inversion_worker.contract import ArtifactKey, DirectionRecord
from inversion_worker.settings import WorkerSettings

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

STEP = b"step"


def direction(name: str = "smirk", **fields: str) -> DirectionRecord:
    now = datetime.now(UTC)
    given = {"tenant": "t", "pack": "faces-64", "digest": "sha256:ab", "label": "A smirk", "unit": "a smirk", **fields}
    return DirectionRecord(
        id=uuid.uuid4().hex, name=name, low=-1, high=1, source="by hand", created_at=now, expires_at=now, **given
    )


async def leftovers(client: JobClient, artifacts_dir: Path) -> list[str]:
    keys = [key for part in ("direction", "directions") for key in await client._redis.keys(f"inversion:{part}:*")]
    return [*keys, *await client._redis.zrange("inversion:expiry", 0, -1), *stored_in(artifacts_dir)]


async def test_it_is_there_until_it_is_deleted(client: JobClient, artifacts_dir: Path) -> None:
    made = await client.add_direction(direction(), STEP, 60)
    assert (made.expires_at - made.created_at).total_seconds() == 60
    other = await client.add_direction(direction("frown"), STEP, None)
    assert (other.expires_at - other.created_at).days == 90
    assert await client.directions("t") == [made, other]
    assert await client.directions("") == []
    assert await client.read(ArtifactKey.direction(made.id)) == STEP
    assert await client.sweep() == 0
    assert await client.delete_direction(made)
    assert not await client.delete_direction(made)
    assert await client.directions("t") == [other]
    assert await client.read(ArtifactKey.direction(made.id)) is None
    assert await client.delete_direction(other)
    assert await leftovers(client, artifacts_dir) == []


async def test_a_name_is_taken_once_for_each_tenant_and_weights(client: JobClient, artifacts_dir: Path) -> None:
    first = await client.add_direction(direction(), STEP, None)
    for same in (direction(), direction(pack="other-name")):
        with pytest.raises(DirectionExists):
            await client.add_direction(same, STEP, None)
    others = [direction(tenant="u"), direction(digest="sha256:cd"), direction(digest="")]
    made = [await client.add_direction(other, STEP, None) for other in others]
    assert await client.directions("t") == [first, *made[1:]]
    assert len(stored_in(artifacts_dir)) == 4  # nothing of what was refused


async def test_there_are_so_many_at_most(client: JobClient) -> None:
    with mock.patch.object(directions, "MAX_DIRECTIONS", 2):
        made = [await client.add_direction(direction(f"d{number}"), STEP, None) for number in range(2)]
        with pytest.raises(TooManyDirections):
            await client.add_direction(direction("d2"), STEP, None)
        await client.delete_direction(made[0])
        await client.add_direction(direction("d2"), STEP, None)


async def test_of_many_at_once_one_is_kept(client: JobClient, artifacts_dir: Path) -> None:
    tries = [client.add_direction(direction(), STEP, None) for _ in range(8)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(outcome, DirectionRecord) for outcome in outcomes) == 1
    assert len(stored_in(artifacts_dir)) == 1


async def test_when_its_time_is_over_nothing_is_left(client: JobClient, artifacts_dir: Path) -> None:
    made = await client.add_direction(direction(), STEP, 0.2)
    assert await client.directions("t") == [made]
    await asyncio.sleep(0.3)
    assert await client.directions("t") == []
    assert await client.sweep() == 1
    assert await leftovers(client, artifacts_dir) == []


async def test_what_a_crash_leaves_is_swept(client: JobClient, artifacts_dir: Path) -> None:
    with (
        mock.patch.object(directions, "_ACCEPT_S", -1),
        mock.patch.object(directions.Directions, "_enter", side_effect=KeyboardInterrupt),
        mock.patch.object(client._directions, "_delete_files", side_effect=OSError("full")),
        pytest.raises(OSError, match="full"),
    ):
        await client.add_direction(direction(), STEP, 60)
    assert len(stored_in(artifacts_dir)) == 1
    assert await client.sweep() == 1
    assert await leftovers(client, artifacts_dir) == []


def test_a_strip_and_a_render_with_ones_own(
    settings: WorkerSettings, tmp_path: Path, start_worker: StartWorker
) -> None:
    """Over HTTP, with the real library."""
    start_worker(real=True, INVERSION_DEFAULT_PACK="faces-64", INVERSION_SLOTS=1)
    place = {"INVERSION_REDIS_URL": settings.redis_url, "INVERSION_ARTIFACTS_URL": settings.artifacts_url}
    api = ApiProcess(place, tmp_path / "api.log")
    try:
        api.wait_ready()
        with httpx.Client(base_url=api.url, timeout=60) as http:
            url = "/v1/packs/faces-64/directions"
            names = [each["name"] for each in http.get(url).json()["directions"]]
            assert "smile" in names
            step = np.zeros((10, 256), np.float32)
            step[:5] = 0.2
            buffer = io.BytesIO()
            np.save(buffer, step)
            made = http.post(url, files={"direction": ("d.npy", buffer.getvalue())}, data={"name": "mine"})
            assert made.status_code == 201, made.text
            for name in ("smile", "mine"):
                strip = Image.open(io.BytesIO(http.get(f"{url}/{name}/strip?format=png&side=64").content))
                pictures = [np.asarray(strip.crop((66 * i, 0, 66 * i + 64, 64)), float) for i in range(5)]
                differences = [np.abs(picture - pictures[2]).mean() for picture in pictures]
                assert differences[0] > differences[1] > 0.5
                assert differences[4] > differences[3] > 0.5
            order = {"source": {"seed": 1}, "edits": [{"direction": "mine", "strength": 1}], "as": "latents"}
            moved, plain = (
                np.array(http.post("/v1/renders", json={**order, "edits": edits}).json()["latents"])
                for edits in (order["edits"], [])
            )
            assert np.allclose(moved - plain, step, atol=1e-5)
            assert http.delete(f"{url}/mine").status_code == 204
            assert http.post("/v1/renders", json=order).json()["type"] == "/problems/option-invalid"
    finally:
        api.kill()
