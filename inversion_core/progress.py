"""Progress bars: twice a second on a terminal, twice a minute into a file, where every state stays."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

TERMINAL_S, FILE_S = 0.5, 30.0
"""Seconds between two states of a bar."""


def progress(*args: Any, **settings: Any) -> tqdm[Any]:
    """tqdm, as often as stderr can bear. Arguments are tqdm's."""
    seconds = TERMINAL_S if sys.stderr.isatty() else FILE_S
    return tqdm(*args, **{"mininterval": seconds, "maxinterval": 2 * seconds, **settings})
