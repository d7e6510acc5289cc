"""Seconds per iteration of the inversion loop, beside the same loop as the public reference writes it.

Both run in one process, in turns, on the same picture and start, in float32. Before a timing counts, their
losses over the first steps are compared: the same mathematics, or no benchmark.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from inversion_core.benchmark.facts import facts_list, machine_facts
from inversion_core.benchmark.reference import ReferenceLoop
from inversion_core.inverter import InvertConfig, Step, invert
from inversion_core.loss import REGULARISER_WEIGHT
from inversion_core.models import Encoder, EncoderConfig, GeneratorConfig, StyleGANGenerator, VGG16Features
from inversion_core.models.perceptual import IMAGENET_MEAN_BGR
from inversion_core.packs import Pack, PackManifest, PerceptualSpec, load_pack

MANY_STEPS = 1_000_000
SAME_START = 1e-4
"""Largest relative difference of the two loops' losses before the first update."""
SAME_LOSS = 1e-2
"""The same after it: Adam's first update is the gradient's sign, which rounding decides where there is hardly one."""
COMPARED_STEPS = 3


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

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.repeats < 1:
            raise ValueError(
                f"iterations and repeats are {self.iterations} and {self.repeats}; both must be at least 1"
            )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    pack: str
    loss: str
    ours_s: float
    """Seconds per iteration, median over the repeats."""
    reference_s: float
    loss_difference: float
    """Largest relative difference of the losses over the compared steps."""

    @property
    def times_as_fast(self) -> float:
        return self.reference_s / self.ours_s


def measure_speed(out: Path, config: SpeedConfig | None = None, *, pack: str | Path | None = None) -> str:
    """Time the packs and write speed.json and speed.md into `out`; returns the text of speed.md.

    Raises:
        PackNotFound, PackInvalid: as `load_pack`.
        RuntimeError: the two loops do not compute the same losses.
    """
    config = config or SpeedConfig()
    packs = [load_pack(pack, device=config.device)] + ([random_pack_256(config.device)] if config.with_256 else [])
    rows = [row for each in packs for row in time_pack(each, config)]
    facts = _facts(config)
    out.mkdir(parents=True, exist_ok=True)
    table = _table(rows, facts)
    data = {"facts": facts, "rows": [dataclasses.asdict(row) | {"times_as_fast": row.times_as_fast} for row in rows]}
    (out / "speed.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    (out / "speed.md").write_text(table, encoding="utf-8")
    return table


def time_pack(pack: Pack, config: SpeedConfig) -> Iterator[Row]:
    """The rows of one pack: equation 1, and with the in-domain regulariser where there is an encoder."""
    yield time_loops(pack, config, regulariser_weight=0.0)
    if pack.has_encoder:
        yield time_loops(pack, config, regulariser_weight=REGULARISER_WEIGHT)


def time_loops(pack: Pack, config: SpeedConfig, *, regulariser_weight: float) -> Row:
    """Time both loops in turns on one of the pack's own pictures."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        target_BCHW = pack.synthesize(pack.map(torch.randn(1, pack.z_dim, generator=generator)))
    ours = _our_loop(pack, target_BCHW, regulariser_weight)
    reference = ReferenceLoop(
        pack, target_BCHW, pack.mean_codes(), learning_rate=_learning_rate(pack), regulariser_weight=regulariser_weight
    )
    difference = _compare(lambda: float(next(ours).loss_B), reference.step)
    times: dict[str, list[float]] = {"ours": [], "reference": []}
    for _ in range(config.repeats):
        times["ours"].append(_seconds(lambda: next(ours), config))
        times["reference"].append(_seconds(reference.step, config))
    return Row(
        pack=f"{pack.name} ({pack.resolution} px)",
        loss="equation 1" if not regulariser_weight else "equation 1 and in-domain regulariser",
        ours_s=statistics.median(times["ours"]),
        reference_s=statistics.median(times["reference"]),
        loss_difference=difference,
    )


def random_pack_256(device: str = "cpu") -> Pack:
    """IDInvert's architecture at 256 px with random weights: what an iteration costs does not hang on their values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = StyleGANGenerator(GeneratorConfig(w_per_layer=True, final_tanh=True))
        nn.init.normal_(generator.synthesis.get_parameter("layers.0.const"))  # of a flat one AdaIN leaves only rounding
        encoder, vgg = Encoder(EncoderConfig()), VGG16Features()
    spec = PerceptualSpec(kind="vgg16", layer="relu4_3", args={"mean_bgr": list(IMAGENET_MEAN_BGR)})
    manifest = PackManifest(
        name="random-256", version="0", generator=generator.config, encoder=encoder.config, perceptual=spec
    )
    return Pack(manifest, generator=generator, perceptual=vgg, encoder=encoder, device=device)


def _our_loop(pack: Pack, target_BCHW: Tensor, regulariser_weight: float) -> Iterator[Step]:
    config = InvertConfig(
        num_steps=MANY_STEPS,
        optimizer="adam",
        start="mean",
        learning_rate=_learning_rate(pack),
        regulariser_weight=regulariser_weight,
    )
    return invert(pack, target_BCHW, config)


def _learning_rate(pack: Pack) -> float:
    return float(pack.optimizers.get("adam", {}).get("learning_rate", 0.01))


def _compare(ours: Callable[[], float], reference: Callable[[], float]) -> float:
    """Run the first steps of both, which also warms them up."""
    pairs = [(ours(), reference()) for _ in range(COMPARED_STEPS)]
    differences = [abs(a - b) / abs(b) for a, b in pairs]
    if not (differences[0] <= SAME_START and max(differences) <= SAME_LOSS):
        raise RuntimeError(f"the two loops do not compute the same: losses {pairs}")
    return max(differences)


def _seconds(step: Callable[[], object], config: SpeedConfig) -> float:
    """Seconds per iteration of one timing."""
    _synchronize(config.device)
    started = time.perf_counter()
    for _ in range(config.iterations):
        step()
    _synchronize(config.device)
    return (time.perf_counter() - started) / config.iterations


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


# -- the report ----------------------------------------------------------------------------------------------


def _facts(config: SpeedConfig) -> dict[str, str]:
    timing = f"median of {config.repeats} timings of {config.iterations} iterations, both loops in turns"
    return {**machine_facts(config.device), "timing": timing}


def _table(rows: list[Row], facts: dict[str, str]) -> str:
    head = "| pack | loss | ours, s per iteration | as the public reference writes it | times as fast |\n"
    head += "|---|---|---|---|---|\n"
    lines = [
        f"| {row.pack} | {row.loss} | {row.ours_s:.4f} | {row.reference_s:.4f} | {row.times_as_fast:.2f} |"
        for row in rows
    ]
    worst = max(row.loss_difference for row in rows)
    notes = facts_list(facts)
    return (
        "# Speed of one iteration\n\nOne picture, float32, forward, backward to the code, Adam. The "
        "losses of both loops agree within "
        f"{worst:.1e} over the first {COMPARED_STEPS} steps.\n\n{head}" + "\n".join(lines) + f"\n\n{notes}\n"
    )
