"""optimizers.md: the tables, and what is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inversion_core.benchmark.facts import facts_list
from inversion_core.benchmark.optimizers.rows import Row
from inversion_core.benchmark.optimizers.runs import Run
from inversion_core.benchmark.optimizers.timing import Cost

MEANING = """How many iterations and seconds does each optimizer save until it matches a baseline? A run is scored by
the lowest loss so far (equation 1), the one that the service keeps.

- fewer iterations: for each picture, the first iteration whose loss is at or below the baseline's at iteration {steps},
  as percent saved of {steps}. Mean over the pictures, with the 95 % bootstrap interval.
- there: the share of pictures that match the baseline. One that does not counts as {never} iterations, a saving just
  below 0.
- fewer seconds: the same in time, with the start. What an iteration costs is measured with one picture at a time, all
  optimizers in turns, as the median over rounds.
- lower at equal seconds: the share of the time in which the median loss is below the baseline's, from 5 % of the
  baseline's whole time on."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """What is shown."""

    title: str
    header: Mapping[str, Any]
    rows: Sequence[Row]
    equal: Sequence[Mapping[str, Any]]
    runs: Sequence[Run]
    costs: Mapping[str, Cost]
    figures: Sequence[str]
    facts: dict[str, str]


def page(content: Page) -> str:
    """The text of optimizers.md."""
    steps = content.header["steps"]
    parts = [f"# Optimizers: {content.title}", MEANING.format(steps=steps, never=steps + 1)]
    for against, tuned in dict.fromkeys((row.against, row.tuned) for row in content.rows):
        rows = [(row, equal) for row, equal in zip(content.rows, content.equal, strict=True)
                if (row.against, row.tuned) == (against, tuned)]  # fmt: skip
        loss = rows[0][0].baseline_loss
        parts += [f"## Against {_kind(against, tuned)} at {steps} (median {loss:.5f})", _table(rows)]
    parts += ["## Settings and cost", _settings(content)]
    parts += [f"![{name}]({name})" for name in content.figures]
    return "\n\n".join([*parts, facts_list(content.facts)]) + "\n"


def _kind(name: str, tuned: bool) -> str:
    if tuned:
        return f"{name} tuned with schedule"
    return f"{name} 0.01" if name == "adam" else f"{name} at its best constant rate"


def _table(rows: Sequence[tuple[Row, Mapping[str, Any]]]) -> str:
    lines = [
        "| optimizer | fewer iterations, % | fewer seconds, % | there, % | final loss, median (mean) | lower at equal "
        "seconds, % |",
        "|---" * 6 + "|",
    ]
    for row, equal in rows:
        name = f"{row.optimizer} tuned" if row.optimizer_tuned else row.optimizer
        iterations = f"{row.fewer_iterations:.1f} ({row.ci95[0]:.1f} to {row.ci95[1]:.1f})"
        seconds = f"{row.fewer_seconds:.1f} ({row.fewer_seconds_ci95[0]:.1f} to {row.fewer_seconds_ci95[1]:.1f})"
        lines.append(
            f"| {name} | {iterations} | {seconds} | {100 * row.reached_share:.0f} | {row.final_loss:.5f} "
            f"({row.final_loss_mean:.5f}) | {100 * equal['lower_share']:.1f} |"
        )
    return "\n".join(lines)


def _settings(content: Page) -> str:
    lines = ["| optimizer | settings | ms an iteration | times the baseline's (quartiles) | final loss, median |",
             "|---" * 5 + "|"]  # fmt: skip
    for run, known in zip(content.runs, content.header["settings"], strict=True):
        cost = content.costs[run.contender.name]
        low, high = cost.relative_quartiles
        cut = ", cut short" if known["settled"] is False else ""
        lines.append(
            f"| {run.contender.label} | {_spelt(known['settings'])}{cut} | {1000 * cost.iteration_s:.1f} | "
            f"{cost.relative:.2f} ({low:.2f} to {high:.2f}) | {np.median(run.best_NT[:, -1]):.5f} |"
        )
    return "\n".join(lines)


def _spelt(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {_spelt(value) if isinstance(value, Mapping) else value}" for key, value in settings.items()
    )
