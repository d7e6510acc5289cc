"""Who may be called at once: so many calls to one host, and so many for one tenant, from this process.

A receiver that says nothing holds a call for its whole time limit. With these limits it holds up its own messages
alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

PER_HOST = 4
"""Calls to one host at once, whatever its ports."""
PER_TENANT = 16
"""Calls for one tenant at once: names are cheap, so one tenant may have many hosts."""


class Turns:
    """Counts the calls under way; for one event loop."""

    def __init__(self) -> None:
        self._under_way: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def taking(self, url: str, tenant: str) -> Iterator[bool]:
        """Whether the call may be made now; if so it counts until the block ends. An empty tenant is everybody."""
        most = {("host", (urlsplit(url).hostname or "").rstrip(".")): PER_HOST}
        if tenant:
            most["tenant", tenant] = PER_TENANT
        if any(self._under_way[name] >= limit for name, limit in most.items()):
            yield False
            return
        self._under_way.update(most.keys())
        try:
            yield True
        finally:
            self._under_way.subtract(most.keys())
            self._under_way = +self._under_way  # what is zero is forgotten
