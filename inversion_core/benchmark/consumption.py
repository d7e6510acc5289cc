"""Memory and energy that a piece of work takes, where the system tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CPU_ENERGY = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
"""Microjoules of the first processor package since some time, on machines that count them and let us read them."""


@dataclass
class Consumption:
    """What a piece of work took; None: the system does not tell."""

    peak_bytes: int | None = None
    """Largest memory of torch's tensors on CUDA; None on a CPU, where `peak_of_process` tells."""
    joules: float | None = None
    """Energy of the whole device, whoever used it."""


@contextmanager
def watched(device: torch.device) -> Iterator[Consumption]:
    """What is done inside is in the result after it."""
    used = Consumption()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before_j = _joules(device)
    yield used
    after_j = _joules(device)
    used.peak_bytes = int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None
    if before_j is not None and after_j is not None and after_j >= before_j:
        used.joules = after_j - before_j


def tells_energy(device: torch.device) -> bool:
    """Whether energy can be measured here."""
    return _joules(device) is not None


def peak_of_process() -> int | None:
    """Largest memory that this process has had so far."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def _joules(device: torch.device) -> float | None:
    """Energy since some fixed time."""
    if device.type != "cuda":
        with suppress(OSError, ValueError):
            return int(CPU_ENERGY.read_text()) / 1e6
        return None
    try:
        import pynvml  # comes with no extra of ours: energy is measured where somebody has installed it
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        torch.cuda.synchronize(device)
        handle = pynvml.nvmlDeviceGetHandleByIndex(device.index or 0)
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
    except pynvml.NVMLError:
        return None
