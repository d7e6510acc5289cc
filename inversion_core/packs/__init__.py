"""Packs: folders with a pack.json and safetensors files, found, checked, loaded, written and converted."""

from inversion_core.packs.load import DEFAULT_PACK, find_pack, list_packs, load_pack, verify_pack
from inversion_core.packs.manifest import PackManifest, PerceptualSpec, read_manifest
from inversion_core.packs.pack import Pack
from inversion_core.packs.save import save_pack

__all__ = [
    "DEFAULT_PACK",
    "Pack",
    "PackManifest",
    "PerceptualSpec",
    "find_pack",
    "list_packs",
    "load_pack",
    "read_manifest",
    "save_pack",
    "verify_pack",
]
