"""Every command of `inversion`, and where its arguments are: a further one is a file and an entry here.

A command's module is imported when the command is chosen, so `inversion --help` needs no PyTorch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

Fill = Callable[[argparse.ArgumentParser], None]


@dataclass(frozen=True)
class Command:
    """A command and the function that adds its arguments and sets its `run`."""

    help: str
    fill: str | None
    """"module:function" of this package; the function takes the parser. None: another program reads the arguments."""


@dataclass(frozen=True)
class Group:
    """Commands under one name."""

    help: str
    kinds: Mapping[str, Command]


COMMANDS: Mapping[str, Command | Group] = {
    "invert": Command("invert photos of faces into W+ codes", "invert:fill"),
    "submit": Command("send photos to a running service", None),
    "pack": Command("list, check, convert and change packs", "pack:fill"),
    "train": Group(
        "train generators and encoders, and make packs of them",
        {
            "data": Command("pack folders of aligned face pictures into one archive", "train:fill_data"),
            "generator": Command(
                "train a generator with its encoder and discriminator; goes on where it stopped",
                "train_networks:fill_generator",
            ),
            "encoder": Command(
                "train an encoder for a pack's generator; goes on where it stopped",
                "train_networks:fill_encoder",
            ),
            "features": Command(
                "train a perceptual network for a pack; goes on where it stopped",
                "train_features:fill",
            ),
            "export": Command("make a pack of a generator run", "train:fill_export"),
            "directions": Command("find semantic directions of a pack, from ratings of pictures", "directions:fill"),
            "optimizer": Command(
                "train a learned optimizer for a pack; goes on where it stopped",
                "train_optimizer:fill",
            ),
        },
    ),
    "benchmark": Group(
        "measure, and write tables for docs/benchmarks",
        {
            "speed": Command(
                "seconds per iteration and images per second, beside the same loop as others write it",
                "benchmark:fill_speed",
            ),
            "quality": Command("how well a pack reconstructs photographs", "benchmark:fill_quality"),
            "groups": Command(
                "whom a pack reconstructs less well: held-out pictures by people's ratings of them",
                "benchmark:fill_groups",
            ),
            "faces": Command(
                "how robust face detection is: photographs turned and darkened, pictures without a face",
                "benchmark_faces:fill",
            ),
            "samples": Command(
                "KID and FID of random faces against real ones, and a sheet of 64",
                "benchmark_samples:fill",
            ),
            "optimizers": Command(
                "iterations and seconds that each optimizer needs to reach what Adam and SGD reach",
                "benchmark_optimizers:fill",
            ),
        },
    ),
}


class LazyParser(argparse.ArgumentParser):
    """Its arguments are added when it is first used."""

    def __init__(
        self, *args: Any, fill: Callable[[argparse.ArgumentParser], None] | None = None, **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self._fill = fill

    def parse_known_args(  # type: ignore[override]  # the stubs' overloads say no more than this
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As argparse has it, with the arguments added before."""
        if self._fill is not None:
            fill, self._fill = self._fill, None
            fill(self)
        return super().parse_known_args(args, namespace)


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Register every command; their own arguments wait until they are asked for."""
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=LazyParser)
    for name, command in COMMANDS.items():
        _add(commands, name, command)


def _add(commands: Any, name: str, command: Command | Group) -> None:
    if isinstance(command, Command):
        commands.add_parser(name, help=command.help, fill=command.fill and _filler(command.fill))
        return
    kinds = commands.add_parser(name, help=command.help).add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, each in command.kinds.items():
        _add(kinds, kind, each)


def _filler(place: str) -> Fill:
    module, _, function = place.partition(":")

    def fill(parser: argparse.ArgumentParser) -> None:
        getattr(import_module(f"{__package__}.{module}"), function)(parser)

    return fill
