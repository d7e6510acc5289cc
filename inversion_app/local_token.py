"""The token of `make serve`: what shows that a caller is the user who started it.

    var/PORT/token        the token. It is made once and kept, so that a page or a client outlives a restart; whoever
                          wants another one deletes the file and starts again
    var/PORT/curl.conf    the same for `curl -K`: on a command line other users would see it
    ~/.local/state/stylegan-inversion/PORT
                          a link to the token while the service runs, where our Python client looks

All of them are for this user alone. The page gets it from the address that is printed, behind the #, which browsers
send to nobody.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "INVERSION_LOCAL_TOKEN"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,200}")


@dataclass(frozen=True, kw_only=True)
class TokenFiles:
    """Where the token of one service lies."""

    state_dir: Path
    port: int

    @property
    def token(self) -> Path:
        return self.state_dir / "token"

    @property
    def curl(self) -> Path:
        return self.state_dir / "curl.conf"

    def prepare(self, environ: Mapping[str, str]) -> str:
        """The token, in both files: that of the environment, or that of before, or a new one. Raises: OSError."""
        token = environ.get(VARIABLE) or self._kept() or f"local_{secrets.token_urlsafe(32)}"
        _write(self.token, token + "\n")
        _write(self.curl, f'header = "Authorization: Bearer {token}"\n')
        return token

    @contextmanager
    def announced(self, environ: Mapping[str, str]) -> Iterator[None]:
        """Have our Python client find the token meanwhile, where there is a home to leave a note in."""
        link = notes_folder(environ) / str(self.port)
        with suppress(OSError, RuntimeError):
            link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            link.unlink(missing_ok=True)
            link.symlink_to(self.token)
        try:
            yield
        finally:
            with suppress(OSError):
                if link.readlink() == self.token:
                    link.unlink()

    def _kept(self) -> str | None:
        with suppress(OSError, UnicodeDecodeError):
            text = self.token.read_text(encoding="ascii").strip()
            return text if _TOKEN.fullmatch(text) else None
        return None


def notes_folder(environ: Mapping[str, str]) -> Path:
    """Where the links are; inversion_client/connection.py looks there."""
    base = environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "stylegan-inversion"


def _write(path: Path, text: str) -> None:
    with open(path, "w", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
