"""The curves, as the paper's figures 3 and 4 have them: loss against iteration and against seconds.

matplotlib is imported where a figure is drawn, and nothing else needs it.
Suffixes: N picture, T iteration from 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from inversion_core.benchmark.optimizers.config import BASELINE
from inversion_core.benchmark.optimizers.contenders import Contender, table
from inversion_core.benchmark.optimizers.runs import Run
from inversion_core.benchmark.optimizers.timing import Cost
from inversion_core.errors import OptionInvalid

COLOURS = {
    "sgd": "#8c8c8c", "nag": "#b08f5a", "adagrad": "#7fb069", "rmsprop": "#5ab4ac", "adam": "#1f6fb4",
    "lbfgs": "#8e6bbf",
}  # fmt: skip
"""Of the classic optimizers: one stays the same in every figure."""
LEARNED_COLOURS = ("#e8890c", "#c2378f", "#d9b310", "#7a1f1f", "#3a3a3a", "#d1352b", "#0f7b6c", "#5b2a86")
"""Of the learned ones, in the pack's order; they go on from the first."""
SIZE_INCHES = (9.4, 5.0)
DPI = 130
MARGINS = {"left": 0.115, "right": 0.83, "bottom": 0.1, "top": 0.93}
TABLES = {False: "paper", True: "tuned"}
"""Whether it is the tuned table -> how its files are named."""


def check_matplotlib() -> None:
    """OptionInvalid where it is not installed; called before hours of work."""
    if find_spec("matplotlib") is None:
        raise OptionInvalid(
            "the figures need matplotlib, which is not installed: pip install 'stylegan-inversion[benchmark]'"
        )


def draw_figures(runs: Sequence[Run], costs: Mapping[str, Cost], out: Path, title: str) -> list[str]:
    """Write loss-by-iteration and loss-by-seconds for both tables into `out`; returns the files' names."""
    names = []
    for tuned, suffix in TABLES.items():
        shown = table([run.contender for run in runs], tuned=tuned)
        chosen = [run for run in runs if run.contender in shown]
        if tuned:  # the paper's baseline, to be compared between the figures
            chosen += [run for run in runs if run.contender.label == BASELINE]
        for against in ("iteration", "seconds"):
            name = f"loss-by-{against}-{suffix}.png"
            _draw(chosen, costs if against == "seconds" else None, out / name, f"{title}, {_caption(tuned)}")
            names.append(name)
    return names


def _caption(tuned: bool) -> str:
    return "classic optimizers tuned with schedule" if tuned else "Adam 0.01, the others at their best constant rate"


def _draw(runs: Sequence[Run], costs: Mapping[str, Cost] | None, file: Path, title: str) -> None:
    """Median and quartile band of the best loss so far; against iterations where no costs are given."""
    from matplotlib.figure import Figure  # draws to files, without the windows and global state of pyplot

    figure = Figure(figsize=SIZE_INCHES, dpi=DPI)
    figure.subplots_adjust(**MARGINS)  # fixed: a layout that is worked out draws everything twice
    axes = figure.add_subplot()
    learned = [run.contender.name for run in runs if not run.contender.is_classic]
    for run in runs:
        each, best_NT = run.contender, run.best_NT
        x_T = np.arange(best_NT.shape[1], dtype=float)
        if costs is not None:
            x_T = costs[each.name].seconds_T[:-1]
        low_T, median_T, high_T = np.percentile(best_NT, [25, 50, 75], axis=0)
        colour = _colour(each, learned)
        (line,) = axes.plot(x_T, median_T, color=colour, label=each.label)
        line.set_linewidth(1.4 if each.is_classic else 2.4)
        dashed = each.label == BASELINE and any(run.contender.tuned for run in runs)
        line.set_linestyle("--" if dashed else "-")
        axes.fill_between(x_T, low_T, high_T, color=colour, alpha=0.08, linewidth=0)
    steps = runs[0].best_NT.shape[1] - 1
    axes.set_xlim(0, steps if costs is None else float(costs[BASELINE].seconds_T[steps]))
    axes.set_yscale("log")
    axes.set_xlabel("iteration" if costs is None else f"seconds, one picture alone (to {BASELINE}'s iteration {steps})")
    axes.set_ylabel("lowest loss so far (equation 1): median, quartiles")
    axes.set_title(title, fontsize=10)
    axes.grid(visible=True, which="both", alpha=0.25, linewidth=0.5)
    lines = sorted(axes.get_lines(), key=lambda line: -np.asarray(line.get_ydata())[-1])  # as the curves end
    axes.legend(handles=lines, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.savefig(file)


def _colour(contender: Contender, learned: Sequence[str]) -> str:
    if contender.name in COLOURS:
        return COLOURS[contender.name]
    return LEARNED_COLOURS[learned.index(contender.name) % len(LEARNED_COLOURS)]
