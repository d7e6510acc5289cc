"""The Dockerfile, read far enough to lint it and to run a stage's commands without Docker."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction with its continuation lines joined."""

    word: str
    """FROM, RUN, COPY, ENV, ..."""
    rest: str

    @property
    def words(self) -> list[str]:
        """The arguments: of the JSON form, or as a shell splits them."""
        return json.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)


def read_instructions(text: str) -> list[Instruction]:
    """All instructions in their order, without comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\s*\n\s*", " ", "\n".join(lines))
    pairs = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [Instruction(word=word.upper(), rest=rest.strip()) for word, rest in pairs]


def read_stages(text: str) -> dict[str, list[Instruction]]:
    """Instructions of each stage by its name; a stage that builds on another begins with that one's."""
    stages: dict[str, list[Instruction]] = {}
    for instruction in read_instructions(text):
        if instruction.word == "FROM":
            parent, _, name = instruction.words
            stages[name] = current = list(stages.get(parent, []))
        current.append(instruction)
    return stages


def stages() -> dict[str, list[Instruction]]:
    """The stages of the project's Dockerfile."""
    return read_stages((ROOT / "Dockerfile").read_text())
