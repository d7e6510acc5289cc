"""Nobody writes a log line but the service: what comes from outside cannot end one, colour one or turn one round."""

from __future__ import annotations

import io
import json
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from app_service import Service
from hypothesis import given, settings
from hypothesis import strategies as st

from inversion_worker import logs

pytestmark = pytest.mark.unit

FORGED = "/nope\r\nINFO inversion_app request_id=1 GET / 200\x1b[2J\x9b2J\u2028\u202e\x00\x7f"
ENCODED = "/nope%0d%0aINFO%20inversion_app%20request_id=1%20GET%20/%20200%1b%5b2J%c2%9b2J%e2%80%a8%e2%80%ae%00%7f"


@contextmanager
def written(log: logging.Logger, form: logs.LogFormat) -> Iterator[io.StringIO]:
    """What this logger writes meanwhile."""
    handler, out = logs.handler(form, "%(levelname)s %(message)s"), io.StringIO()
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(out)
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel("INFO")
    log.propagate = False
    try:
        yield out
    finally:
        log.removeHandler(handler)
        log.level, log.propagate = before


def new_log() -> logging.Logger:
    return logging.getLogger(f"test.{uuid.uuid4().hex}")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_request_is_one_line(service: Service, form: logs.LogFormat) -> None:
    with written(logging.getLogger("inversion_app.middleware"), form) as out:
        assert service.get(ENCODED).status_code == 404
    (line,) = out.getvalue().splitlines()
    assert line.isprintable()
    message = json.loads(line)["message"] if form == "json" else line
    assert r"/nope\r\nINFO inversion_app" in message
    assert message.isprintable()
    if form == "json":
        assert json.loads(line)["path"].isprintable()


def test_also_where_logging_is_set_up_by_somebody_else(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "inversion_app.middleware"):
        service.get(ENCODED)
    assert [record.getMessage().isprintable() for record in caplog.records] == [True]


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_forges_nothing(form: logs.LogFormat) -> None:
    """A traceback has lines of its own; in text each is indented, so none looks like a record."""
    log = new_log()
    with written(log, form) as out:
        try:
            raise ValueError(FORGED)
        except ValueError:
            log.exception("%s failed", FORGED)
    lines = out.getvalue().split("\n")[:-1]
    assert all(line.isprintable() for line in lines)
    if form == "json":
        (line,) = lines
        said = json.loads(line)
        assert all(each.isprintable() for each in said["error"].split("\n"))
        assert "ValueError" in said["error"]
    else:
        assert lines[0].startswith("ERROR /nope\\r\\nINFO")
        assert len(lines) > 2
        assert all(line.startswith("    ") for line in lines[1:])


@settings(max_examples=40)
@given(st.text(), st.text())
def test_whatever_is_logged_is_one_line(said: str, field: str) -> None:
    log = new_log()
    with written(log, "text") as out:
        log.info("%s", said, extra={"path": field})
    assert out.getvalue().endswith("\n")
    assert out.getvalue()[:-1].isprintable()
    with written(log, "json") as out, logs.about(job_id=field):
        log.info("%s", said)
    (line,) = out.getvalue().splitlines()
    assert all(value.isprintable() for value in json.loads(line).values())


@given(st.text())
def test_what_is_printable_stays_as_it_is(text: str) -> None:
    found = logs.one_line(text)
    assert found.isprintable()
    assert (found == text) == text.isprintable()
