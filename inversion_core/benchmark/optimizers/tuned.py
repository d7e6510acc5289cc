"""tuned.json: what was tried with the classic optimizers and what was best. Written after each trial.

A run that was interrupted goes on from its trials, and another run may be given the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inversion_core.errors import OptionInvalid
from inversion_core.packs import Pack

CRITERION = "median over the validation pairs of the lowest loss of the run"
FILE = "tuned.json"


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The best settings of one optimizer."""

    constant: dict[str, Any]
    """With a constant rate."""
    scheduled: dict[str, Any]
    """With any course of the rate that was tried; a constant one where that was the best."""
    settled: bool = True
    """Whether all neighbours of the best were tried; False where the search was cut short."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the best settings depend on."""

    pack: str
    version: str
    networks: dict[str, str]
    """File -> SHA-256, of the networks that shape the loss."""
    perceptual_weight: float
    start: str
    steps: int
    pairs: int
    """Validation pairs."""

    @classmethod
    def of(cls, pack: Pack, *, start: str, steps: int, pairs: int) -> Setup:
        wanted = [file for network, file in pack.manifest.weight_files.items() if network != "detail_predictor"]
        networks = {file: pack.manifest.files[file] for file in wanted if file in pack.manifest.files}
        return cls(
            pack=pack.name, version=pack.version, networks=networks, perceptual_weight=pack.perceptual_weight,
            start=start, steps=steps, pairs=pairs,
        )  # fmt: skip


class TunedFile:
    """The trials and results of one setup, in memory and on disk."""

    def __init__(self, file: Path, setup: Setup) -> None:
        """Reads the file where there is one.

        Raises:
            OptionInvalid: it is of another setup, or no such file at all.
        """
        self.file, self.setup = file, setup
        self.results: dict[str, dict[str, Any]] = {}
        """Optimizer -> constant, scheduled and settled, as `Tuned`."""
        self.trials: dict[str, dict[str, float]] = {}
        """Optimizer -> settings as JSON -> loss."""
        if file.exists():
            self._read()

    def tuned(self, name: str) -> Tuned | None:
        """What was found for an optimizer; None where the search has not come to its end."""
        return Tuned(**self.results[name]) if name in self.results else None

    def save(self) -> None:
        """Whole or not at all: an interrupted run keeps the file of the trial before."""
        content = {"setup": vars(self.setup), "criterion": CRITERION, "results": self.results, "trials": self.trials}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        new.replace(self.file)

    def _read(self) -> None:
        content = read(self.file)
        for key, value in vars(self.setup).items():
            if content["setup"].get(key) != value:
                raise OptionInvalid(
                    f"{self.file} was made with {key} {content['setup'].get(key)}, and this run has {value}; choose "
                    f"another folder for --out, or delete the file"
                )
        self.results, self.trials = content["results"], content["trials"]


def read(file: Path) -> dict[str, Any]:
    """The content of a tuned.json.

    Raises:
        OptionInvalid: it is none.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        for result in content["results"].values():
            Tuned(**result)
        assert isinstance(content["setup"], dict)
        assert isinstance(content["trials"], dict)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise OptionInvalid(f"{file} is no {FILE} of `inversion benchmark optimizers`: {error!r}") from error
    found: dict[str, Any] = content
    return found


def given(file: Path, setup: Setup, names: list[str]) -> Mapping[str, Tuned]:
    """The results of a file that was handed in, whatever number of pairs it was made with.

    Raises:
        OptionInvalid: it is of another pack, start or number of steps, or lacks an optimizer.
    """
    content = read(file)
    for key in ("pack", "networks", "perceptual_weight", "start", "steps"):
        if content["setup"].get(key) != getattr(setup, key):
            raise OptionInvalid(
                f"{file} was made with {key} {content['setup'].get(key)}, and this run has {getattr(setup, key)}; "
                f"leave --tuned out to tune anew"
            )
    if missing := [name for name in names if name not in content["results"]]:
        raise OptionInvalid(f"{file} has nothing about {', '.join(missing)}; leave --tuned out to tune anew")
    return {name: Tuned(**content["results"][name]) for name in names}
