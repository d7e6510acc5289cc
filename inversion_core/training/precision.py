"""Which arithmetic a device is faster at, found by trying: some machines do bfloat16 twenty times slower."""

from __future__ import annotations

import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from inversion_core.models.generators import Synthesis

MARGIN = 1.2
"""bfloat16 must be this many times as fast: a tie goes to float32, also from one start to the next."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def faster_precision(device: str | torch.device, *, repeats: int = 3) -> tuple[str, dict[str, float]]:
    """The faster of float32 and bfloat16 for a small 3x3 convolution, forward and backward; and the ms of each."""
    times_ms = {name: _convolution_ms(torch.device(device), dtype, repeats) for name, dtype in DTYPES.items()}
    wins = times_ms["float32"] > MARGIN * times_ms["bfloat16"]
    return ("bfloat16" if wins else "float32"), times_ms


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context of a training step's forward pass; with float32 it changes nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def synthesize(network: Synthesis, w_BLD: Tensor, precision: str) -> Tensor:
    """Codes (B, L, D) to pictures (B, 3, H, W): style layers in that precision, the last step to RGB in float32."""
    with autocast(w_BLD.device, precision):
        x = network.features(w_BLD)
    return network.rgb(x.float())


def prepare(device: str | torch.device) -> None:
    """Let a CUDA device take its fast ways.

    It may round the factors of float32 products to 10 bits, which is several times as fast and does no visible harm,
    and it tries which of its convolutions is fastest for each shape: a run has few of them.
    """
    if torch.device(device).type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True


def _convolution_ms(device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    # On a GPU large enough that the work counts and not the launch.
    batch, channels, side = (32, 128, 64) if device.type == "cuda" else (2, 64, 16)
    x_BCHW = torch.full((batch, channels, side, side), 0.5, device=device, dtype=dtype, requires_grad=True)
    weight = torch.full((channels, channels, 3, 3), 0.01, device=device, dtype=dtype, requires_grad=True)

    def once() -> float:
        started = time.perf_counter()
        F.conv2d(x_BCHW, weight, padding=1).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - started) * 1e3

    once()  # the first one plans and allocates
    return statistics.median(once() for _ in range(repeats))
