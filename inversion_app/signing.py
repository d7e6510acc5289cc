"""Signatures of webhooks, as Standard Webhooks 1.0 has them (https://www.standardwebhooks.com).

v1 = base64(HMAC-SHA256(key, "{id}.{timestamp}.{body}"))     key: what follows whsec_ in the secret, base64
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
_KEY_BYTES = 32


def make_secret() -> str:
    """A new secret of 256 random bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def check_secret(secret: str) -> str:
    """`secret` itself. Raises: ValueError where it is none."""
    if len(_key(secret)) < 24:  # the least that the standard allows
        raise ValueError(f"A webhook secret is {PREFIX} and the base64 of 24 to 64 random bytes.")
    return secret


def signed_headers(message_id: str, timestamp_s: int, body: bytes, with_secrets: Sequence[str]) -> dict[str, str]:
    """The three headers that let a receiver know whom `body` is from; a signature for each secret."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    found = (hmac.new(_key(secret), signed, hashlib.sha256).digest() for secret in with_secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(each).decode()}" for each in found),
    }


def _key(secret: str) -> bytes:
    text = secret.removeprefix(PREFIX)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"A webhook secret is {PREFIX} and base64 after it.") from error
