"""How both sides connect to Redis."""

from __future__ import annotations

import pytest
from redis import Redis

from inversion_worker.connection import connect, connect_async, connect_streams
from inversion_worker.valkey import EmbeddedValkey

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


async def test_no_connection_looks_for_the_version_of_its_library(valkey: EmbeddedValkey) -> None:
    """It is read from the disk, for each connection anew: what names it to the server has looked."""
    connections = [connect_async(valkey.url), connect_streams(valkey.url)]
    with connect(valkey.url) as blocking, Redis.from_url(valkey.url) as plain:
        assert blocking.ping()
        assert plain.ping()
        for each in connections:
            assert await each.ping()
        named = [bool(client["lib-name"]) for client in plain.client_list()]
    for each in connections:
        await each.aclose()
    assert sorted(named) == [False, False, False, True]
