"""A run's folder: checkpoint (safetensors and JSON, nothing pickled), CSV log, sample pictures."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from inversion_core.errors import OptionInvalid

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.csv"


class RunFolder:
    """Where one training run keeps what it needs to go on, and what a person looks at."""

    def __init__(self, path: Path):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._columns: list[str] = []  # of log.csv, once it was read or written

    @property
    def has_checkpoint(self) -> bool:
        return (self.path / CHECKPOINT).exists()

    def save(
        self,
        modules: dict[str, nn.Module],
        optimizers: dict[str, torch.optim.Optimizer],
        facts: dict[str, Any],
    ) -> None:
        """Write the checkpoint in one move, so that a kill at any time leaves the old one or the new one whole."""
        tensors = {
            f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()
        }
        for name, optimizer in optimizers.items():
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer:{name}/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
        partial = self.path / f"{CHECKPOINT}.part"
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
            partial,
            {"facts": json.dumps(facts)},
        )
        os.replace(partial, self.path / CHECKPOINT)

    def load(
        self, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]
    ) -> dict[str, Any] | None:
        """Restore all that `save` wrote; the facts, or None where there is no checkpoint yet.

        Modules and optimizers that the checkpoint does not know stay as they are (a later phase adds some).

        Raises:
            OptionInvalid: a known module has other keys or shapes: the run was begun with another architecture.
        """
        tensors, facts = read_checkpoint(self.path / CHECKPOINT)
        if facts is None:
            return None
        for name, module in modules.items():
            if own := tensors_below(tensors, f"{name}/"):
                self._put(module, own)
        for name, optimizer in optimizers.items():
            own = tensors_below(tensors, f"optimizer:{name}/")
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in own.items():
                index, field = key.split("/")
                state.setdefault(int(index), {})[field] = value
            if state:
                optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return facts

    def _put(self, module: nn.Module, own: Mapping[str, Tensor]) -> None:
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise OptionInvalid(
                f"{self.path} holds a run of another architecture ({first}). Give the options that it was begun with, "
                f"or another --out"
            ) from error

    def log(self, row: Mapping[str, float | int | str]) -> None:
        """Append a row to log.csv. At a start, and when columns come in, the file is written anew, in one move."""
        row = {"time": time.strftime("%Y-%m-%d %H:%M:%S"), **row}
        file = self.path / LOG
        if self._columns and set(row) <= set(self._columns):
            with file.open("a", newline="", encoding="utf-8") as out:
                csv.DictWriter(out, self._columns).writerow(row)
            return
        columns, rows = _read_log(file)
        self._columns = list(dict.fromkeys([*columns, *row]))
        _write_log(file, self._columns, [*rows, row])


def _read_log(file: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of a log. Values that stand to the right of the header get columns of their own."""
    if not file.exists():
        return [], []
    with file.open(newline="", encoding="utf-8") as lines:
        table = [line for line in csv.reader(lines) if line]
    if not table:
        return [], []
    header, *rows = table
    widest = max(map(len, table))
    columns = header + [f"unnamed_{index}" for index in range(len(header), widest)]
    return columns, [dict(zip(columns, row, strict=False)) for row in rows]


def _write_log(file: Path, columns: list[str], rows: Iterable[Mapping[str, Any]]) -> None:
    partial = file.with_name(f"{file.name}.part")
    with partial.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, file)


def read_checkpoint(file: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """All tensors and the facts of a checkpoint; nothing and None where there is none."""
    if not file.exists():
        return {}, None
    with safe_open(file, "pt") as content:
        tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118 (not a dict)
        return tensors, json.loads(content.metadata()["facts"])


def read_facts(file: Path) -> dict[str, Any] | None:
    """The facts of a checkpoint without its tensors; None where there is none."""
    if not file.exists():
        return None
    with safe_open(file, "pt") as content:
        facts: dict[str, Any] = json.loads(content.metadata()["facts"])
        return facts


def tensors_below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose key starts with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
