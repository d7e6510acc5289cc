"""`inversion-keys`: make, list and revoke API keys, and show the secret that signs a tenant's webhooks.

    inversion-keys create NAME [--tenant T] [--scope read --scope write]
    inversion-keys list
    inversion-keys revoke ID
    inversion-keys secret TENANT [--rotate]

It asks INVERSION_REDIS_URL, or else the Valkey of the `make serve` that runs in this folder.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from redis.exceptions import RedisError

from inversion_app.keys import KeyStore, Scope
from inversion_worker.client import ClientSettings, connect_async

DEFAULT_SCOPES = (Scope.READ, Scope.WRITE)


class CannotReach(Exception):
    """A sentence for the person at the terminal."""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="inversion-keys", description="API keys of the inversion service.")
    parser.add_argument("--port", type=int, default=8000, help="port of the `make serve` to ask (default: %(default)s)")
    parser.add_argument("--state-dir", type=Path, help="its state folder, if not var/PORT")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="create a key and print it, once")
    create.add_argument("name", help="who or what will use it")
    create.add_argument("--tenant", help="tenant; its keys share their inversions (default: a new one)")
    create.add_argument(
        "--scope", action="append", choices=[scope.value for scope in Scope], help="default: read and write"
    )
    commands.add_parser("list", help="list all keys, without their secrets")
    revoke = commands.add_parser("revoke", help="revoke a key; takes effect within seconds")
    revoke.add_argument("id", help="the id that `list` shows")
    secret = commands.add_parser("secret", help="print the secret that signs a tenant's webhooks")
    secret.add_argument("tenant")
    secret.add_argument(
        "--rotate", action="store_true", help="create a new secret; the old one also signs until the next rotation"
    )
    return parser.parse_args(argv)


def redis_url(args: argparse.Namespace) -> str:
    """Where the keys are. Raises: CannotReach when that cannot be told."""
    if os.environ.get("INVERSION_REDIS_URL"):
        return ClientSettings().redis_url
    note = (args.state_dir or Path("var") / str(args.port)) / "redis-url"
    try:
        return note.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CannotReach(
            f"No service runs here ({note} is not there). Start it with `make serve`, or set INVERSION_REDIS_URL."
        ) from error


async def run(args: argparse.Namespace, url: str) -> int:
    redis = connect_async(url)
    try:
        return await _do(args, KeyStore(redis))
    finally:
        await redis.aclose()


async def _do(args: argparse.Namespace, keys: KeyStore) -> int:
    match args.command:
        case "create":
            return await _create(args, keys)
        case "list":
            return await _list(keys)
        case "revoke":
            return await _revoke(args.id, keys)
        case _:
            return await _secret(args.tenant, args.rotate, keys)


async def _create(args: argparse.Namespace, keys: KeyStore) -> int:
    scopes = [Scope(scope) for scope in args.scope or DEFAULT_SCOPES]
    key, token = await keys.create(args.name, args.tenant, scopes)
    print(token)  # alone on standard output: key=$(inversion-keys create me)
    note(f"id {key.id}, tenant {key.tenant}, scopes {', '.join(sorted(key.scopes))}. Keep it: it is not shown again.")
    note(f"Send it as the header  Authorization: Bearer {token[:16]}...")
    return 0


async def _list(keys: KeyStore) -> int:
    print(f"{'id':12}  {'tenant':16}  {'scopes':16}  {'made':10}  {'last used':16}  name")
    for key in await keys.every():
        used = key.used_at.strftime("%Y-%m-%d %H:%M") if key.used_at else "never"
        scopes = ",".join(sorted(key.scopes))
        print(f"{key.id:12}  {key.tenant:16}  {scopes:16}  {key.created_at:%Y-%m-%d}  {used:16}  {key.name}")
    return 0


async def _revoke(key_id: str, keys: KeyStore) -> int:
    if await keys.revoke(key_id):
        note(f"{key_id} is revoked; it opens nothing within a few seconds.")
        return 0
    note(f"There is no key {key_id}; `inversion-keys list` shows them.")
    return 1


async def _secret(tenant: str, rotate: bool, keys: KeyStore) -> int:
    found = await keys.webhook_secrets(tenant)
    if not found:
        note(f"There is no tenant {tenant}; `inversion-keys list` shows them.")
        return 1
    if rotate:
        found = await keys.rotate_webhook_secret(tenant)
    print(found[0])
    return 0


def note(text: str) -> None:
    print(text, file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Entry point of `inversion-keys`; exit status 0: done, 1: it cannot be, 2: wrong arguments."""
    args = parse_args(argv)
    try:
        return asyncio.run(run(args, redis_url(args)))
    except (CannotReach, ValueError) as error:
        note(str(error))
    except (RedisError, OSError) as error:
        note(f"The server that holds the keys does not answer: {error}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
