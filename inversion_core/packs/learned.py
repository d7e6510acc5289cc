"""Learned optimizers of a pack: what pack.json says of each, its files, and which one a start code takes.

In pack.json "optimizers" has, under a design's name, settings for each start that the weights were trained for:

    "learned": {"encoder": {"hidden": 128, "learning_rate": 0.01}, "random": {...}}

Weights of "any" were trained for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from inversion_core.optimizers.designs import DESIGNS
from inversion_core.packs.by_start import ANY_START, TRAINED_STARTS, pick_start

if TYPE_CHECKING:
    from inversion_core.packs.manifest import PackManifest
    from inversion_core.packs.reader import Reader


class Variant(NamedTuple):
    """One set of weights."""

    optimizer: str
    """Name of the design."""
    start: str
    """One of TRAINED_STARTS, or ANY_START."""

    @property
    def file(self) -> str:
        """Path inside the pack."""
        return f"{self.optimizer}-{self.start}.safetensors"

    def __str__(self) -> str:
        return f"{self.optimizer}-{self.start}"


def variants(optimizers: Mapping[str, Mapping[str, Any]]) -> dict[Variant, Mapping[str, Any]]:
    """Every set of weights that "optimizers" of a pack.json speaks of, and its settings."""
    return {
        Variant(name, start): settings
        for name, of_start in optimizers.items()
        if name in DESIGNS
        for start, settings in of_start.items()
    }


def pick_variant(optimizers: Mapping[str, Mapping[str, Any]], name: str, start: str) -> Variant:
    """The weights for a start: of the encoder and of a code handed in, those for the encoder; else those for random.

    Those for any start come next, and where a pack has one set alone, that one serves every start.
    """
    return Variant(name, pick_start(optimizers[name], start))


def read_variants(reader: Reader, name: str) -> dict[str, dict[str, Any]]:
    """Start -> settings, of the object under a design's name.

    Raises:
        PackInvalid: a start or a setting is missing, unknown or wrong.
    """
    starts = reader.every_key()
    known = (*TRAINED_STARTS, ANY_START)
    for start in starts:
        if start not in known:
            raise reader.fault(start, f"is no start; weights are for one of {', '.join(known)}")
    if not starts:
        raise reader.fault(known[0], f"is missing, and so are all others of {', '.join(known)}")
    return {start: _read_settings(reader.section(start), name) for start in starts}


def _read_settings(reader: Reader, name: str) -> dict[str, Any]:
    take: dict[str, Callable[[str], Any]] = {
        "int": reader.width, "float": reader.number, "bool": reader.boolean, "str": reader.text,
    }  # fmt: skip
    settings = {key: take[kind](key) for key, kind in reader.expected(DESIGNS[name].setting_types).items()}
    reader.end()
    try:
        DESIGNS[name].config(**settings, num_layers=1, w_dim=1)
    except ValueError as error:
        key = next((key for key in settings if key in str(error)), "")
        raise reader.fault(key, f"is {settings.get(key)}, which it cannot be: {error}") from error
    return settings


def build_learned(manifest: PackManifest, variant: Variant) -> nn.Module:
    """The network of a variant, with weights yet to be filled in."""
    settings = manifest.learned[variant]
    return DESIGNS[variant.optimizer].build(settings, num_layers=manifest.num_layers, w_dim=manifest.w_dim)


def check_learned(manifest: PackManifest, networks: Mapping[Variant, nn.Module]) -> None:
    """ValueError where networks and manifest disagree about which variants there are."""
    if set(networks) != set(manifest.learned):
        expected, given = (sorted(map(str, each)) for each in (manifest.learned, networks))
        raise ValueError(f"the manifest has the learned optimizers {expected}, and networks are given for {given}")
