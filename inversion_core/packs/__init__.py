"""Packs: folders with a pack.json and safetensors files, found, checked, loaded, written and converted."""

from inversion_core.packs.directions import Direction, DirectionSpec
from inversion_core.packs.load import DEFAULT_PACK, find_pack, list_packs, load_pack, verify_pack
from inversion_core.packs.manifest import PackManifest, PerceptualSpec, read_manifest
from inversion_core.packs.pack import Pack
from inversion_core.packs.save import put_directions, save_pack

__all__ = [
    "DEFAULT_PACK",
    "Direction",
    "DirectionSpec",
    "Pack",
    "PackManifest",
    "PerceptualSpec",
    "find_pack",
    "list_packs",
    "load_pack",
    "put_directions",
    "read_manifest",
    "save_pack",
    "verify_pack",
]
