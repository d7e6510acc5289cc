"""Children live and die together, however their supervisor ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from inversion_app.supervisor import Children

pytestmark = pytest.mark.unit

SLEEPER = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
)
ORPHAN_MAKER = """
import asyncio, os, sys
from inversion_app.supervisor import Children
async def main():
    async with Children() as children:
        child = await children.start("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], os.environ)
        print(child.process.pid, flush=True)
        await children.first_death
asyncio.run(main())
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be collected does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def wait_until(what: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not what() and time.monotonic() < deadline:
        time.sleep(0.05)
    return what()


def test_first_death_names_the_child_and_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    async def scene() -> tuple[str, int]:
        async with Children() as children:
            sleeper = await children.start("sleeper", python(SLEEPER), os.environ)
            await children.start("short", python("print('last words'); raise SystemExit(3)"), os.environ)
            death = await asyncio.wait_for(children.first_death, 20)
            return str(death), sleeper.process.pid

    said, pid = asyncio.run(scene())
    assert said == "short ended with exit status 3"
    assert " short | last words" in capsys.readouterr().out
    assert not is_alive(pid)  # the rest went with it


def test_death_by_signal_is_said() -> None:
    async def scene() -> str:
        async with Children() as children:
            child = await children.start("sleeper", python(SLEEPER), os.environ)
            child.process.kill()
            return str(await asyncio.wait_for(children.first_death, 20))

    assert asyncio.run(scene()) == "sleeper was ended by SIGKILL"


def test_last_started_is_stopped_first(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import signal; print('ready', flush=True); signal.sigwait([signal.SIGTERM]); print('bye')"
    block = f"import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); {code}"

    async def scene() -> None:
        async with Children() as children:
            for name in ("one", "two"):
                child = await children.start(name, python(block), os.environ, answer=re.compile("ready"))
                await asyncio.wait_for(child.answer, 20)

    asyncio.run(scene())
    assert capsys.readouterr().out.split("\n")[:2] == ["   two | bye", "   one | bye"]


def test_child_that_ignores_sigterm_is_killed() -> None:
    async def scene() -> int | None:
        async with Children(grace_s=0.2) as children:
            child = await children.start("stubborn", python(STUBBORN), os.environ, answer=re.compile("ready"))
            await asyncio.wait_for(child.answer, 20)
        return child.process.returncode

    assert asyncio.run(scene()) == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent was killed")
def test_no_orphan_when_the_supervisor_is_killed() -> None:
    with subprocess.Popen(python(ORPHAN_MAKER), stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert is_alive(pid)
        supervisor.kill()
    assert wait_until(lambda: not is_alive(pid))
