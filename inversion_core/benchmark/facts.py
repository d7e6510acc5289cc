"""What a figure needs beside it to be believed: hardware, versions, commit and command."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import torch


def machine_facts(device: str) -> dict[str, str]:
    """Device, threads, versions, commit and the command that runs now."""
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
        "command": "inversion " + " ".join(sys.argv[1:]),
    }


def facts_list(facts: dict[str, str]) -> str:
    """The facts as a markdown list."""
    return "\n".join(f"- {key}: {value}" for key, value in facts.items())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


def _commit() -> str:
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
