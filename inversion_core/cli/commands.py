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
    "edit": Command("edit the face in a photo, or a code", "editing:fill"),
    "mix": Command("mix two faces", "editing:fill_mix"),
    "interpolate": Command("a film from one face, or edit list, to another", "interpolate:fill"),
    "diffuse": Command("put a face into the context of another photo", "diffuse:fill"),
    "directions": Group(
        "find, fit, import and show editing directions",
        {
            "show": Command("list directions, and draw what they do", "edit_directions:fill_show"),
            "sefa": Command(
                "compute directions from a generator's weights, without labels", "edit_directions:fill_sefa"
            ),
            "ganspace": Command(
                "compute directions from a generator's codes, without labels", "edit_directions:fill_ganspace"
            ),
            "from": Command(
                "fit a direction to codes of faces with an attribute and without", "edit_directions:fill_from"
            ),
            "import": Command("read direction files of other projects", "edit_directions:fill_import"),
            "add": Command("write directions of files into a pack", "edit_directions:fill_add"),
        },
    ),
    "submit": Command("send photos to a running service", None),
    "pack": Command("list, install, verify, convert and change packs", "pack:fill"),
    "train": Group(
        "train generators, encoders and optimizers, and turn them into packs",
        {
            "data": Command("pack folders of aligned face images into one archive", "train:fill_data"),
            "generator": Command(
                "train a generator with its encoder and discriminator; resumes an earlier run",
                "train_networks:fill_generator",
            ),
            "encoder": Command(
                "train an encoder for a pack's generator; resumes an earlier run",
                "train_networks:fill_encoder",
            ),
            "features": Command(
                "train a perceptual network for a pack; resumes an earlier run",
                "train_features:fill",
            ),
            "detail": Command(
                "train a network that begins detail, for a pack; resumes an earlier run",
                "train_detail:fill",
            ),
            "export": Command("turn a generator run into a pack", "train:fill_export"),
            "directions": Command("find editing directions for a pack from ratings of images", "directions:fill"),
            "sliders": Command("give directions units and ranges that hold on inverted pictures", "train_sliders:fill"),
            "judge": Command("fit a judge of faces to ratings of images", "train_judge:fill"),
            "optimizer": Command(
                "train a learned optimizer for a pack; resumes an earlier run",
                "train_optimizer:fill",
            ),
        },
    ),
    "benchmark": Group(
        "run benchmarks and write their tables",
        {
            "speed": Command(
                "seconds per iteration and images per second, compared with a reference-style loop",
                "benchmark:fill_speed",
            ),
            "quality": Command("how well a pack reconstructs photographs", "benchmark:fill_quality"),
            "edits": Command("what a pack's directions do to inverted photographs", "benchmark_edits:fill"),
            "groups": Command(
                "reconstruction quality by group of people, by ratings of held-out images",
                "benchmark:fill_groups",
            ),
            "faces": Command(
                "how robust face detection is: photographs turned and darkened, pictures without a face",
                "benchmark_faces:fill",
            ),
            "samples": Command(
                "KID and FID of random samples, and a sheet of 64",
                "benchmark_samples:fill",
            ),
            "optimizers": Command(
                "iterations and seconds that each optimizer needs to match Adam and SGD",
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
