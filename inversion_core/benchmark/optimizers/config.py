"""What `inversion benchmark optimizers` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inversion_core.errors import OptionInvalid
from inversion_core.inverter import STARTS
from inversion_core.packs import Pack

BASELINE = "adam"
"""What everything is compared with, at the paper's constant rate and tuned; so it always runs."""
SECOND_BASELINE = "sgd"
"""The paper's other baseline, at its best constant rate."""


@dataclass(frozen=True, kw_only=True)
class OptimizersConfig:
    """What is measured, and how."""

    start: str | None = None
    """One of "encoder", "mean", "random"; None: the encoder where the pack has one, else random."""
    steps: int = 100
    """Iterations of each run; the baselines are taken at the last one."""
    optimizers: tuple[str, ...] = ()
    """Names; none takes all that the pack offers. Adam, the baseline, always runs."""
    tuned: Path | None = None
    """A tuned.json of an earlier run with the same pack, start and steps: nothing is tuned anew."""
    pairs: int = 8
    """Synthetic pairs on which the classic optimizers are tuned."""
    limit: int | None = None
    """Take the first so many photographs, and so many evenly spaced pictures of each archive."""
    held_out: int = 96
    """Of archives: as in training; with another number the pictures may have been trained on."""
    align: bool = True
    """Find and align the face in a photograph, as the service does; else the centre is taken as it is."""
    batch: int = 8
    """Pictures that are inverted together; timing is always of one picture alone."""
    rounds: int = 5
    """Timed runs of each optimizer, all in turns."""
    strips: int = 2
    """Photographs whose pictures on the way are drawn: the first ones."""
    seed: int = 0
    """Of random starts and of the bootstrap."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.start is not None and self.start not in STARTS:
            raise OptionInvalid(f"start is {self.start!r}; choose one of {', '.join(STARTS)}")
        least = {"steps": 1, "pairs": 1, "batch": 1, "rounds": 1, "held_out": 1, "strips": 0, "limit": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise OptionInvalid(f"{name.replace('_', '-')} is {value}; it must be at least {low}")


def start_of(pack: Pack, config: OptimizersConfig) -> str:
    """The start of every run.

    Raises:
        OptionInvalid: the pack cannot make it.
    """
    start = config.start or ("encoder" if pack.has_encoder else "random")
    if start not in pack.manifest.starts:
        raise OptionInvalid(f"pack {pack.name} has no encoder; choose --start mean or random")
    return start


def names_of(pack: Pack, config: OptimizersConfig) -> list[str]:
    """The optimizers of the run in the pack's order, the baseline among them.

    Raises:
        OptionInvalid: the pack does not offer one of them.
    """
    if missing := [name for name in config.optimizers if name not in pack.optimizers]:
        raise OptionInvalid(f"pack {pack.name} has no {', '.join(missing)}; it offers {', '.join(pack.optimizers)}")
    return [name for name in pack.optimizers if not config.optimizers or name in {*config.optimizers, BASELINE}]
