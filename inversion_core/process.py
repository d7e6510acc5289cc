"""How long this process's idle threads wait awake: said when the package is imported, if torch is not there yet.

Torch computes with libgomp's threads, and NNPACK's convolutions (models/convolution.py) with a pool of their own. After
each operation libgomp's threads wait awake for the next one, for some milliseconds, and take the cores that the other
pool, or another process, would compute with: a step at 256 px took a fifth longer for it (docs/log.md). libgomp reads
how long when torch loads it, so import this package before torch where speed matters. What the environment says stands.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

SPINS = "10000"
"""Rounds that an idle thread waits awake, some tenths of a millisecond; libgomp's own number is 300,000."""


def prepare(environment: MutableMapping[str, str]) -> None:
    """Set it in `environment`, unless that says something of it."""
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)


if "torch" not in sys.modules:
    prepare(os.environ)
