"""What is said of threads and memory comes in time, and never against what the environment says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from inversion_core import process
from inversion_core.process import WAITING, keep_memory, prepare

pytestmark = pytest.mark.unit

WATCHED = """
import builtins, os, sys
plain = builtins.__import__

def watched(name, *rest, **more):
    if name == "torch" and "torch" not in sys.modules:
        print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY"))
    return plain(name, *rest, **more)

builtins.__import__ = watched
"""


@pytest.mark.parametrize("own", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_what_the_environment_says_stands(own: dict[str, str]) -> None:
    said = dict(own)
    prepare(said)
    assert said == own


def test_else_it_is_said() -> None:
    said: dict[str, str] = {}
    prepare(said)
    assert said == WAITING


@pytest.mark.parametrize("module", ["inversion_core.cli.inverting", "inversion_worker.program"])
def test_it_is_said_before_torch_is_loaded(module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run(
        [sys.executable, "-c", f"{WATCHED}\nimport {module}"], capture_output=True, text=True, timeout=120, check=True,
        env=environment,
    )  # fmt: skip
    assert done.stdout.splitlines()[0] == "10000 active"


CHURN = """
import importlib.util, resource, threading
spec = importlib.util.spec_from_file_location("process", {path!r})
spec.loader.exec_module(importlib.util.module_from_spec(spec))

def churn():
    for size in range(1, 20):
        bytearray(size << 20)

def measure():
    churn()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    churn()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=measure)
thread.start()
thread.join()
"""


def faults(**own: str) -> int:
    """Pages that the system has to hand out again for memory that a thread has freed before."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", CHURN.format(path=process.__file__)], capture_output=True, text=True, timeout=60,
        check=True, env=environment | own,
    )  # fmt: skip
    return int(done.stdout)


needs_glibc = pytest.mark.skipif(process._mallopt() is None, reason="needs glibc")


@needs_glibc
def test_freed_memory_is_kept() -> None:
    assert faults() < 100
    assert faults(MALLOC_TRIM_THRESHOLD_="131072") > 10_000


@pytest.mark.parametrize("own", [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"}])
def test_of_memory_too_what_the_environment_says_stands(own: dict[str, str]) -> None:
    assert not keep_memory(own)


@needs_glibc
def test_tunables_of_something_else_do_not_count() -> None:
    assert keep_memory({"GLIBC_TUNABLES": "glibc.rtld.nns=4"})


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_mallopt", lambda: None)
    assert not keep_memory({})
