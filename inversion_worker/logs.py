"""Log lines as text or JSON, each with what it is about: the request, the job.

What is about a job or a request is said once, with `about`, and is then in every line below it; JSON lines have it as
fields of their own. No line holds a picture, a file name or a key.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

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
    found.setFormatter(_json_formatter() if form == "json" else logging.Formatter(text))
    return found


def _json_formatter() -> JsonFormatter:
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "error"},
        timestamp="time",
    )
