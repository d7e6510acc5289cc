"""Memory that an inversion takes on a CPU, measured in a process of its own: nothing of another benchmark is counted.

`python -m inversion_core.benchmark.peak_memory PACK IMAGES PRECISION` prints the largest resident size in bytes.
"""

from __future__ import annotations

import subprocess
import sys

from inversion_core.benchmark.consumption import peak_of_process
from inversion_core.benchmark.engine_loop import MANY_STEPS, EngineLoop, own_pictures
from inversion_core.benchmark.packs import pack_named
from inversion_core.engine.precision import Precision
from inversion_core.inverter import InvertConfig

STEPS = 3
"""The first iterations take the most: kernels are tried, caches filled."""


def peak_bytes_alone(pack: str, images: int, precision: Precision) -> int | None:
    """Of the whole process, library and weights included; None where the system does not tell."""
    command = [sys.executable, "-m", __spec__.name, pack, str(images), precision.value]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout) or None


def main(argv: list[str]) -> int:
    """Invert, and print the peak."""
    name, images, precision = argv
    pack = pack_named(name)
    loop = EngineLoop(
        pack, own_pictures(pack, int(images)), InvertConfig(num_steps=MANY_STEPS, detail_steps=0, focus=0.0),
        precision=Precision(precision),
    )  # fmt: skip
    for _ in range(STEPS):
        loop.step()
    print(peak_of_process() or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
