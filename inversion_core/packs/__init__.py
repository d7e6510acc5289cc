"""Packs: folders with a pack.json and safetensors files, found, checked, loaded, written and converted."""

from inversion_core.packs.copying import copy_pack
from inversion_core.packs.detail import DetailSpec
from inversion_core.packs.directions import Direction, DirectionSpec
from inversion_core.packs.learned import Variant
from inversion_core.packs.load import (
    DEFAULT_PACK,
    find_pack,
    list_packs,
    load_networks,
    load_pack,
    read_manifest,
    verify_pack,
)
from inversion_core.packs.manifest import PackManifest, PerceptualSpec
from inversion_core.packs.pack import Pack
from inversion_core.packs.save import (
    change_pack,
    make_extension,
    put_detail,
    put_directions,
    put_encoder,
    put_learned,
    put_perceptual,
    save_pack,
)

__all__ = [
    "DEFAULT_PACK",
    "DetailSpec",
    "Direction",
    "DirectionSpec",
    "Pack",
    "PackManifest",
    "PerceptualSpec",
    "Variant",
    "change_pack",
    "copy_pack",
    "find_pack",
    "list_packs",
    "load_networks",
    "load_pack",
    "make_extension",
    "put_detail",
    "put_directions",
    "put_encoder",
    "put_learned",
    "put_perceptual",
    "read_manifest",
    "save_pack",
    "verify_pack",
]
