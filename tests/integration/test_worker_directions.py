"""A tenant's own directions, on a real Valkey: kept, bounded, and gone with their files when their time is over."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest
from worker_process import stored_in

from inversion_worker import directions
from inversion_worker.client import DirectionExists, JobClient, TooManyDirections
from inversion_worker.contract import ArtifactKey, DirectionRecord

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
