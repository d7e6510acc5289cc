"""`python -m inversion_worker.health`: exit status 0 when a worker of this machine (in a container: this one) is alive.

Alive means that it has announced itself within the last few seconds: its packs are loaded and Redis answers.
"""

from __future__ import annotations

import asyncio
import socket
import sys

from redis.exceptions import RedisError

from inversion_worker.client import ClientSettings, JobClient


async def announced_here(settings: ClientSettings) -> bool:
    """Whether a live worker's id begins with this machine's name.

    Raises: redis.exceptions.RedisError when Redis cannot be reached.
    """
    client = JobClient.from_settings(settings)
    try:
        return any(worker.id.startswith(f"{socket.gethostname()}-") for worker in await client.workers())
    finally:
        await client.close()


def main() -> int:
    try:
        alive = asyncio.run(announced_here(ClientSettings()))
    except RedisError as error:
        print(f"Redis does not answer: {error}", file=sys.stderr)
        return 1
    if not alive:
        print("no worker of this machine has announced itself", file=sys.stderr)
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main())
