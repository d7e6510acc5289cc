"""How many CPU threads a step gets: whatever is fastest just now, found by trying.

Beside other busy processes, threads that wait for each other collapse: with two threads on two cores, one of which
is busy elsewhere, a step was measured to take up to 15 times as long as with one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

TRY_EVERY = 50
"""Steps between two tries of another number."""
SUSPICIOUS = 2.0
"""A step that takes so many times as long as usual is reason to try at once."""
BETTER = 0.93
"""A larger number is taken when its step takes no more than this part of the usual time."""
NO_WORSE = 1.05
"""The same for a smaller one: what it leaves free encodes frames and answers requests meanwhile. Two cores of a virtual
machine are often one, and then two threads are no faster at all."""
MEMORY = 0.3
"""Weight of the newest step in the usual time."""


class ThreadGovernor:
    """Ask `count` before a step, and tell it with `note` how long that took. Deterministic, and keeps no time itself.

    A try is two steps with another number: the first one pays for waking threads up, the second one counts.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        """`counts` are the numbers to choose from; the first one is used first."""
        if not counts or min(counts) < 1:
            raise ValueError(f"thread counts are {counts}; at least one is needed, each at least 1")
        self._counts = list(counts)
        self._best = self._counts[0]
        self._usual_s: float | None = None
        self._kind: Hashable = None
        self._until_try = 3  # soon after the start: the first guess may be far off
        self._trying: int | None = None
        self._tried_steps = 0
        self._next = 0

    @property
    def count(self) -> int:
        """Threads for the next step."""
        return self._best if self._trying is None else self._trying

    def note(self, kind: Hashable, seconds: float) -> None:
        """A step took so long; those of one `kind` (pack, rows) do the same work, and only they are compared."""
        if len(self._counts) == 1:
            return
        if kind != self._kind:
            self._kind, self._usual_s, self._trying = kind, None, None
            return
        if self._trying is None:
            self._note_usual(seconds)
        else:
            self._note_try(seconds)

    def _note_usual(self, seconds: float) -> None:
        usual_s = self._usual_s
        self._until_try -= 1
        if usual_s is not None and (self._until_try <= 0 or seconds > SUSPICIOUS * usual_s):
            self._begin_try(seconds if seconds > SUSPICIOUS * usual_s else usual_s)
        else:
            self._usual_s = seconds if usual_s is None else (1 - MEMORY) * usual_s + MEMORY * seconds

    def _begin_try(self, usual_s: float) -> None:
        self._usual_s = usual_s
        others = [count for count in self._counts if count != self._best]
        self._trying = others[self._next % len(others)]
        self._next += 1
        self._tried_steps = 0

    def _note_try(self, seconds: float) -> None:
        self._tried_steps += 1
        if self._tried_steps < 2:
            return
        assert self._trying is not None
        assert self._usual_s is not None
        if seconds < (BETTER if self._trying > self._best else NO_WORSE) * self._usual_s:
            self._best, self._usual_s = self._trying, seconds
        self._trying, self._until_try = None, TRY_EVERY
