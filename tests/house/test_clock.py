"""There is one clock, that of the Redis server: neither app nor worker reads the wall clock of its own host.

Whatever one process stores or sends is read by another one on another host, and the clocks of hosts differ. Time spans
within a process are `time.monotonic()`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PACKAGES = ("inversion_app", "inversion_worker")
READS = {
    "time": {"time", "time_ns", "localtime", "gmtime", "ctime", "asctime", "strftime", "clock_gettime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}
ALLOWED: dict[str, str] = {}
"""File, and why its own clock is the right one there."""


def reads(source: str) -> Iterator[str]:
    """Where a module takes the wall clock: time.time(), datetime.now(), date.today() and the like, by any name."""
    tree = ast.parse(source)
    names = {kind: {kind} for kind in READS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names.get(alias.name, set()).add(alias.asname or alias.name)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if node.module == "time" and alias.name in READS["time"]:
                    yield f"line {node.lineno}: from time import {alias.name}"
                if node.module == "datetime" and alias.name in names:
                    names[alias.name].add(alias.asname or alias.name)
    for node in ast.walk(tree):
        of = name_of(node.value) if isinstance(node, ast.Attribute) else None
        if isinstance(node, ast.Attribute) and any(node.attr in READS[kind] and of in names[kind] for kind in READS):
            yield f"line {node.lineno}: {of}.{node.attr}"


def name_of(node: ast.expr) -> str | None:
    """`datetime` of datetime, and of datetime.datetime."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


@pytest.mark.parametrize("package", PACKAGES)
def test_nobody_reads_the_wall_clock(package: str) -> None:
    found = {
        f"{path.relative_to(ROOT)} {place}"
        for path in sorted((ROOT / package).rglob("*.py"))
        if str(path.relative_to(ROOT)) not in ALLOWED
        for place in reads(path.read_text())
    }
    assert not found, f"take the time from the server (inversion_worker/clock.py), or say why not in {__file__}"


@pytest.mark.parametrize(
    "line",
    [
        "import time; time.time()", "import time as t; t.time_ns()", "from time import time",
        "from datetime import datetime; datetime.now()", "import datetime; datetime.datetime.utcnow()",
        "from datetime import datetime as dt; clock = dt.now", "from datetime import date; date.today()",
    ],
)  # fmt: skip
def test_each_way_is_seen(line: str) -> None:
    assert list(reads(line))


@pytest.mark.parametrize("line", ["import time; time.monotonic()", "from datetime import datetime; datetime.max"])
def test_spans_are_free(line: str) -> None:
    assert not list(reads(line))
