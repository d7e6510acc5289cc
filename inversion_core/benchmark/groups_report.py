"""What `inversion benchmark groups` writes: groups.json and groups.md."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from inversion_core.benchmark.facts import facts_list, machine_facts
from inversion_core.benchmark.grouping import Group, rank_correlation, thirds
from inversion_core.benchmark.quality_report import DIGITS, cell, spread
from inversion_core.packs import Pack

Values = dict[str, dict[str, list[float]]]
"""Method -> measure -> the value of each picture."""
SHOWN = ("mse", "lpips")
"""Measures in groups.md; groups.json has all."""


def write_report(out: Path, pack: Pack, columns: dict[str, list[float]], values: Values, *, held_out: int) -> str:
    """Group the pictures by each column and write both files into `out`; returns the text of groups.md.

    Args:
        columns: what to group by -> the rating of each picture.
        values: the measures of the same pictures.
        held_out: the number that the split was made with.
    """
    groups = [group for by, column in columns.items() for group in thirds(by, column)]
    rho = {by: _each(values, partial(rank_correlation, column)) for by, column in columns.items()}
    facts = machine_facts(str(pack.device))
    count = len(next(iter(columns.values())))
    data: dict[str, Any] = {
        "pack": pack.name, "version": pack.version, "pictures": count, "held_out": held_out, "facts": facts,
        "all": _each(values, spread), "groups": [_as_dict(group, values) for group in groups],
        "rank_correlation": rho,
    }  # fmt: skip
    text = (
        f"# {pack.name} {pack.version} by group\n\nAre some people reconstructed less well than others? {count} "
        "held-out pictures, split into thirds by rating; pose is by how many degrees a face is turned to the side. "
        "Mean (standard deviation over the pictures), pixels in [-1, 1]; lower is better."
        f"\n\n{_group_table(groups, values)}\n\n"
        "Rank correlation (Spearman) of rating and measure. Above 0, pictures with a high rating come out worse. A "
        f"single value within ±{_chance(count):.2f} may be chance (95 %); of many values, one in twenty lies outside "
        f"by chance.\n\n{_rho_table(rho)}\n\n"
        f"{facts_list(facts)}\n"
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "groups.json").write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    (out / "groups.md").write_text(text, encoding="utf-8")
    return text


def _each(values: Values, function: Callable[[Sequence[float]], Any]) -> dict[str, dict[str, Any]]:
    """The function of each method's each measure."""
    return {
        method: {name: function(measured) for name, measured in measures.items()} for method, measures in values.items()
    }


def _of(group: Group, values: Values) -> Values:
    return _each(values, lambda measured: [measured[i] for i in group.members])


def _as_dict(group: Group, values: Values) -> dict[str, Any]:
    return {
        "by": group.by, "third": group.third, "pictures": len(group.members),
        "lowest": group.lowest, "highest": group.highest, "methods": _each(_of(group, values), spread),
    }  # fmt: skip


def _chance(count: int) -> float:
    """Two standard deviations of Spearman's rho where there is no connection."""
    return 1.96 / math.sqrt(max(count - 1, 1))


def _shown(values: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Method and measure of each column of a table."""
    return [(method, name) for method, measures in values.items() for name in SHOWN if name in measures]


def _group_table(groups: Sequence[Group], values: Values) -> str:
    shown = _shown(values)
    lines = [
        "| by | third | rating | pictures | " + " | ".join(f"{method} {name}" for method, name in shown) + " |",
        "|---" * (len(shown) + 4) + "|",
    ]
    for group in groups:
        spreads = _each(_of(group, values), spread)
        cells = [cell(spreads[method][name], DIGITS[name]) for method, name in shown]
        rating = f"{group.lowest:.0f} to {group.highest:.0f}"
        lines.append(f"| {group.by} | {group.third} | {rating} | {len(group.members)} | " + " | ".join(cells) + " |")
    everybody = _each(values, spread)
    cells = [cell(everybody[method][name], DIGITS[name]) for method, name in shown]
    count = everybody[shown[0][0]][shown[0][1]]["n"]
    return "\n".join([*lines, f"| all | | | {count} | " + " | ".join(cells) + " |"])


def _rho_table(rho: dict[str, dict[str, dict[str, float | None]]]) -> str:
    shown = _shown(next(iter(rho.values())))
    lines = [
        "| rating | " + " | ".join(f"{method} {name}" for method, name in shown) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for by, each in rho.items():
        lines.append(f"| {by} | " + " | ".join(_signed(each[method][name]) for method, name in shown) + " |")
    return "\n".join(lines)


def _signed(rho: float | None) -> str:
    return "-" if rho is None else f"{rho:+.2f}"
