"""What an API process does with jobs, as a script: it submits one, sweeps, and prints its record and what it lists."""

from __future__ import annotations

import asyncio
import json
import sys

from inversion_worker.client import ClientSettings, Filters, JobClient
from inversion_worker.contract import JobOptions


async def main() -> None:
    client = JobClient.from_settings(ClientSettings())
    try:
        job = await client.submit(b"photo", JobOptions(ttl=60))
        await client.sweep()
        listed = [record.id for record in (await client.page("", Filters(), None, 10)).records]
        day = (await client.usage("", 1))[0]
        print(json.dumps({"id": job.id, "made": job.created_at.isoformat(), "listed": listed, "used": day.submitted}))
    finally:
        await client.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
