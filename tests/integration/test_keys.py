"""inversion-keys against a real Valkey, and a service that takes what it makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from inversion_app.keys import KeyStore, Scope
from inversion_app.main import create_app
from inversion_app.settings import AppSettings
from inversion_worker.client import connect_async
from inversion_worker.settings import WorkerSettings
from inversion_worker.valkey import EmbeddedValkey

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


def keys(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """inversion-keys in a process of its own, in `folder`."""
    ours = {name: value for name, value in os.environ.items() if name != "INVERSION_REDIS_URL"}
    command = [sys.executable, "-m", "inversion_app.keys_command", *args]
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        command, cwd=folder, env=ours | path | env, capture_output=True, text=True, timeout=60, check=False
    )


async def status(settings: AppSettings, token: str) -> int:
    """What a service with these settings answers to the key."""
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http,
    ):
        answer = await http.get("/v1/packs", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code


async def test_make_list_use_revoke(settings: WorkerSettings, valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """As with `make serve`: the address of the server is a note in its state folder."""
    state = tmp_path / "var" / "8000"
    state.mkdir(parents=True)
    (state / "redis-url").write_text(valkey.url)
    made = keys(tmp_path, "create", "editor", "--tenant", "acme", "--scope", "read")
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()

    listed = keys(tmp_path, "list").stdout
    assert all(part in listed for part in ("editor", "acme", "read", "never"))
    assert token not in listed
    assert await raw(valkey.url, token[17:]) == []  # the secret is nowhere in the server

    service = AppSettings(redis_url=valkey.url, artifacts_url=settings.artifacts_url)
    assert await status(service, token) == 200
    assert "never" not in keys(tmp_path, "list").stdout
    key_id = token.split("_")[1]
    assert keys(tmp_path, "revoke", key_id, INVERSION_REDIS_URL=valkey.url).returncode == 0
    assert await status(service, token) == 401
    assert keys(tmp_path, "revoke", key_id).returncode == 1
    assert key_id not in keys(tmp_path, "list").stdout


async def test_says_what_is_wrong(tmp_path: Path) -> None:
    said = keys(tmp_path, "list")
    assert (said.returncode, "make serve" in said.stderr) == (1, True)
    said = keys(tmp_path, "list", INVERSION_REDIS_URL="unix:///nowhere.sock")
    assert (said.returncode, "does not answer" in said.stderr) == (1, True)
    assert keys(tmp_path, "create", "x", "--scope", "everything").returncode == 2


async def test_webhook_secrets_of_a_tenant(valkey: EmbeddedValkey) -> None:
    redis = connect_async(valkey.url)
    store = KeyStore(redis)
    first, _ = await store.create("one", None, [Scope.READ])
    second, _ = await store.create("two", first.tenant, [Scope.WRITE])
    (secret,) = await store.webhook_secrets(first.tenant)
    assert second.tenant == first.tenant  # and so the same secret
    assert (await store.rotate_webhook_secret(first.tenant))[1] == secret
    rotated = await store.rotate_webhook_secret(first.tenant)
    assert (len(rotated), secret in rotated) == (2, False)
    assert await store.webhook_secrets("nobody") == []
    await redis.aclose()


async def raw(url: str, part: str) -> list[str]:
    """Keys in Redis with `part` in their name or value."""
    redis = connect_async(url)
    found = []
    for name in await redis.keys("*"):
        kind = await redis.type(name)
        value = await (
            redis.hgetall(name) if kind == "hash" else redis.smembers(name) if kind == "set" else redis.get(name)
        )
        if part in f"{name}{value}":
            found.append(name)
    await redis.aclose()
    return found
