"""Child processes that live and die together; `inversion_app/serve.py` says which.

Three things are promised:
- the first child that ends by itself is reported in `Children.first_death`;
- leaving the `async with` stops all of them, the last one started first: SIGTERM, then SIGKILL;
- none outlives this process, even when it is killed with SIGKILL (Linux only: the kernel tells the child).

Nobody is left then to follow a SIGTERM up with a SIGKILL, so by default the kernel sends SIGKILL itself: a
worker's leases and checkpoints and the artifact store's atomic writes are made for just that.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that this process gets when its parent ends."""
LINE_LIMIT_BYTES = 1 << 20
"""Longest line of output that is passed on in one piece."""

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(by: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent ends, however it does (Linux alone)."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, by, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Death:
    """A child that ended although nobody asked it to."""

    name: str
    returncode: int
    """Exit status; minus the signal's number where a signal ended it."""

    def __str__(self) -> str:
        if self.returncode < 0:
            return f"{self.name} was ended by {signal.Signals(-self.returncode).name}"
        return f"{self.name} ended with exit status {self.returncode}"


class Child:
    """One running child process, and the task that passes its output on."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, answer: re.Pattern[str] | None) -> None:
        self.name = name
        self.process = process
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """First line of output that matches the pattern `answer`: its message to the others."""
        self._answer_pattern = answer
        self._forwarding = asyncio.create_task(self._forward())

    async def _forward(self) -> None:
        """Print each line of output behind the child's name; the answer is kept instead."""
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            line = _printable(raw.decode(errors="replace").rstrip())
            if self._answer_pattern and not self.answer.done() and self._answer_pattern.match(line):
                self.answer.set_result(line)
            else:
                print(f"{self.name:>6} | {line}", flush=True)

    async def stop(self, grace_s: float) -> None:
        """End the child and what it started: SIGTERM, `grace_s` seconds to comply, SIGKILL to its group."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), grace_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # it leads its own group: see Children.start
        await self.process.wait()
        await self.drain()

    async def drain(self) -> None:
        """Let what the child has said be printed; a grandchild that holds the pipe open is not waited for."""
        await asyncio.wait({self._forwarding}, timeout=1.0)


def _printable(line: str) -> str:
    """What a terminal would act upon, as escapes: a child may repeat what it was sent."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)


class Children:
    """The children of one supervisor. Use as `async with Children() as children`."""

    def __init__(self, *, grace_s: float = 15.0) -> None:
        self.grace_s = grace_s
        """Seconds a child may take to end after SIGTERM; may be lowered while it is being stopped."""
        self.first_death: asyncio.Future[Death] = asyncio.get_running_loop().create_future()
        self._children: list[Child] = []
        self._watching: set[asyncio.Task[None]] = set()

    async def start(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        answer: re.Pattern[str] | None = None,
        pass_fds: Sequence[int] = (),
        orphaned_by: signal.Signals = signal.SIGKILL,
    ) -> Child:
        """Start `argv` under `name`. Its output is passed on; its end is watched from now on.

        Args:
            orphaned_by: what it gets when this process is killed; SIGTERM is for one that has something to end itself.
        """
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_LIMIT_BYTES,
            pass_fds=pass_fds,
            start_new_session=True,  # Ctrl-C in the terminal reaches only us, and we stop them in order
            preexec_fn=partial(die_with_parent, orphaned_by),
        )
        child = Child(name, process, answer)
        self._children.append(child)
        watch = asyncio.create_task(self._watch(child))
        self._watching.add(watch)
        return child

    async def _watch(self, child: Child) -> None:
        returncode = await child.process.wait()
        await child.drain()
        if not self.first_death.done():
            self.first_death.set_result(Death(name=child.name, returncode=returncode))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for watch in self._watching:
            watch.cancel()
        for child in reversed(self._children):
            await child.stop(self.grace_s)
