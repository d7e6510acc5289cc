"""What `make load` does, with few clients: every event comes to each of them, once and in order."""

from __future__ import annotations

import math

import pytest
from load import EXPECTED, Options, run

pytestmark = pytest.mark.integration


def test_no_client_loses_an_event() -> None:
    """How long a poll takes is not judged here: tests share their machine."""
    report = run(Options(clients=6, rounds=2, polls=10, most_ratio=math.inf))
    assert report.failures == []
    assert report.events == 2 * 6 * len(EXPECTED)
    assert report.polls_under_load > 0
