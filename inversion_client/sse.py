"""Server-Sent Events out of the bytes of a stream (HTML standard, section 9.2.6).

Lines end with CR, LF or both, and with nothing else: str.splitlines() would also cut at characters that JSON holds.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\n|\r(?=[^\n])")  # a CR that came last may be half of a CRLF: it waits


@dataclass(frozen=True, kw_only=True)
class Message:
    """One event, as the stream had it."""

    id: str
    event: str
    data: str


class Decoder:
    """Of one connection. What has not come to its blank line when the connection ends is no event."""

    def __init__(self) -> None:
        self.retry_s: float | None = None
        """How long the server wants clients to wait before they connect again."""
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._text = ""
        self._id = ""
        self._event = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Message]:
        """The events that are complete now."""
        *lines, self._text = _LINE_END.split(self._text + self._utf8.decode(chunk))
        return [message for line in lines if (message := self._take(line)) is not None]

    def _take(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdecimal():
            self.retry_s = int(value) / 1000
        return None  # a line that begins with a colon is a comment, to keep the connection open

    def _dispatch(self) -> Message | None:
        data, self._data = self._data, []
        event, self._event = self._event, ""
        return Message(id=self._id, event=event or "message", data="\n".join(data)) if data else None
