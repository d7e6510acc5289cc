"""What both clients are made with."""

from __future__ import annotations

import ipaddress
import os
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S = 30.0
KEY_VARIABLE = "INVERSION_API_KEY"


def http_arguments(url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Arguments of httpx.Client and httpx.AsyncClient. Raises: ValueError."""
    parts = httpx.URL(url)
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ValueError(f"url is {url!r}: it begins with http:// or https:// and a host.")
    if timeout_s <= 0:
        raise ValueError(f"timeout_s is {timeout_s}: it must be more than 0.")
    key = api_key if api_key is not None else os.environ.get(KEY_VARIABLE) or local_token(parts)
    if not key.isascii() or any(character <= " " for character in key):
        raise ValueError("The API key holds characters that no key has. Was it copied with a space or a line's end?")
    headers = {"User-Agent": f"inversion-client/{_version()}"}
    headers |= {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": parts, "timeout": timeout_s, "headers": headers}


def local_token(url: httpx.URL) -> str:
    """The token of a `make serve` that this user has running on this machine at that port; empty where there is none.

    The service leaves a link to it: see inversion_app/local_token.py. It is sent to this machine alone.
    """
    if not _is_this_machine(url.host):
        return ""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        return (Path(base) / "stylegan-inversion" / str(port)).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _version() -> str:
    try:
        return metadata.version("stylegan-inversion")
    except metadata.PackageNotFoundError:  # from a folder that nobody installed
        return "0"
