"""The benchmark from photographs to report; see docs/benchmarks/README.md for what its figures mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from inversion_core.benchmark.optimizers.config import OptimizersConfig, names_of, start_of
from inversion_core.benchmark.optimizers.contenders import contenders
from inversion_core.benchmark.optimizers.figures import check_matplotlib
from inversion_core.benchmark.optimizers.report import Measured, write_report
from inversion_core.benchmark.optimizers.runs import run_all
from inversion_core.benchmark.optimizers.targets import load_targets
from inversion_core.benchmark.optimizers.timing import measure_costs
from inversion_core.benchmark.optimizers.tuned import FILE, Setup, Tuned, TunedFile, given
from inversion_core.benchmark.optimizers.tuning import tune
from inversion_core.inverter import InvertConfig
from inversion_core.optimizers import CLASSIC
from inversion_core.packs import Pack, load_pack


def measure_optimizers(
    pack_name: str | Path | None, photos: Sequence[Path], out: Path, config: OptimizersConfig | None = None
) -> str:
    """Compare the pack's optimizers and write everything into `out`; returns the text of optimizers.md.

    Raises:
        PackNotFound, PackInvalid: as `load_pack`.
        OptionInvalid: the pack cannot do it, matplotlib is missing, an archive or a tuned.json does not fit.
        NoFaceFound, PictureInvalid: none of the photographs can be used.
    """
    config = config or OptimizersConfig()
    check_matplotlib()
    pack = load_pack(pack_name, device=config.device)
    start, names = start_of(pack, config), names_of(pack, config)
    targets = load_targets(photos, pack, config)  # what is wrong ends here, before hours of tuning
    tuned = _tuned(pack, start, names, out, config)
    everybody = contenders(names, tuned)
    invert_config = InvertConfig(num_steps=config.steps, detail_steps=0, start=start, seed=config.seed, focus=0.0)
    runs = run_all(
        pack, targets.picture_NCHW, everybody, invert_config, batch=config.batch, strips=config.strips
    )  # fmt: skip
    costs = measure_costs(pack, targets.picture_NCHW[:1], everybody, invert_config, rounds=config.rounds)
    measured = Measured(pack=pack, start=start, config=config, targets=targets, tuned=tuned, runs=runs, costs=costs)
    return write_report(out, measured)


def _tuned(pack: Pack, start: str, names: Sequence[str], out: Path, config: OptimizersConfig) -> Mapping[str, Tuned]:
    """The classic optimizers' best settings: those handed in, or found now, on from where an earlier run stopped."""
    classic = [name for name in names if name in CLASSIC]
    setup = Setup.of(pack, start=start, steps=config.steps, pairs=config.pairs)
    if config.tuned is not None:
        return given(config.tuned, setup, classic)
    return tune(pack, classic, TunedFile(out / FILE, setup), batch=config.batch)
