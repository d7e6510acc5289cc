"""Who is compared: each classic optimizer at the paper's settings and tuned, each learned one as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inversion_core.benchmark.optimizers.config import BASELINE, SECOND_BASELINE
from inversion_core.benchmark.optimizers.tuned import Tuned
from inversion_core.optimizers import CLASSIC
from inversion_core.packs import Pack

PAPER_RATE = 0.01
"""The constant rate of the paper's Adam."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """An optimizer with settings."""

    name: str
    tuned: bool
    """A classic one with rate, warm-up and cosine tuned; False at the paper's settings, and for learned ones."""
    settings: Mapping[str, Any] | None
    """Of a classic one; None leaves the pack's: those of a learned one."""

    @property
    def is_classic(self) -> bool:
        return self.settings is not None

    @property
    def label(self) -> str:
        """Its name in tables and figures."""
        return f"{self.name} tuned" if self.tuned else self.name

    def of(self, pack: Pack) -> Pack:
        """The pack with these settings, so that `invert` makes the optimizer as it does for everyone."""
        if self.settings is None:
            return pack
        return pack.changed(optimizers={**pack.manifest.optimizers, self.name: self.settings})


def contenders(names: Sequence[str], tuned: Mapping[str, Tuned]) -> list[Contender]:
    """Classic ones at the paper's settings, then learned ones, then the classic ones tuned."""
    classic = [name for name in names if name in CLASSIC]
    paper = {name: {"learning_rate": PAPER_RATE} if name == BASELINE else tuned[name].constant for name in classic}
    return [
        *(Contender(name=name, tuned=False, settings=paper[name]) for name in classic),
        *(Contender(name=name, tuned=False, settings=None) for name in names if name not in CLASSIC),
        *(Contender(name=name, tuned=True, settings=tuned[name].scheduled) for name in classic),
    ]


def baselines(everybody: Sequence[Contender]) -> list[Contender]:
    """The paper's Adam, SGD at its best constant rate where it is there, and tuned Adam."""
    wanted = [(BASELINE, False), (SECOND_BASELINE, False), (BASELINE, True)]
    return [each for key in wanted for each in everybody if (each.name, each.tuned) == key]


def table(everybody: Sequence[Contender], *, tuned: bool) -> list[Contender]:
    """Those of the table of the paper's settings, or of the tuned one; learned ones are in both."""
    return [each for each in everybody if not each.is_classic or each.tuned == tuned]
