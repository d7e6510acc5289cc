"""Log lines as text or JSON, each with what it is about: the request, the job.

What is about a job or a request is said once, with `about`, and is then in every line below it; JSON lines have it as
fields of their own. No line holds a picture, a file name or a key.

What comes from outside can hold line ends and terminal commands. A record is one line all the same: control characters
are written as escapes, and only the lines of a traceback follow it, each indented.
"""

from __future__ import annotations

import codecs
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

_ESCAPES = codecs.lookup("unicode_escape")  # from its file now, not when there is no descriptor left to say so with
LogFormat = Literal["text", "json"]
_context: ContextVar[dict[str, str]] = ContextVar("log_context", default={})  # noqa: B039  it is never changed in place


@contextmanager
def about(**fields: str) -> Iterator[None]:
    """Have these fields in every line that is logged below; empty ones are left out."""
    token = _context.set(_context.get() | {name: value for name, value in fields.items() if value})
    try:
        yield
    finally:
        _context.reset(token)


def current(name: str) -> str:
    """The field of that name here; empty where it is none."""
    return _context.get().get(name, "")


def one_line(text: str) -> str:
    """`text` with all that a terminal or a reader of lines would act upon written as an escape: \\n, \\x1b, \\u202e."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _ESCAPES.encode(each)[0].decode() for each in text)


class _WithContext(logging.Filter):
    """Puts the fields onto the record, where the JSON formatter finds them."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _context.get().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


def handler(form: LogFormat, text: str) -> logging.Handler:
    """Writes to standard error; `text` is the %-format of text lines."""
    found = logging.StreamHandler(sys.stderr)
    found.addFilter(_WithContext())
    found.setFormatter(_json_formatter() if form == "json" else _TextFormatter(text))
    return found


class _TextFormatter(logging.Formatter):
    """A line begins in the first column only where a record does."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record).rstrip("\n"))

    def format(self, record: logging.LogRecord) -> str:
        head, *traceback = super().format(record).split("\n")
        return "\n".join([head, *(f"    {one_line(line)}" for line in traceback)])


class _JsonFormatter(JsonFormatter):
    """Escapes control characters before JSON does: whoever reads the fields may print them."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {
            name: "\n".join(map(one_line, value.split("\n"))) if name == "error" else _safe(value)
            for name, value in super().process_log_record(log_data).items()
        }


def _safe(value: Any) -> Any:
    return one_line(value.rstrip("\n")) if isinstance(value, str) else value


def _json_formatter() -> JsonFormatter:
    return _JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "error"},
        timestamp="time",
    )
