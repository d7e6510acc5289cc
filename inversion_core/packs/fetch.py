"""Download one file over HTTPS, with bounds, against a SHA-256 that somebody trusts."""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from email.message import Message
from pathlib import Path
from typing import IO, Any, Protocol

from inversion_core.errors import OptionInvalid, PackInvalid, PackNotFound

TIMEOUT_S = 60.0
"""Longest silence of a server."""
CHUNK_BYTES = 2**20
AGENT = "stylegan-inversion"


class Answer(Protocol):
    """What of a response is read."""

    def read(self, size: int, /) -> bytes: ...


OpenUrl = Callable[[str], AbstractContextManager[Answer]]


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects that stay under https."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.lower().startswith("https://"):
            raise OSError(f"it redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def open_https(url: str) -> Any:
    """A response to GET; proxies and certificates as Python has them."""
    opener = urllib.request.build_opener(_HttpsOnly)
    return opener.open(urllib.request.Request(url, headers={"User-Agent": AGENT}), timeout=TIMEOUT_S)


def fetch(url: str, sha256: str, to: Path, *, most_bytes: int, open_url: OpenUrl = open_https) -> None:
    """Write what a URL holds to a file.

    Raises:
        OptionInvalid: the URL is not under https.
        PackNotFound: it could not be downloaded.
        PackInvalid: it is longer than `most_bytes`, or another file than that of the SHA-256.
    """
    if not url.lower().startswith("https://"):
        raise OptionInvalid(f"{url} is not under https; give an https URL, a file or a folder")
    found, left = hashlib.sha256(), most_bytes
    try:
        with open_url(url) as answer, to.open("wb") as file:
            while chunk := answer.read(CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    raise PackInvalid(f"{url} is longer than {most_bytes} bytes, which no pack is. Check the URL")
                found.update(chunk)
                file.write(chunk)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a URL that cannot be
        raise PackNotFound(
            f"{url} could not be downloaded ({error}). Check the URL, or download the file by other means and give it "
            f"as a file"
        ) from error
    if found.hexdigest() != sha256:
        raise PackInvalid(
            f"{url} has the SHA-256 {found.hexdigest()}, not {sha256}: it is another file, or was changed on its way. "
            f"Nothing was installed"
        )
