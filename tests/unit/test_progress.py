"""A bar moves where somebody looks, and leaves few lines where nobody does."""

from __future__ import annotations

import io
import sys

import pytest

from inversion_core.progress import FILE_S, TERMINAL_S, progress


@pytest.mark.parametrize(("is_terminal", "seconds"), [(True, TERMINAL_S), (False, FILE_S)], ids=["terminal", "file"])
def test_how_often_a_bar_is_drawn(monkeypatch: pytest.MonkeyPatch, is_terminal: bool, seconds: float) -> None:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stderr", out)
    with progress(range(200), desc="turns", unit="turn") as bar:
        assert list(bar) == [*range(200)]
        assert (bar.mininterval, bar.maxinterval) == (seconds, 2 * seconds)
    first, last = out.getvalue().count("0/200"), out.getvalue().count("200/200")
    assert (first, last) == (2, 1)  # "200/200" ends as "0/200" begins
    with progress(range(2), mininterval=0.1, disable=True) as bar:
        assert list(bar) == [0, 1]
