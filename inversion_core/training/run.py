"""A run's folder: checkpoint (safetensors and JSON, nothing pickled), CSV log, sample pictures."""

from __future__ import annotations

import csv
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

CHECKPOINT = "checkpoint.safetensors"


class RunFolder:
    """Where one training run keeps what it needs to go on, and what a person looks at."""

    def __init__(self, path: Path):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

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
            RuntimeError: a known module has other keys or shapes: the run was started with another architecture.
        """
        tensors, facts = read_checkpoint(self.path / CHECKPOINT)
        if facts is None:
            return None
        for name, module in modules.items():
            if own := tensors_below(tensors, f"{name}/"):
                module.load_state_dict(own)
        for name, optimizer in optimizers.items():
            own = tensors_below(tensors, f"optimizer:{name}/")
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in own.items():
                index, field = key.split("/")
                state.setdefault(int(index), {})[field] = value
            if state:
                optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return facts

    def log(self, row: dict[str, float | int | str]) -> None:
        """Append a row to log.csv; the first row names the columns, and a row with others starts a new header line."""
        row = {"time": time.strftime("%Y-%m-%d %H:%M:%S"), **row}
        file = self.path / "log.csv"
        with file.open("a", newline="") as out:
            writer = csv.DictWriter(out, list(row))
            if out.tell() == 0 or row.get("header"):
                writer.writeheader()
            writer.writerow(row)


def read_checkpoint(file: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """All tensors and the facts of a checkpoint; nothing and None where there is none."""
    if not file.exists():
        return {}, None
    with safe_open(file, "pt") as content:
        tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118 (not a dict)
        return tensors, json.loads(content.metadata()["facts"])


def tensors_below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose key starts with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
