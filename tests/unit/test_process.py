"""How long idle threads wait is said before torch listens, and never against what the environment says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from inversion_core.process import SPINS, prepare

pytestmark = pytest.mark.unit

WATCHED = """
import builtins, os, sys
plain = builtins.__import__

def watched(name, *rest):
    if name == "torch" and "torch" not in sys.modules:
        print(os.environ.get("GOMP_SPINCOUNT"))
    return plain(name, *rest)

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
    assert said == {"GOMP_SPINCOUNT": SPINS}


@pytest.mark.parametrize("module", ["inversion_core.cli", "worker.__main__"])
def test_it_is_said_before_torch_is_loaded(module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", f"{WATCHED}\nimport {module}"], capture_output=True, text=True, timeout=120, check=True,
        env=environment,
    )  # fmt: skip
    assert done.stdout.splitlines()[0] == SPINS
