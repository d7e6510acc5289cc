"""For every test: one thread for Torch, and no silent skips where everything must run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

# Before Torch is imported: two test processes with two threads each are many times slower on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What somebody has installed for themselves is no part of a test.
os.environ["XDG_DATA_HOME"] = str(Path(tempfile.gettempdir()) / "inversion-tests-data")

REQUIRE_ALL = "INVERSION_REQUIRE_ALL"
MUST_RUN = ("integration", "e2e")


TOGETHER = ("e2e", "house", "integration")
"""Folders whose tests start services of their own: one process runs them all, one service at a time."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Browser tests last, and for each test the group that one process of `pytest -n 2` takes as a whole."""
    items.sort(key=lambda item: "e2e" in item.path.parts)
    for item in items if config.pluginmanager.hasplugin("xdist") else []:
        folder = item.path.parent.name
        group = "services" if folder in TOGETHER else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))


def must_run(node: pytest.Item | pytest.Collector) -> bool:
    """Whether a skip of this test, or of a file of tests, is a failure here."""
    if os.environ.get(REQUIRE_ALL, "0") in ("", "0"):
        return False
    folders = node.path.relative_to(node.config.rootpath).parts[:-1]
    return any(name in folders or node.get_closest_marker(name) for name in MUST_RUN)


def fail_if_skipped(report: pytest.TestReport | pytest.CollectReport, node: pytest.Item | pytest.Collector) -> None:
    """Turn a skip into a failure that gives the skip's reason; an expected failure stays one."""
    if report.skipped and must_run(node) and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{REQUIRE_ALL} is set, so this may not be skipped. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_if_skipped(report, item)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_if_skipped(report, collector)
    return report
