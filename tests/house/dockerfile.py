"""The Dockerfile, read far enough to lint it and to run a stage's commands without Docker."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
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

    @property
    def from_stage(self) -> str | None:
        """Of a COPY: the stage that it takes files from; None takes them from the build context."""
        option = self.words[0]
        return option.removeprefix("--from=") if self.word == "COPY" and option.startswith("--from=") else None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What stands between one FROM and the next."""

    name: str
    parent: str
    """The stage that it builds on, or an image from elsewhere."""
    own: list[Instruction] = field(default_factory=list)
    """Its instructions, without FROM."""


def read_instructions(text: str) -> list[Instruction]:
    """All instructions in their order, without comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\s*\n\s*", " ", "\n".join(lines))
    pairs = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [Instruction(word=word.upper(), rest=rest.strip()) for word, rest in pairs]


def read_stages(text: str) -> dict[str, Stage]:
    """The stages by their names, in their order."""
    stages: dict[str, Stage] = {}
    for instruction in read_instructions(text):
        if instruction.word == "FROM":
            parent, _, name = instruction.words
            stages[name] = Stage(name=name, parent=parent)
        else:
            stages[name].own.append(instruction)
    return stages


def stages() -> dict[str, Stage]:
    """The stages of the project's Dockerfile."""
    return read_stages((ROOT / "Dockerfile").read_text())


def line_of(name: str) -> list[Stage]:
    """A stage and what it builds on, the first one first: what these do is in its image."""
    stage = stages().get(name)
    return [*line_of(stage.parent), stage] if stage else []


def made_by(target: str) -> list[Stage]:
    """All stages that a target needs, each after those that it needs itself."""
    found: dict[str, Stage] = {}

    def visit(name: str) -> None:
        stage = stages().get(name)
        if stage is None or name in found:
            return
        for needed in (stage.parent, *(each.from_stage or "" for each in stage.own)):
            visit(needed)
        found[name] = stage

    visit(target)
    return list(found.values())
