"""Seconds per iteration of the engine and of `invert`, beside the same loop as others write it; and of many at once.

All run in one process, in turns, on the same picture and start; the engine in the arithmetic that it would choose, the
others in float32 as torch does it. Before a timing counts, their losses over the first steps are compared: the same
mathematics, or no benchmark.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from inversion_core.benchmark.clock import now
from inversion_core.benchmark.engine_loop import MANY_STEPS, EngineLoop, own_pictures
from inversion_core.benchmark.facts import facts_list, machine_facts
from inversion_core.benchmark.packs import RANDOM_256, pack_named
from inversion_core.benchmark.reference import ReferenceLoop
from inversion_core.benchmark.throughput import Crowd, crowd_table, measure_crowds, sizes_for
from inversion_core.engine.precision import ALLOWED, Precision, Trial, arithmetic, choose_precision
from inversion_core.inverter import InvertConfig, Step, invert
from inversion_core.loss import REGULARISER_WEIGHT
from inversion_core.packs import DEFAULT_PACK, Pack

SAME_START = 1e-4
"""Largest relative difference of the two loops' losses before the first update."""
SAME_LOSS = 1e-2
"""The same after it: Adam's first update is the gradient's sign, which rounding decides where there is hardly one."""
COMPARED_STEPS = 3
PACKS = (DEFAULT_PACK, "faces-64")
"""Packs that are timed where nobody names one."""
PLAIN, REGULARISED = "equation 1", "equation 1 and in-domain regulariser"
"""Losses that are timed."""


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """What is timed, and how often."""

    iterations: int = 5
    """Iterations of one timing."""
    repeats: int = 5
    """Timings of each loop, in turns; the median counts."""
    device: str = "cpu"
    with_256: bool = True
    """Time a 256 px pack of random weights in IDInvert's architecture too."""
    precision: Precision | None = None
    """Arithmetic of the engine; None: what it would choose."""
    concurrent: tuple[int, ...] | None = None
    """Numbers of images at once; None: 1, 2, 4, 8 on a CPU and 1, 8, 32, 64, 128 on CUDA; empty: leave it out."""

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.repeats < 1:
            raise ValueError(
                f"iterations and repeats are {self.iterations} and {self.repeats}; both must be at least 1"
            )
        if any(count < 1 for count in self.concurrent or ()):
            raise ValueError(f"concurrent is {self.concurrent}; each number must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    pack: str
    loss: str
    ours_s: float
    """Seconds per iteration of the engine with one image, median over the repeats."""
    invert_s: float
    """The same of `invert`."""
    plain_s: float
    """The same of the plain loop with frozen weights."""
    reference_s: float
    """The same of the loop as the public reference writes it."""
    loss_difference: float
    """Largest relative difference of the losses over the compared steps."""
    final_losses: Mapping[str, float]
    """Loss of each loop after the same number of steps, the last that was timed."""

    @property
    def times_as_fast(self) -> float:
        return self.reference_s / self.ours_s

    @property
    def of_plain(self) -> float:
        """The engine's time as a part of the plain loop's."""
        return self.ours_s / self.plain_s


def measure_speed(out: Path, config: SpeedConfig | None = None, *, packs: Sequence[str] = PACKS) -> str:
    """Time the packs, names or folders, and write speed.json and speed.md into `out`; returns the text of speed.md.

    Raises:
        PackNotFound, PackInvalid: as `load_pack`.
        RuntimeError: the two loops do not compute the same losses.
    """
    config = config or SpeedConfig()
    loaded = {name: pack_named(name, config.device) for name in (*packs, *([RANDOM_256] if config.with_256 else []))}
    tried = {each.name: _precision(each, config) for each in loaded.values()}
    rows = [row for each in loaded.values() for row in time_pack(each, replace(config, precision=tried[each.name][0]))]
    sizes = sizes_for(config.device) if config.concurrent is None else config.concurrent
    crowds = [
        crowd
        for name, each in loaded.items()
        for crowd in measure_crowds(each, sizes, config.iterations, tried[each.name][0], name=name)
    ]
    facts = _facts(config)
    out.mkdir(parents=True, exist_ok=True)
    table = _table(rows, crowds, _said(tried), facts)
    data = {
        "facts": facts,
        "rows": [
            dataclasses.asdict(row) | {"times_as_fast": row.times_as_fast, "of_plain": row.of_plain} for row in rows
        ],
        "precision": {
            name: {"chosen": chosen, "tried": [dataclasses.asdict(trial) for trial in trials]}
            for name, (chosen, trials) in tried.items()
        },
        "of_reference_defaults": _of_defaults(rows),
        "concurrent": [dataclasses.asdict(crowd) for crowd in crowds],
    }
    (out / "speed.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    (out / "speed.md").write_text(table, encoding="utf-8")
    return table


def _precision(pack: Pack, config: SpeedConfig) -> tuple[Precision, list[Trial]]:
    return choose_precision(pack) if config.precision is None else (config.precision, [])


def time_pack(pack: Pack, config: SpeedConfig) -> Iterator[Row]:
    """The rows of one pack: equation 1, and with the in-domain regulariser where there is an encoder."""
    yield time_loops(pack, config, regulariser_weight=0.0)
    if pack.has_encoder:
        yield time_loops(pack, config, regulariser_weight=REGULARISER_WEIGHT)


def time_loops(pack: Pack, config: SpeedConfig, *, regulariser_weight: float) -> Row:
    """Time all loops in turns on one of the pack's own pictures."""
    precision = config.precision or Precision.FLOAT32
    loops = _loops(pack, own_pictures(pack, 1), regulariser_weight, precision)
    with arithmetic(Precision.FLOAT32, pack.device):  # the engine's own holds within its step
        difference = _compare(loops, SAME_START if precision is Precision.FLOAT32 else ALLOWED)
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(config.repeats):
        for name, step in loops.items():
            times[name].append(_seconds(step, config))
    return Row(
        pack=f"{pack.name} ({pack.resolution} px)",
        loss=REGULARISED if regulariser_weight else PLAIN,
        **{f"{name}_s": statistics.median(each) for name, each in times.items()},
        loss_difference=difference,
        final_losses={name: step() for name, step in loops.items()},
    )


def _loops(
    pack: Pack, target_1CHW: Tensor, regulariser_weight: float, precision: Precision
) -> dict[str, Callable[[], float]]:
    """Name -> one iteration, which returns the loss before its update."""
    rate = _learning_rate(pack)
    inverting = _our_loop(pack, target_1CHW, regulariser_weight)
    engine = EngineLoop(pack, target_1CHW, _our_config(pack, regulariser_weight), precision=precision)
    others = {
        name: ReferenceLoop(
            pack, target_1CHW, pack.mean_codes(), learning_rate=rate, regulariser_weight=regulariser_weight,
            is_frozen=name == "plain",
        )
        for name in ("plain", "reference")
    }  # fmt: skip
    return {
        "ours": lambda: engine.step()[0],
        "invert": lambda: float(next(inverting).loss_B),
        **{name: loop.step for name, loop in others.items()},
    }


def _our_loop(pack: Pack, target_BCHW: Tensor, regulariser_weight: float) -> Iterator[Step]:
    return invert(pack, target_BCHW, _our_config(pack, regulariser_weight))


def _our_config(pack: Pack, regulariser_weight: float) -> InvertConfig:
    return InvertConfig(
        num_steps=MANY_STEPS,
        detail_steps=0,
        optimizer="adam",
        start="mean",
        learning_rate=_learning_rate(pack),
        regulariser_weight=regulariser_weight,
        focus=0.0,
    )


def _learning_rate(pack: Pack) -> float:
    return float(pack.settings("adam", "mean").get("learning_rate", 0.01))


def _compare(loops: Mapping[str, Callable[[], float]], same_start: float = SAME_START) -> float:
    """Run the first steps of all, which also warms them up; the reference is what the others are compared with."""
    steps = [{name: step() for name, step in loops.items()} for _ in range(COMPARED_STEPS)]
    differences = [
        max(abs(loss - losses["reference"]) / abs(losses["reference"]) for loss in losses.values()) for losses in steps
    ]
    if not (differences[0] <= same_start and max(differences) <= SAME_LOSS):
        raise RuntimeError(f"the loops do not compute the same: losses {steps}")
    return max(differences)


def _seconds(step: Callable[[], object], config: SpeedConfig) -> float:
    """Seconds per iteration of one timing."""
    device = torch.device(config.device)
    started_s = now(device)
    for _ in range(config.iterations):
        step()
    return (now(device) - started_s) / config.iterations


# -- the report ----------------------------------------------------------------------------------------------


def _facts(config: SpeedConfig) -> dict[str, str]:
    timing = f"median of {config.repeats} timings of {config.iterations} iterations, all loops in turns"
    return {**machine_facts(config.device), "timing": timing}


def _of_defaults(rows: list[Row]) -> dict[str, float]:
    """Pack -> the engine's default iteration as a part of the reference's default one, which has the regulariser."""
    ours = {row.pack: row.ours_s for row in rows if row.loss == PLAIN}
    return {row.pack: ours[row.pack] / row.reference_s for row in rows if row.loss == REGULARISED}


def _said(tried: Mapping[str, tuple[Precision, list[Trial]]]) -> str:
    """A sentence for each pack."""
    return "".join(
        f"The engine computes {name} in {chosen}"
        + "".join(f"; {trial.precision} was tried: {trial.verdict}" for trial in trials)
        + ".\n\n"
        for name, (chosen, trials) in tried.items()
    )


def _table(rows: list[Row], crowds: list[Crowd], precisions: str, facts: dict[str, str]) -> str:
    head = (
        "| pack | loss | engine, s per iteration | `invert` | plain frozen loop | as the public reference writes it "
        "| times as fast as that | part of the plain loop |\n|---|---|---|---|---|---|---|---|\n"
    )
    lines = [
        f"| {row.pack} | {row.loss} | {row.ours_s:.4f} | {row.invert_s:.4f} | {row.plain_s:.4f} "
        f"| {row.reference_s:.4f} | {row.times_as_fast:.2f} | {row.of_plain:.2f} |"
        for row in rows
    ]
    worst = max(row.loss_difference for row in rows)
    defaults = "".join(
        f"With default settings the engine takes {100 * part:.0f} % of the public reference's time on {pack}: as in "
        "the paper it has no regulariser, and the reference has one.\n\n"
        for pack, part in _of_defaults(rows).items()
    )
    return (
        "# Speed of one iteration\n\nHow long does a step take, beside the same step in plain PyTorch? One picture: "
        "forward, backward to the code, one update of Adam. The engine is what the service runs, and `invert` the "
        "library's loop. The plain loop has frozen weights and computes the target's features once; the public "
        f"reference does neither. All compute the same: their losses agree within {worst:.1e} over the first "
        f"{COMPARED_STEPS} steps.\n\n"
        + head + "\n".join(lines) + "\n\n" + defaults + precisions + crowd_table(crowds) + f"{facts_list(facts)}\n"
    )  # fmt: skip
