"""What `inversion benchmark optimizers` writes: optimizers.json, losses.csv, optimizers.md, figures and strips.

Suffixes: N picture, T iteration from 0.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inversion_core.benchmark.facts import machine_facts
from inversion_core.benchmark.optimizers.comparison import FROM_SHARE, RESAMPLES
from inversion_core.benchmark.optimizers.config import OptimizersConfig
from inversion_core.benchmark.optimizers.contenders import Contender
from inversion_core.benchmark.optimizers.figures import draw_figures
from inversion_core.benchmark.optimizers.page import Page, page
from inversion_core.benchmark.optimizers.rows import equal_seconds, make_rows
from inversion_core.benchmark.optimizers.runs import Run
from inversion_core.benchmark.optimizers.strips import draw_strips
from inversion_core.benchmark.optimizers.targets import Targets
from inversion_core.benchmark.optimizers.timing import PARTS, Cost
from inversion_core.benchmark.optimizers.tuned import CRITERION, Tuned
from inversion_core.packs import Pack

LOSSES_HEAD = ("optimizer", "tuned", "photo", "iteration", "seconds", "loss", "loss_now")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that was measured."""

    pack: Pack
    start: str
    config: OptimizersConfig
    targets: Targets
    tuned: Mapping[str, Tuned]
    runs: Sequence[Run]
    costs: Mapping[str, Cost]


def write_report(out: Path, measured: Measured) -> str:
    """Write everything into `out`; returns the text of optimizers.md."""
    out.mkdir(parents=True, exist_ok=True)
    rows = make_rows(measured.runs, measured.costs, seed=measured.config.seed)
    equal = equal_seconds(measured.runs, measured.costs)
    facts = machine_facts(str(measured.pack.device))
    data = _header(measured) | {
        "rows": [asdict(row) for row in rows], "equal_seconds": equal, "settings": _settings(measured), "facts": facts,
    }  # fmt: skip
    text = json.dumps(_plain(data), indent=2, allow_nan=False)
    (out / "optimizers.json").write_text(text + "\n", encoding="utf-8")
    _write_losses(out / "losses.csv", measured)
    figures = draw_figures(measured.runs, measured.costs, out, _title(measured))
    strips = draw_strips(measured.runs, measured.targets.picture_NCHW, out)
    shown = page(Page(title=_title(measured), header=data, rows=rows, equal=equal, runs=measured.runs,
                      costs=measured.costs, figures=[*figures, *strips], facts=facts))  # fmt: skip
    (out / "optimizers.md").write_text(shown, encoding="utf-8")
    return shown


def _header(measured: Measured) -> dict[str, Any]:
    config, pack = measured.config, measured.pack
    return {
        "pack": pack.name, "version": pack.version, "start": measured.start, "photos": len(measured.targets.names),
        "skipped": list(measured.targets.skipped), "steps": config.steps, "seed": config.seed, "batch": config.batch,
        "timing": f"median of {config.rounds} rounds for each of {PARTS} parts of a run, one picture, all in turns",
        "bootstrap": f"{RESAMPLES} resamples of the photographs, percentiles",
        "equal_seconds_from": FROM_SHARE,
        "tuning": {"criterion": CRITERION, "pairs": None if config.tuned else config.pairs,
                   "given": None if config.tuned is None else config.tuned.name},
    }  # fmt: skip


def _settings(measured: Measured) -> list[dict[str, Any]]:
    return [_setting(run.contender, measured) for run in measured.runs]


def _setting(each: Contender, measured: Measured) -> dict[str, Any]:
    settled = measured.tuned[each.name].settled if each.name in measured.tuned else None
    return {
        "optimizer": each.name, "tuned": each.tuned,
        "settings": dict(measured.pack.optimizers[each.name] if each.settings is None else each.settings),
        "settled": settled if each.tuned else None, "cost": _cost(measured.costs[each.name]),
    }  # fmt: skip


def _cost(cost: Cost) -> dict[str, Any]:
    return {
        "start_s": cost.start_s, "iteration_s": cost.iteration_s, "relative": cost.relative,
        "relative_quartiles": list(cost.relative_quartiles),
    }  # fmt: skip


def _title(measured: Measured) -> str:
    count = len(measured.targets.names)
    pictures = "picture" if count == 1 else "pictures"
    return f"{measured.pack.name} {measured.pack.version}, start {measured.start}, {count} {pictures}"


def _write_losses(file: Path, measured: Measured) -> None:
    """Every loss: the lowest so far, which is what counts, and that of the iteration's own code."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(LOSSES_HEAD)
        for run in measured.runs:
            each, best_NT = run.contender, run.best_NT
            seconds_T = measured.costs[each.name].seconds_T[:-1]
            for name, best_T, current_T in zip(measured.targets.names, best_NT, run.current_NT, strict=True):
                writer.writerows(
                    [each.name, each.tuned, name, index, f"{seconds:.5g}", f"{best:.6g}", f"{current:.6g}"]
                    for index, (seconds, best, current) in enumerate(zip(seconds_T, best_T, current_T, strict=True))
                )


def _plain(value: Any) -> Any:
    """For JSON, which has no infinite numbers and no NaN: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
