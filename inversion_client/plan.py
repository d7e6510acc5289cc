"""What a client does, apart from how it waits: a plan is a generator that asks for one effect after the other.

    plan -- Call(...) --> driver sends it, blocking or awaiting
    plan <-- httpx.Response, or httpx's error raised at the yield

There are two drivers, in client.py and async_client.py, and each is a few lines; all that is decided is decided in
plans, once. httpx does its authentication flows in the same way.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import httpx

T = TypeVar("T")
File = tuple[str, tuple[str, bytes]]
"""Form field, (file name, content)."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request. The reply is its httpx.Response, with its body unless it is a stream's that succeeded."""

    method: str
    path: str
    """Under the service's address."""
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[File] = ()
    json: Any = None
    """A body in JSON; None: there is none."""
    read_timeout_s: float | None = None
    """Longest silence before the answer or between its parts; None takes the client's."""
    stream: bool = False
    """The body is read by Chunk, and ended by Close; one stream at a time."""

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """As httpx sends it."""
        timeout = httpx.Timeout(http.timeout)
        if self.read_timeout_s is not None:
            timeout.read = self.read_timeout_s
        files: list[Any] = list(self.files)
        form = dict(self.form)
        if form and not files:  # httpx would send another kind of form, which the service does not take
            files, form = [(name, (None, value)) for name, value in form.items()], {}
        return http.build_request(
            self.method,
            self.path,
            params=dict(self.params) or None,
            headers=dict(self.headers),
            data=form or None,
            files=files or None,
            json=self.json,
            timeout=timeout,
        )


@dataclass(frozen=True)
class Chunk:
    """The next bytes of the stream; the reply is None at its end."""


@dataclass(frozen=True)
class Close:
    """Done with the stream."""


@dataclass(frozen=True)
class Pause:
    """Some seconds without doing anything."""

    seconds: float


@dataclass(frozen=True)
class Do:
    """Something that reads or writes files; the reply is what it returns."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Emit:
    """A value for whoever iterates."""

    value: Any


Effect: TypeAlias = Call | Chunk | Close | Pause | Do | Emit
Plan: TypeAlias = Generator[Effect, Any, T]


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How to retry requests that got no response or a temporary error."""

    times: int = 5
    """Retries after the first try."""
    first_s: float = 0.5
    """Pause before the first retry; doubles each time, with 25 % jitter."""
    longest_s: float = 60.0
    """Longest pause. If Retry-After is longer, the request is not retried."""

    def __post_init__(self) -> None:
        if self.times < 0 or self.first_s < 0 or self.longest_s < 0:
            raise ValueError("Retries: times and seconds must be 0 or more.")

    def pauses_s(self) -> Iterator[float | None]:
        """The pause after each try, None after the last."""
        for index in range(self.times):
            yield min(self.first_s * 2**index * random.uniform(0.75, 1.25), self.longest_s)
        yield None
